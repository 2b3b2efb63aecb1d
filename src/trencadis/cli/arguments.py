"""The kinds of argument that commands take, each with its range, for `type=` of `add_argument`.

    parser.add_argument("--top-p", type=real(low=0, high=1, low_open=True, example=0.95), help="...")

An invalid value is refused in one line, `--top-p 1.5; expected a number in (0, 1]; give one such as 0.95`. The help
shows the range and the default.
"""

import argparse
import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")
Number = float | int


class UnfitValueError(argparse.ArgumentTypeError, ValueError):
    """A value is not of the argument's kind."""

    def __init__(self, value: str, *, expected: str, remedy: str, name: str) -> None:
        self.name, self.value, self.expected, self.remedy = name, value, expected, remedy
        super().__init__(f"{value}; expected {expected}; {remedy}")


class Kind(Generic[Value]):
    """One kind of argument. It accepts its own values too, because the parser checks them twice.

    Args:
        read: Parses a text; raises ValueError for an invalid one.
        expected: What is valid, such as "a number".
        limits: The range, to be read after `expected`, such as "in (0, 1]"; empty for none.
        remedy: What to do about an invalid value.
        metavar: The value's name in the help.

    Attributes:
        name: The argument's, for messages; `CommandParser` sets it.
    """

    name = ""

    def __init__(
        self, read: Callable[[str], Value], *, expected: str, remedy: str, metavar: str, limits: str = ""
    ) -> None:
        self.read: Callable[[str], Value] = read
        self.remedy, self.metavar = remedy, metavar
        self.expected = f"{expected} {limits}".strip()
        self.limits = limits.removeprefix("of ")

    def __call__(self, value: object) -> Value:
        """Parse a text, or return a value that was parsed before.

        Raises:
            UnfitValueError: It is not of this kind.
        """
        text = str(value)
        try:
            return self.read(text)
        except ValueError as error:
            raise UnfitValueError(text, expected=self.expected, remedy=self.remedy, name=self.name) from error

    def named(self, name: str) -> "Kind[Value]":
        """Return the same kind for the argument of a name."""
        own = copy.copy(self)
        own.name = name
        return own


def integer(low: int | None = None, high: int | None = None, *, example: int | None = None) -> Kind[int]:
    """Return the kind of whole numbers in low..high, both included; None is no limit."""

    def read(text: str) -> int:
        number = int(text)
        if (low is not None and number < low) or (high is not None and number > high):
            raise ValueError(text)
        return number

    limits = f"in {low}..{high}" if low is not None and high is not None else _one_limit(low, high)
    shown = next(number for number in (example, low, high, 1) if number is not None)
    return Kind(read, expected="a whole number", limits=limits, remedy=f"give one such as {shown}", metavar="N")


def real(
    low: Number | None = None,
    high: Number | None = None,
    *,
    low_open: bool = False,
    high_open: bool = False,
    example: Number | None = None,
) -> Kind[float]:
    """Return the kind of finite numbers from low to high; an open end is not included, None is no limit."""

    def read(text: str) -> float:
        number = float(text)
        below = low is not None and (number < low or (low_open and number == low))
        above = high is not None and (number > high or (high_open and number == high))
        if not math.isfinite(number) or below or above:
            raise ValueError(text)
        return number

    if low is not None and high is not None:
        limits = f"in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        middle = (low + high) / 2
    else:
        limits = _one_limit(low, high, is_open=low_open or high_open)
        middle = low + 1 if low is not None else high - 1 if high is not None else 1.0
    shown = middle if example is None else example
    return Kind(read, expected="a number", limits=limits, remedy=f"give one such as {shown:g}", metavar="X")


def seed() -> Kind[int]:
    """Return the kind of seeds."""
    numbers = integer(low=0, high=2**63 - 1)
    return Kind(
        numbers.read, expected="a whole number", limits="in 0..2^63-1", remedy="give one such as 7", metavar="N"
    )


def one_of(*choices: str) -> Kind[str]:
    """Return the kind of texts that are one of `choices`."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    listed = ", ".join(choices)
    return Kind(read, expected=f"one of {listed}", remedy="choose one of these", metavar="|".join(choices))


MODEL_HELP = "a shipped model, a model directory, or a hub id such as owner/name"


def add_model(parser: argparse.ArgumentParser, *, default: str | None = "emoji", about: str = MODEL_HELP) -> None:
    """Add `--model` and `--revision`."""
    parser.add_argument("--model", type=str, default=default, help=about)
    parser.add_argument("--revision", type=str, help="branch, tag or commit of a model of the hub (default: main)")


def existing_file() -> Kind[Path]:
    """Return the kind of paths at which there is a file."""
    return _path(Path.is_file, "a file that exists")


def existing_directory() -> Kind[Path]:
    """Return the kind of paths at which there is a folder."""
    return _path(Path.is_dir, "a folder that exists")


def output_directory() -> Kind[Path]:
    """Return the kind of paths at which there is a folder or nothing yet."""
    return _path(lambda path: path.is_dir() or not path.exists(), "a folder, there already or not")


def _path(is_right: Callable[[Path], bool], expected: str) -> Kind[Path]:
    def read(text: str) -> Path:
        path = Path(text).expanduser()
        if not text or not is_right(path):
            raise ValueError(text)
        return path

    return Kind(read, expected=expected, remedy="check the path", metavar="PATH")


def _one_limit(low: Number | None, high: Number | None, *, is_open: bool = False) -> str:
    """Return the words for a range with one end, such as "of 1 or more"; empty for no end."""
    if low is not None:
        return f"above {low:g}" if is_open else f"of {low:g} or more"
    if high is not None:
        return f"below {high:g}" if is_open else f"of {high:g} or less"
    return ""
