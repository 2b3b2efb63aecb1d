"""How often each client may ask: a bucket of requests that fills again with time."""

import time
from collections.abc import Callable

from trencadis.serving.faults import ApiError

_MOST_CLIENTS = 10_000


class Rates:
    """Counts the requests of clients.

    Args:
        per_minute: Requests a minute that each client may make, and at once after a quiet minute; None is no limit.
        clock: Seconds.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}  # what is left, and when it was

    def count(self, client: str) -> None:
        """Count a request.

        Raises:
            ApiError: The client has asked too often.
        """
        if self._per_minute is None:
            return
        now, a_second = self._clock(), self._per_minute / 60
        left, then = self._buckets.pop(client, (float(self._per_minute), now))
        left = min(left + (now - then) * a_second, float(self._per_minute))
        is_allowed = left >= 1
        self._buckets[client] = (left - is_allowed, now)
        if len(self._buckets) > _MOST_CLIENTS:  # the one that has been quiet for longest, so likely full
            del self._buckets[next(iter(self._buckets))]
        if not is_allowed:
            message = f"More than {self._per_minute} requests a minute; try again later."
            raise ApiError(429, message, "rate_limit_exceeded", retry_after_s=(1 - left) / a_second)
