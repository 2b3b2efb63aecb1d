"""Too little memory, told from damage and from bugs, whoever raises it."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from trencadis.errors import FullMemoryError, TrencadisError

# Libraries written in C, C++ and Rust raise errors of other kinds and leave the reason in the text.
_WORDS = re.compile(
    r"out of memory|DefaultCPUAllocator|memory allocation|_ALLOC_FAILED|bad_alloc|"
    + re.escape(os.strerror(errno.ENOMEM)),
    re.IGNORECASE,
)
# libheif says so of what its own limits forbid.
_NO_WORDS = re.compile("security limit", re.IGNORECASE)
_ASKED_FOR = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?(bytes|[KMGT]i?B)", re.IGNORECASE)


@contextmanager
def in_memory(
    doing: str, *, remedy: str = "close other programs, or take a machine with more memory"
) -> Iterator[None]:
    """Turn too little memory into a `FullMemoryError` that says what was done and what to do about it.

    It counts too where it was taken for something else on its way, such as for damage of a file. Where an inner one of
    these caught it, the message says both: "reading a.png: decoding 9,000 × 9,000 pixels".

    Args:
        doing: Such as "drawing 32 candidates at once".
        remedy: As an imperative without a full stop.
    """
    try:
        yield
    except Exception as error:
        found = next((cause for cause in causes(error) if is_full_memory(cause)), None)
        if found is None:
            raise
        if isinstance(found, FullMemoryError):
            inner = f"{doing}: {found.doing}"
            raise FullMemoryError(inner, remedy=found.remedy, asked_for=found.asked_for) from error
        raise FullMemoryError(doing, remedy=remedy, asked_for=_asked_for(found)) from error


def is_full_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, TrencadisError):  # it speaks of paths and prompts, which may hold any words
        return False
    number = getattr(error, "errno", None)
    if number is not None:
        return bool(number == errno.ENOMEM)
    text = str(error)
    return _WORDS.search(text) is not None and _NO_WORDS.search(text) is None


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an exception and those that it was raised from or while handling; nothing for None."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _asked_for(error: BaseException) -> str | None:
    """Return how much memory there was no room for, where the error says so."""
    match = _ASKED_FOR.search(str(error))
    if match is None:
        return None
    return f"{float(match[1]) / 1e6:,.0f} MB" if match[2].lower() == "bytes" else f"{match[1]} {match[2]}"
