"""The kinds of argument that commands take, each with its range, for `type=` of `add_argument`.

    parser.add_argument("--top-p", type=real(0, 1, low_open=True, example=0.95), help="...")

An invalid value is refused in one line, `--top-p 1.5; expected a number in (0, 1]; give one such as 0.95`. The help
shows the range and the default.
"""

import argparse
import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
Number = float | int
MODEL_HELP = "a shipped model, a model directory, or a hub id such as owner/name"


class UnfitValueError(argparse.ArgumentTypeError, ValueError):
    """A value is not of the argument's kind."""

    def __init__(self, value: str, kind: "Kind[Any]") -> None:
        self.value, self.kind = value, kind
        super().__init__(f"{value}; expected {kind.expected}; {kind.remedy}")


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

    def __init__(
        self, read: Callable[[str], Value], *, expected: str, remedy: str, metavar: str, limits: str = ""
    ) -> None:
        self.read: Callable[[str], Value] = read
        self.remedy, self.metavar, self.name = remedy, metavar, ""
        self.expected, self.limits = f"{expected} {limits}".strip(), limits.removeprefix("of ")

    def __call__(self, value: object) -> Value:
        try:
            return self.read(str(value))
        except ValueError as error:
            raise UnfitValueError(str(value), self) from error

    def named(self, name: str) -> "Kind[Value]":
        own = copy.copy(self)
        own.name = name
        return own


def integer(low: int, high: int | None = None, *, example: int | None = None) -> Kind[int]:
    """Return the kind of whole numbers from low to high, both included; None is no limit."""
    limits = f"of {low} or more" if high is None else f"in {low}..{high}"
    remedy = f"give one such as {low if example is None else example}"

    def read(text: str) -> int:
        number = int(text)
        if number < low or (high is not None and number > high):
            raise ValueError(text)
        return number

    return Kind(read, expected="a whole number", limits=limits, remedy=remedy, metavar="N")


def real(
    low: Number, high: Number | None = None, *, low_open: bool = False, example: Number | None = None
) -> Kind[float]:
    """Return the kind of finite numbers from low to high, both included unless `low_open`; None is no limit."""
    if high is None:
        limits = f"above {low:g}" if low_open else f"of {low:g} or more"
    else:
        limits = f"in {'(' if low_open else '['}{low:g}, {high:g}]"

    def read(text: str) -> float:
        number = float(text)
        is_above = number > low if low_open else number >= low
        if not is_above or not math.isfinite(number) or (high is not None and number > high):
            raise ValueError(text)
        return number

    middle = low + 1 if high is None else (low + high) / 2
    remedy = f"give one such as {middle if example is None else example:g}"
    return Kind(read, expected="a number", limits=limits, remedy=remedy, metavar="X")


def seed() -> Kind[int]:
    read, limits = integer(0, 2**63 - 1).read, "in 0..2^63-1"
    return Kind(read, expected="a whole number", limits=limits, remedy="give one such as 7", metavar="N")


def one_of(*choices: str) -> Kind[str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    expected = f"one of {', '.join(choices)}"
    return Kind(read, expected=expected, remedy="choose one of these", metavar="|".join(choices))


def path_that(is_right: Callable[[Path], bool], expected: str) -> Kind[Path]:
    """Return the kind of paths of which something is true; `~` stands for the home folder."""

    def read(text: str) -> Path:
        path = Path(text).expanduser()
        if not text or not is_right(path):
            raise ValueError(text)
        return path

    return Kind(read, expected=expected, remedy="check the path", metavar="PATH")


def existing_file() -> Kind[Path]:
    return path_that(Path.is_file, "a file that exists")


def existing_directory() -> Kind[Path]:
    return path_that(Path.is_dir, "a folder that exists")


def output_directory() -> Kind[Path]:
    return path_that(lambda path: path.is_dir() or not path.exists(), "a folder, there already or not")


def add_model(parser: argparse.ArgumentParser, *, default: str | None = "emoji", about: str = MODEL_HELP) -> None:
    """Add `--model` and `--revision`."""
    parser.add_argument("--model", type=str, default=default, help=about)
    parser.add_argument("--revision", type=str, help="branch, tag or commit of a model of the hub (default: main)")
