"""The emoji dataset: what is held out, and a build that is whole or absent; none of it needs a network."""

import json
import tarfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import build
import numpy as np
import packages
import pytest
import split
from catalog import Emoji, make_emoji
from PIL import Image
from rich.console import Console
from rich.progress import Progress

SIZE = 16


def svg(hue: int, side: int, x: int) -> bytes:
    """A drawing of one colour: a bar whose place and side tell it from others."""
    colour = f"hsl({hue},80%,50%)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
        f'<rect x="{x}" y="4" width="20" height="{side}" fill="{colour}"/></svg>'
    ).encode()


@pytest.fixture(scope="module")
def synthetic() -> tuple[list[Emoji], build.Drawings]:
    """Things, coloured hearts and roles with genders and tones, drawn differently in each family of styles."""
    things = [make_emoji(f"{0x1F600 + number:X}", f"thing {number}") for number in range(24)]
    hearts = [
        make_emoji(f"{0x1F499 + at:X}", f"{name} heart")
        for at, name in enumerate(["blue", "green", "yellow", "purple"])
    ]
    tones = [
        ("1F3FB", "light"),
        ("1F3FC", "medium-light"),
        ("1F3FD", "medium"),
        ("1F3FE", "medium-dark"),
        ("1F3FF", "dark"),
    ]
    roles = [
        make_emoji(f"{person}-{code}-200D-{tool}", f"{who} {tool}: {tone} skin tone", group=1)
        for (person, who), (code, tone), tool in product(
            [("1F468", "man"), ("1F469", "woman"), ("1F9D1", "person")], tones, ["1F680", "1F33E", "1F527"]
        )
    ]
    emoji = [*things, *hearts, *roles]
    drawings: build.Drawings = {}
    for number, style in enumerate(["3d", "flat", "noto", "twemoji"]):
        family = max(0, number - 1)
        drawings[style] = {one.key: svg(at * 47 % 360, 8 + at % 50, 20 * family) for at, one in enumerate(emoji)}
    return emoji, drawings


@pytest.fixture(scope="module", autouse=True)
def shares() -> Iterator[None]:
    """Hold out so much that a small set has something of every kind."""
    with pytest.MonkeyPatch.context() as patch:
        for name, share in [("CONCEPT", 0.15), ("COLOUR", 0.3), ("STYLE", 0.15), ("ROLE", 0.15)]:
            patch.setattr(split, f"{name}_SHARE", share)
        yield


@pytest.fixture(scope="module")
def build_in(synthetic: tuple[list[Emoji], build.Drawings]) -> Callable[[Path], None]:
    """Build the synthetic set in a folder."""

    def run(out: Path) -> None:
        build.build(*synthetic, out, SIZE, Progress(console=Console(quiet=True)))

    return run


