"""How far long work has come, on stderr: a bar with the time left on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol, TypeVar, runtime_checkable

from rich import progress as bars
from rich.console import Console

from trencadis.console import tell
from trencadis.spelling import number_text, printable

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30.0

# The bars on the screen: work inside other work adds its own bar to them.
_shown: ContextVar[bars.Progress | None] = ContextVar("shown", default=None)
_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@runtime_checkable
class Advance(Protocol):
    def __call__(self, count: int = 1, **fields: object) -> None:
        """Add `count` to what is done; the fields, such as `loss=2.31`, are shown beside it from now on."""


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and show how many have been taken; `total` is their number where they do not know it."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(description, total) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def progress(description: str, total: int | None = None, *, done: int = 0) -> Iterator[Advance]:
    """Show the progress of the work inside; yields the function to call as it goes on.

    Args:
        description: Such as "training the transformer".
        total: How much there is to do; None where that is not known.
        done: How much was done before, by a run that is resumed.
    """
    outer = _shown.get()
    if _hidden.get():
        yield _show_nothing
        return
    if outer is None and not (sys.stderr is not None and sys.stderr.isatty()):
        yield _Lines(description, total, done)
        return
    with nullcontext(outer) if outer is not None else _bars() as shown:
        task = shown.add_task(description, total=total, completed=done, shown="", counted=_counted(done, total))

        def advance(count: int = 1, **fields: object) -> None:
            nonlocal done
            done += count
            shown.update(task, advance=count, counted=_counted(done, total))
            if fields:
                shown.update(task, shown=printable(_joined(fields)))

        token = _shown.set(shown)
        try:
            yield advance
        finally:
            _shown.reset(token)
            if outer is not None:
                shown.remove_task(task)


def _show_nothing(count: int = 1, **fields: object) -> None:
    """An `Advance`."""


@contextmanager
def hidden() -> Iterator[None]:
    """Show no progress of the work inside, such as in a process beside the one that shows it."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def _bars() -> bars.Progress:
    return bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.TextColumn("{task.fields[counted]}", markup=False),
        bars.TimeRemainingColumn(elapsed_when_finished=True),
        bars.TextColumn("{task.fields[shown]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        # What a command prints for a pipe must not be drawn above the bars.
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


class _Lines:
    """Progress for a file or a pipe: a line every half minute, so that short work prints nothing."""

    def __init__(self, description: str, total: int | None, done: int) -> None:
        self.description, self.total, self.done, self.done_before = description, total, done, done
        self.fields: dict[str, object] = {}
        self.began_s = self.printed_s = time.monotonic()

    def __call__(self, count: int = 1, **fields: object) -> None:
        self.done += count
        self.fields |= fields
        now_s = time.monotonic()
        if now_s - self.printed_s >= SECONDS_BETWEEN_LINES:
            self.printed_s = now_s
            tell(self._line(now_s - self.began_s))

    def _line(self, elapsed_s: float) -> str:
        parts = [f"{self.description}: {_counted(self.done, self.total)}", f"{elapsed_s:,.0f} s"]
        newly_done = self.done - self.done_before
        if self.total and newly_done:
            parts.append(f"about {elapsed_s * max(0, self.total - self.done) / newly_done:,.0f} s left")
        return ", ".join([*parts, *([_joined(self.fields)] if self.fields else [])])


def _counted(done: int, total: int | None) -> str:
    return f"{done:,}/{total:,}" if total else f"{done:,}"


def _joined(fields: dict[str, object]) -> str:
    """Return what is shown beside a bar: names and values."""
    shown = {name: number_text(value) if isinstance(value, float | int) else value for name, value in fields.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
