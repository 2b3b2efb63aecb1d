"""Folders of pictures, for `rank` and `reconstruct`."""

import json
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import trencadis.cli.pictures as module
from trencadis.cli import main
from trencadis.cli.pictures import Pictures
from trencadis.data import read_picture
from trencadis.errors import PictureError


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: pictures at several depths, and what is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("album/b.png", "album/deeper/still/a.jpg", "album/C.PNG", "album/.hidden/x.png", "single.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 16), "red").save(name)
    Path("album/notes.txt").write_text("a ring")
    Path("album/damaged.png").write_bytes(Path("album/b.png").read_bytes()[:60])
    Path("empty").mkdir()
    Path("album/link").symlink_to(tmp_path, target_is_directory=True)
    return tmp_path


def order(capsys: pytest.CaptureFixture[str], model: Path, *arguments: str) -> dict[str, Any]:
    assert main(["rank", "a ring", *arguments, "--model", str(model), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


READ = ["album/C.PNG", "album/b.png", "album/deeper/still/a.jpg"]


@pytest.mark.usefixtures("desk")
def test_rank_takes_folders_beside_files(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = order(capsys, tiny_model, "album", "single.png")
    assert sorted(row["path"] for row in answer["order"]) == sorted([*READ, "single.png"])
    left_out = {row["path"]: row["reason"] for row in answer["left_out"]}
    assert left_out.keys() == {"album/notes.txt", "album/damaged.png"}
    assert left_out["album/notes.txt"] == "no picture"
    assert main(["rank", "a ring", "album", "--model", str(tiny_model)]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    assert "trencadis: left out, no picture: album/notes.txt\n" in printed.err
    assert "album/damaged.png" in printed.err


@pytest.mark.usefixtures("desk")
def test_what_is_named_itself_has_to_be_a_picture(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = {"album/damaged.png": "album/damaged.png", "album/notes.txt": "album/notes.txt", "empty": "no picture ("}
    for path, line in faults.items():
        assert main(["rank", "a ring", "single.png", path, "--model", str(tiny_model)]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert line in printed.err
    Path("bad").mkdir()
    Path("bad/x.png").write_bytes(b"nothing")
    assert main(["rank", "a ring", "bad", "--model", str(tiny_model)]) == 2
    assert "bad/x.png" in capsys.readouterr().err


@pytest.mark.usefixtures("desk")
def test_a_sheet_inside_of_the_folder_is_no_picture_of_it(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["reconstruct", "album", "--model", str(tiny_model), "--out", "album/sheet.png", "--json"]) == 0
        assert [row["path"] for row in json.loads(capsys.readouterr().out)["pictures"]] == READ


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("command", [("rank", "a ring"), ("reconstruct",)], ids=lambda command: command[0])
def test_one_original_is_held_at_a_time(
    command: tuple[str, ...], tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held: list[weakref.ref[Image.Image]] = []
    most = 0

    def watched(path: Path) -> Image.Image:
        nonlocal most
        original = read_picture(path)
        held.append(weakref.ref(original))
        most = max(most, sum(each() is not None for each in held))
        return original

    monkeypatch.setattr("trencadis.data.read_picture", watched)
    assert main([*command, "album", "single.png", "--model", str(tiny_model)]) == 0
    assert len(held) > 2
    assert most == 1


@pytest.mark.usefixtures("desk")
def test_many_that_are_left_out_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_NAMED", 2)
    for number in range(4):
        Path(f"album/{number}.md").write_text("")
    Pictures([Path("album")]).tell_left_out()
    said = "trencadis: left out, no picture: album/0.md, album/1.md and 3 more\n"
    assert capsys.readouterr().err == said


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_may_be_any_bytes(desk: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"album/\xff \x1b[31m.png")
    try:
        Image.new("RGB", (8, 8)).save(name)
    except OSError:
        pytest.skip("the file system takes only text")
    assert name in [row["path"] for row in order(capsys, tiny_model, "album")["order"]], (
        "JSON gives back the exact name"
    )
    sheet = ["reconstruct", "album", "--model", str(tiny_model)]
    for command in (["rank", "a ring", "album", "--model", str(tiny_model)], sheet):
        assert main(command) == 0
        assert r"album/\xff \x1b[31m.png" in capsys.readouterr().out


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(folder: Path, onerror: Any) -> Any:
        onerror(PermissionError(13, "Permission denied", str(folder)))
        return []

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(PictureError, match=r"cannot read .*: permission denied; expected a folder"):
        Pictures([tmp_path])