@pytest.fixture(scope="module")
def folder(build_in: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built set, to be read only."""
    out = tmp_path_factory.mktemp("built") / "emoji"
    build_in(out)
    return out


@pytest.fixture(scope="module")
def sides(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a built set."""
    return {side: read(folder / side / "metadata.jsonl") for side in ("train", "heldout")}


def read(listing: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]


def test_nothing_that_is_held_out_is_trained_on(sides: dict[str, list[dict[str, Any]]]) -> None:
    train, held = sides["train"], sides["heldout"]
    assert {row["split"] for row in held} == {"concept", "style_cell", "role_cell", "colour_cell"}

    def cells(rows: list[dict[str, Any]], kind: str, *keys: str) -> set[tuple[str, ...]]:
        chosen = [row for row in rows if kind in ("", row.get("split"))]
        return {
            tuple(split.FAMILIES[row[key]] if key == "style" else row.get(key, "") for key in keys) for row in chosen
        }

    for kind, keys in [
        ("concept", ["concept"]),
        ("colour_cell", ["concept", "colour"]),
        ("style_cell", ["style", "concept"]),
        ("role_cell", ["concept", "gender", "tone"]),
    ]:
        assert not cells(held, kind, *keys) & cells(train, "", *keys), kind
    # What a cell is composed of is seen in training.
    assert cells(held, "style_cell", "concept") <= cells(train, "", "concept")
    assert cells(held, "role_cell", "concept") <= cells(train, "", "concept")
    assert cells(held, "role_cell", "tone") <= cells(train, "", "tone")


def test_rows_point_to_pictures_and_weigh_variants_down(folder: Path, sides: dict[str, list[dict[str, Any]]]) -> None:
    for side, rows in sides.items():
        names = [row["file_name"] for row in rows]
        assert len(set(names)) == len(names)
        assert {path.name for path in (folder / side / "images").iterdir()} == {Path(name).name for name in names}
        for row in rows:
            assert 0 < row["weight"] <= 1
            assert row["captions"]
            assert row["licence"]
        with Image.open(folder / side / names[0]) as picture:
            assert (picture.size, picture.mode) == ((SIZE, SIZE), "RGB")
    assert {row["weight"] for row in sides["train"] if "/" not in row.get("tone", "") and row.get("tone")} == {0.25}


def test_two_builds_are_equal_byte_for_byte(folder: Path, build_in: Callable[[Path], None], tmp_path: Path) -> None:
    build_in(tmp_path / "again")
    assert contents(folder) == contents(tmp_path / "again")
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_genders_that_share_a_drawing_are_held_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    roles = [
        make_emoji(f"{code}-1F3FF-200D-1F680", f"{who}: dark skin tone", group=1)
        for code, who in [("1F468", "man"), ("1F469", "woman"), ("1F9D1", "person")]
    ]
    same, other = np.zeros(12, np.uint8), np.full(12, 255, np.uint8)
    drawn = [split.Drawn(emoji, "noto", same if at != 1 else other) for at, emoji in enumerate(roles)]
    for threshold in np.linspace(0, 1, 21):
        monkeypatch.setattr(split, "ROLE_SHARE", threshold)
        held = [cell in split.find_cells(drawn).held_roles for cell in [("noto", emoji.key) for emoji in roles]]
        assert held[0] == held[2]


def test_families_that_draw_alike_are_not_held_out_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "STYLE_SHARE", 1.0)
    emoji = make_emoji("2B06", "up arrow")
    alike = [split.Drawn(emoji, style, np.full(12, 40 + at, np.uint8)) for at, style in enumerate(["3d", "noto"])]
    apart = split.Drawn(emoji, "twemoji", np.full(12, 255, np.uint8))
    assert not split.find_cells(alike).held_styles
    families = {family for family, _ in split.find_cells([*alike, apart]).held_styles}
    assert families in ({"fluent", "noto"}, {"twemoji"})


def test_a_build_that_fails_leaves_nothing(
    build_in: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rows: object, folder: Path) -> None:
        (folder / "half.webp").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        build_in(tmp_path / "emoji")
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert build.main(["--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "exists and is not empty" in told[0]
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_no_npm_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert build.main(["--out", str(tmp_path / "emoji"), "--cache", str(tmp_path / "cache")]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("build.py:")]
    assert len(told) == 1
    assert "npm is not installed" in told[0]
    assert not (tmp_path / "emoji").exists()


def make_npm(folder: Path, body: str) -> Path:
    """A program that stands in for npm."""
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


def test_a_failed_download_tells_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_npm(tmp_path, "echo 'npm error code E404' >&2; exit 1")
    monkeypatch.setattr("shutil.which", lambda name: str(program))
    with pytest.raises(packages.BuildError, match=r"could not fetch emojibase-data@17\.0\.0: code E404"):
        packages.fetch(packages.LABELS, tmp_path / "cache")


def test_a_wrong_tarball_is_refused_and_a_right_one_needs_no_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = packages.Package("@some/thing", "1.0.0", "sha512-wrong", "MIT")
    program = make_npm(tmp_path, 'echo content > "$6/some-thing-1.0.0.tgz"')
    monkeypatch.setattr("shutil.which", lambda name: str(program))
    with pytest.raises(packages.BuildError, match="expected sha512-wrong"):
        packages.fetch(package, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    held = tmp_path / "cache" / package.tarball
    held.write_text("content\n")
    monkeypatch.setattr("shutil.which", lambda name: None)
    right = packages.Package(package.name, package.version, packages.integrity(held), "MIT")
    assert packages.fetch(right, tmp_path / "cache") == held


def test_members_are_read_and_never_extracted(tmp_path: Path) -> None:
    tarball = tmp_path / "evil.tgz"
    (tmp_path / "1f680.svg").write_bytes(b"<svg/>")
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(tmp_path / "1f680.svg", "package/dist/svg/1f680.svg")
        archive.add(tmp_path / "1f680.svg", "../../../outside.svg")
        archive.add(tmp_path / "1f680.svg", "package/dist/svg/../../../../outside.svg")
        link = tarfile.TarInfo("package/dist/svg/1f681.svg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    assert packages.drawings("twemoji", tarball) == {"1f680": b"<svg/>"}
    assert sorted(tmp_path.rglob("*")) == before
