"""Errors about a checkpoint that cannot be used."""

from pathlib import Path

from trencadis.errors import ModelError

MAX_SHOWN = 100


def refusal(
    path: Path,
    fault: str,
    *,
    expected: str = "a whole checkpoint",
    remedy: str = "get the file from its publisher again",
) -> ModelError:
    """Return the error for a file: `path fault; expected …; remedy`."""
    return ModelError(f"{path} {fault}", expected=expected, remedy=remedy)


def shown(text: str) -> str:
    """Return text from a file so that a terminal can show it: cut short, without control characters."""
    cut = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
