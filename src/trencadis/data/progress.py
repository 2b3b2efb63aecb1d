"""A progress bar on stderr."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def progress_over(items: Iterable[Item], total: int, description: str, *, shown: bool) -> Iterator[Item]:
    """Yield the items, under a bar with the time that is left where `shown`."""
    if not shown:
        yield from items
        return
    yield from track(items, description, total=total, console=Console(stderr=True), transient=True)
