"""Work done ahead by threads, its results in order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_WORKERS = 8


def available_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Yield `work(item)` of each item in order, computed by threads.

    An exception of `work` is raised in its item's turn. Closing the iterator drops what has not begun and waits for
    what has, so no thread outlives it.

    `work` is called from several threads at once; `items` are drawn in the caller's.

    Args:
        workers: Threads; with 0 the caller's own does the work. None takes one for each core, at most 8.
        ahead: Most results that wait; twice the workers where None.
    """
    workers = min(available_cores(), _MAX_WORKERS) if workers is None else workers
    if workers == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    most = ahead or 2 * workers
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
