"""The kinds of argument that commands take, each with its range, for `type=` of `add_argument`.

    parser.add_argument("--top-p", type=real(0, 1, low_open=True, example=0.95), help="...")

An invalid value is refused in one line, `--top-p 1.5; expected a number in (0, 1]; give one such as 0.95`. The help
shows the range and the default.
"""

import argparse
import copy
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from trencadis.spelling import typed_number
from trencadis.storage import is_sheet, require_writable, user_path

Value = TypeVar("Value")
Number = float | int
MAX_SIDE = 4096  # of pictures that a model reads or draws, in pixels
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
        limits = f"above {typed_number(low)}" if low_open else f"of {typed_number(low)} or more"
    else:
        limits = f"in {'(' if low_open else '['}{typed_number(low)}, {typed_number(high)}]"

    def read(text: str) -> float:
        number = float(text)
        is_above = number > low if low_open else number >= low
        if not is_above or not math.isfinite(number) or (high is not None and number > high):
            raise ValueError(text)
        return number

    middle = low + 1 if high is None else (low + high) / 2
    remedy = f"give one such as {typed_number(middle if example is None else example)}"
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


def text() -> Kind[str]:
    """Return the kind of any text, such as a prompt; nothing in it stands for anything else."""
    return Kind(str, expected="a text", remedy="put quotes around it", metavar="")


def path_that(
    is_right: Callable[[Path], bool], expected: str, *, metavar: str = "PATH", remedy: str = "check the path"
) -> Kind[Path]:
    """Return the kind of paths of which something is true; see `storage.user_path`."""

    def read(text: str) -> Path:
        path = Path(user_path(text))
        try:
            if text and is_right(path):
                return path
        except OSError as error:
            raise ValueError(text) from error
        raise ValueError(text)

    return Kind(read, expected=expected, remedy=remedy, metavar=metavar)


def any_path() -> Kind[Path]:
    """Return the kind of paths that the command itself looks at."""
    return path_that(lambda path: True, "a path")


def existing_file() -> Kind[Path]:
    return path_that(Path.is_file, "a file that exists")


def existing_directory() -> Kind[Path]:
    return path_that(Path.is_dir, "a folder that exists")


def existing_path(expected: str) -> Kind[Path]:
    return path_that(Path.exists, expected)


def output_directory() -> Kind[Path]:
    """Return the kind of folders that can be written to; what cannot be is a `StorageError`, before any work."""
    return path_that(lambda path: _is_writable(path, Path.is_dir), "a folder, there already or not")


def output_file() -> Kind[Path]:
    """Return the kind of files that can be written, as `output_directory`."""
    return path_that(is_output_file, "a file, there already or not", metavar="FILE")


def is_output_file(path: Path) -> bool:
    """Return whether a path can be a file; raises `StorageError` where it cannot be written."""
    return _is_writable(path, lambda path: not path.is_dir())


def output_sheet(*, or_directory: bool = False) -> Kind[Path]:
    """Return the kind of files that a sheet can be written to, as `output_directory`; no other file is replaced."""
    expected = f"{'a folder, ' if or_directory else ''}a sheet of trencadis, or a file that is not there yet"

    def is_right(path: Path) -> bool:
        return (or_directory and path.is_dir()) or is_output_sheet(path)

    return path_that(is_right, expected, remedy="choose another name")


def is_output_sheet(path: Path) -> bool:
    """Return whether a path can be a sheet; raises `StorageError` where it cannot be written."""
    return _is_writable(path, lambda path: path.exists() and is_sheet(path))


def _is_writable(path: Path, is_right: Callable[[Path], bool]) -> bool:
    if os.path.lexists(path) and not is_right(path):
        return False
    if any(first.startswith("~") and not os.path.lexists(first) for first in path.parts[:1]):
        return False  # the home of somebody unknown
    require_writable(path)
    return True


def model_name() -> Kind[str]:
    """Return the kind of models: a name that ships, a path or a hub id."""
    return Kind(_given(user_path), expected="the name or path of a model", remedy="check the name", metavar="MODEL")


def adapter() -> Kind[tuple[str, float]]:
    """Return the kind of adapters: a folder or a hub id, and the strength that follows it after a colon; else 1."""

    def read(text: str) -> tuple[str, float]:
        name, colon, strength = text.rpartition(":")
        if not colon or Path(user_path(text)).exists():
            name, strength = text, "1"
        return model_name().read(name), real(-4, 4).read(strength)

    expected, remedy = "DIR[:STRENGTH] with a strength in [-4, 4]", "give one such as runs/mine/adapter:0.8"
    return Kind(read, expected=expected, remedy=remedy, metavar="DIR[:STRENGTH]")


def dataset() -> Kind[str]:
    """Return the kind of datasets, as `data.open_source` reads them: paths, globs or ranges, joined by `::`."""

    def read(text: str) -> str:
        return "::".join(map(user_path, text.split("::")))

    return Kind(_given(read), expected="a folder, a table or shards", remedy="check the path", metavar="PATH")


def _given(read: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        if not text.strip():
            raise ValueError(text)
        return read(text)

    return checked


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the settings of `Sampling` that a user chooses; those that are left out stay as the model has them."""
    add = parser.add_argument
    add("--guidance-scale", type=real(0, 100), help="how closely to follow the prompt; 1 is no guidance")
    about = "constant, or rising from 1 at the first token to the scale"
    add("--guidance-schedule", choices=["constant", "linear", "cosine"], help=about)
    add("--temperature", type=real(1e-6, 100, example=1), help="lower is safer, higher more varied")
    add("--top-k", type=integer(1, 2**31 - 1), help="draw among this many likeliest tokens only")
    add("--top-p", type=real(1e-6, 1, example=0.95), help="draw among tokens of this probability only")
    about = "jacobi draws the same pictures in fewer passes"
    add("--decoder", choices=["sequential", "jacobi"], help=about)
    about = "what orders candidates: CLIP, the likelihood that the caption adds, or both (default: as the model has it)"
    add("--ranking", choices=["clip", "likelihood", "both", "none"], help=about)


def add_model(parser: argparse.ArgumentParser, *, default: str | None = "emoji", about: str = MODEL_HELP) -> None:
    """Add `--model` and `--revision`."""
    parser.add_argument("--model", type=model_name(), default=default, help=about)
    parser.add_argument("--revision", type=text(), help="branch, tag or commit of a model of the hub (default: main)")


def add_adapters(parser: argparse.ArgumentParser) -> None:
    """Add `--adapter`, which can be given several times."""
    about = "an adapter of the model, or its hub id, and how strongly it acts (1 where not given); several add up"
    parser.add_argument("--adapter", action="append", type=adapter(), help=about)
