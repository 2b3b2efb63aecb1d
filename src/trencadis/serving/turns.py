"""Whose turn it is: clients in rotation, and the requests of each in the order in which they came."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Waiting(Protocol):
    """A request that takes turns: one at least for all of its candidates."""

    client: str
    admitted: int

    @property
    def candidates(self) -> int: ...


WaitingT = TypeVar("WaitingT", bound=Waiting)


class Turns(Generic[WaitingT]):
    """Requests that have candidates left to admit.

    A client with many requests does not delay one with a single request.
    """

    def __init__(self) -> None:
        self._by_client: dict[str, deque[WaitingT]] = {}  # in the order of their turns

    def __len__(self) -> int:
        return sum(map(len, self._by_client.values()))

    def add(self, job: WaitingT) -> None:
        self._by_client.setdefault(job.client, deque()).append(job)

    def next(self) -> WaitingT | None:
        """Return the job whose turn it is."""
        return next((jobs[0] for jobs in self._by_client.values()), None)

    def took(self, job: WaitingT) -> None:
        """Give the turn to the next client, and drop the job if all of its candidates are admitted."""
        jobs = self._by_client.pop(job.client)
        if job.admitted == job.candidates:
            jobs.remove(job)
        if jobs:
            self._by_client[job.client] = jobs

    def remove(self, job: WaitingT) -> None:
        """Drop a job, if it is here."""
        jobs = self._by_client.get(job.client)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._by_client[job.client]

    def in_order(self) -> Iterator[WaitingT]:
        """Yield the jobs in the order of their next turns, if each needs one turn only."""
        queues = [list(jobs) for jobs in self._by_client.values()]
        for round_ in range(max(map(len, queues), default=0)):
            yield from (queue[round_] for queue in queues if round_ < len(queue))
