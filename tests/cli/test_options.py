"""What all options of all commands have in common, found by looking at the parsers."""

import argparse
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from trencadis.cli import COMMANDS, command_parser, main
from trencadis.cli.arguments import Kind
from trencadis.config import DataConfig, FilterConfig, RunConfig
from trencadis.config.base import PathNote, Range, notes
from trencadis.config.plain import from_plain, setting_names, to_plain
from trencadis.sampling import Sampling

# What is a text and no path: `~` in it stays.
TEXTS = {"prompt", "negative_prompt", "revision", "recipe", "name", "host", "allow_origin", "captions"}


# Settings of configs, which the configs read themselves.
SETTINGS = {field.name for config in (FilterConfig, DataConfig) for field in dataclasses.fields(config)}


def actions(command: str) -> list[argparse.Action]:
    """Return the arguments that take a value and are shown in the help."""
    every = command_parser(command)._actions
    return [action for action in every if action.nargs != 0 and action.help != argparse.SUPPRESS]


EVERY = [
    pytest.param(command, action, id=f"{command}-{action.dest}")
    for command in COMMANDS
    for action in actions(command)
    if isinstance(action.type, Kind)
]


def read(kind: Kind[Any], text: str) -> Any:
    try:
        return kind(text)
    except (ValueError, argparse.ArgumentTypeError):
        return None


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_of_a_kind(command: str) -> None:
    others = {action.dest for action in actions(command) if not isinstance(action.type, Kind)}
    assert others <= (SETTINGS if command == "data" else set())


@pytest.mark.parametrize(("command", "action"), EVERY)
def test_a_path_is_read_alike_in_every_option(
    command: str, action: argparse.Action, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("a: 1")
    kind = action.type
    assert isinstance(kind, Kind)
    accepted = [name for name in ("a folder", "a file", "new") if read(kind, str(tmp_path / name)) is not None]
    if action.dest in TEXTS:
        assert kind("~/new") == "~/new"
        assert kind("'new'") == "'new'"
        return
    if not accepted:
        assert kind.metavar in ("N", "X") or kind.expected.startswith("one of"), "a number or a choice"
    for name in accepted:
        expected = tmp_path / name
        for text in (f"~/{name}", f'"~/{name}"', f"'{expected}'", f'"{name}"', name, f"./{name}"):
            found = kind(text)
            path = found[0] if isinstance(found, tuple) else found  # an adapter has a strength too
            assert Path(path).absolute() == expected, text


def test_paths_of_settings_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    networks = {f"{stage}.losses.perceptual_network" for stage in ("image", "decoder")}
    paths = {"data.path", "image.pretrained", *networks}
    like_paths = re.compile(r"path|file|folder|dir|pretrained|network", re.IGNORECASE)
    names = {name for name in setting_names(RunConfig) if like_paths.search(name)}
    assert names - {"data.file_column", "data.class_folders"} == paths
    settings = {"data": {"path": "~/one::'~/two'"}, "image": {"pretrained": '"~/image"'}}
    read = to_plain(from_plain(RunConfig, settings))
    assert read["data"]["path"] == f"{tmp_path}/one::{tmp_path}/two"
    assert read["image"]["pretrained"] == f"{tmp_path}/image"
    assert from_plain(RunConfig, read) == from_plain(RunConfig, settings), "reading it again changes nothing"
    assert PathNote().read("owner/name") == "owner/name"


def ends(kind: Kind[Any]) -> tuple[float, float] | None:
    """Return the least and the greatest number that a kind says it takes; nothing where it is no number."""
    if found := re.fullmatch(r"in [\[(]?(\S+?)(?:, |\.\.)(\S+?)[\])]?", kind.limits):
        low, high = (float(text.replace("2^63-1", str(2**63 - 1))) for text in found.groups())
        return low, high
    if found := re.fullmatch(r"(?:of |above )?(\S+?)(?: or more)?", kind.limits):
        return float(found[1]), math.inf
    return None


NUMBERS = [case for case in EVERY if case.values[1].type.metavar in ("N", "X")]  # type: ignore[union-attr]


@pytest.mark.parametrize(("command", "action"), NUMBERS)
def test_a_number_beyond_its_range_is_refused(command: str, action: argparse.Action) -> None:
    kind = action.type
    assert isinstance(kind, Kind)
    limits = ends(kind)
    assert limits is not None, kind.limits
    low, high = limits
    wrong = [str(low - 1), "nan", "inf", "-inf", "1e999", "", "x", "0x10", "1,000"]
    if high != math.inf:
        wrong += [str(int(high) + 1), "1e300", "9" * 400]
    for text in wrong:
        assert read(kind, text) is None, text


DRAWN = [case for case in NUMBERS if case.values[0] == "generate"]


@pytest.mark.parametrize(("command", "action"), DRAWN)
def test_both_ends_of_a_range_are_drawn_or_refused(
    command: str,
    action: argparse.Action,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind = action.type
    assert isinstance(kind, Kind)
    limits = ends(kind)
    assert limits is not None
    numbers = (0.000001, 1e-30) if kind.metavar == "X" else (10**9, 10**30)
    # No thousand pictures: without a caption, as many as are kept are drawn.
    prompt = "" if action.dest == "candidates" else "a ring"
    base = ["generate", prompt, "--model", str(tiny_model), "--out", str(tmp_path / "out"), "--json"]
    for number in {*limits, *numbers} - {math.inf}:
        if action.dest == "keep" and number > 1:
            continue
        value = str(2**63 - 1) if number == 2**63 else f"{number:.0f}" if number >= 1 else f"{number:g}"
        given = {"--candidates": "1", "--keep": "1", "--seed": "1", action.option_strings[-1]: value}
        code = main([*base, *(part for pair in given.items() for part in pair)])
        printed = capsys.readouterr()
        assert code in (0, 2), (value, printed.err)
        if code == 2:
            assert (printed.out, printed.err.count("\n")) == ("", 1)
        else:
            (picture,) = json.loads(printed.out)["pictures"]
            shown = picture.get(action.dest, value)
            assert shown == type(shown)(value)


def test_the_command_line_takes_what_the_model_takes() -> None:
    kinds = {action.dest: action.type for action in actions("generate")}
    ranges = {name: limits for name, limits in notes(Sampling, Range).items() if name in kinds}
    assert ranges.keys() == {"temperature", "top_k", "top_p", "guidance_scale"}
    for name, limits in ranges.items():
        kind = kinds[name]
        assert isinstance(kind, Kind)
        assert ends(kind) == tuple(limits)


def test_the_least_temperature_and_top_p_take_the_likeliest_token(tiny_model: Path, tmp_path: Path) -> None:
    from trencadis.data import read_picture

    drawn = []
    for number, options in enumerate((["--temperature", "1e-6"], ["--top-p", "1e-6"], ["--top-k", "1"])):
        out = tmp_path / str(number)
        command = ["generate", "a ring", "--candidates", "1", "--keep", "1", "--model", str(tiny_model)]
        for seed in ("1", "2"):
            assert main([*command, *options, "--seed", seed, "--out", str(out)]) == 0
        drawn += [read_picture(path).tobytes() for path in out.iterdir()]
    assert len(drawn) == 6
    assert len(set(drawn)) == 1
