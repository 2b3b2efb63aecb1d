"""What is said of a checkpoint that cannot be used."""

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
    """Return the error for a file, to be raised: `path fault; expected …; remedy`."""
    return ModelError(f"{path} {fault}", expected=expected, remedy=remedy)


def shown(text: str) -> str:
    """Return a text out of a file as a terminal may show it: cut short, and without characters that control it."""
    cut = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
