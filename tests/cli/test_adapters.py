"""Adapters on the command line: draw with them, verify what was drawn, and write the merged model."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.unit.transformer.test_adapter import adapter_of
from trencadis.cli import main
from trencadis.cli.arguments import UnfitValueError, adapter
from trencadis.drawn import read_record
from trencadis.pipeline import DALLE


@pytest.fixture(scope="module")
def style(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes what is drawn."""
    model = DALLE.from_pretrained(tiny_model)
    own = adapter_of(model.transformer, base="tiny", base_sha256=str(model.digest()))
    for a, _ in own.updates.values():
        a.mul_(0.05)
    folder = tmp_path_factory.mktemp("adapters") / "style"
    own.save_pretrained(folder)
    return folder


def generate(model: Path, out: Path, *options: str) -> Path:
    own = ["--candidates", "1", "--keep", "1", "--seed", "3", "--out", str(out), *options]
    assert main(["generate", "a red circle", "--model", str(model), *own]) == 0
    (path,) = out.glob("*.png")
    return path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_pictures_are_drawn_verified_and_exported(
    tiny_model: Path, style: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = generate(tiny_model, tmp_path / "drawn", "--adapter", f"{style}:0.5", "--adapter", str(style))
    with Image.open(path) as picture:
        record = read_record(picture)
    assert [each.strength for each in record.adapters] == [0.5, 1.0]
    line = error_of(capsys, "verify", str(path), "--model", str(tiny_model))
    assert f"was drawn with the adapter {style}" in line
    assert "say where it is with --adapter" in line
    moved = style.rename(style.with_name("moved"))
    assert main(["verify", str(path), "--model", str(tiny_model), "--adapter", str(moved), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["pictures"]
    assert (found["verified"], found["same_model"]) == (True, True)
    moved.rename(style)
    merged = tmp_path / "merged"
    both = ["--adapter", f"{style}:0.5", "--adapter", str(style)]
    assert main(["export", str(tiny_model), "--out", str(merged), "--dtype", "float32", *both]) == 0
    again = generate(merged, tmp_path / "again")
    assert Image.open(again).tobytes() == Image.open(path).tobytes()
    base = generate(tiny_model, tmp_path / "base")
    assert Image.open(base).tobytes() != Image.open(path).tobytes()
    assert main(["verify", str(base), "--model", str(tiny_model)]) == 0, "a picture without adapters needs none"


def test_what_is_wrong_with_an_adapter_is_one_line(
    tiny_model: Path, style: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = ("generate", "a ring", "--model", str(tiny_model), "--out", str(tmp_path / "drawn"), "--adapter")
    assert f"--adapter {style}:5; expected DIR[:STRENGTH] with a strength in [-4, 4]" in error_of(
        capsys, *draw, f"{style}:5"
    )
    assert "--adapter" in error_of(capsys, *draw, f"{style}:strong")
    assert "no model at" in error_of(capsys, *draw, str(tmp_path / "none"))
    assert "holds no adapter" in error_of(capsys, *draw, str(tiny_model))
    shipped = ("generate", "a ring", "--model", "emoji", "--out", str(tmp_path / "drawn"), "--adapter", str(style))
    assert "an adapter of tiny (SHA-256" in error_of(capsys, *shipped)
    assert not (tmp_path / "drawn").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("owner/name", ("owner/name", 1.0)), ("owner/name:0.5", ("owner/name", 0.5)), ("a/b:-1e-1", ("a/b", -0.1))],
)
def test_a_strength_follows_a_colon(text: str, expected: Any) -> None:
    assert adapter()(text) == expected


def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "at:2").mkdir()
    assert adapter()(str(tmp_path / "at:2")) == (str(tmp_path / "at:2"), 1.0)
    assert adapter()(str(tmp_path / "at:2:0.5")) == (str(tmp_path / "at:2"), 0.5)
    with pytest.raises(UnfitValueError):
        adapter()(":1")
