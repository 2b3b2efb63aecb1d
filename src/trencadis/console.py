"""All that is printed: any text, on any terminal, with nothing lost and nothing that the terminal obeys."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trencadis.spelling import json_text, printable


def say(*lines: str) -> None:
    """Print results on stdout, a line each."""
    for line in lines:
        print(printable(line), flush=True)


def say_json(value: Any, *, indent: int | None = None) -> None:
    """Print a result on stdout as JSON that its encoding can hold."""
    print(json_text(value, encoding=getattr(sys.stdout, "encoding", None) or "utf-8", indent=indent), flush=True)


def tell(line: str) -> None:
    """Print a line about the work, such as a fault or a progress, on stderr."""
    if sys.stderr is not None:
        print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def any_encoding() -> Iterator[None]:
    """Spell what the encoding of stdout lacks with backslashes, as Python does on stderr, in place of a fault."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)
