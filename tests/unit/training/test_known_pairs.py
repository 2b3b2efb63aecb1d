"""A run's pairs are found again wherever they are, and more of them do not change which ones they are."""

import json
import random
import shutil
import tarfile
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.shapes import draw_shape, write_metadata, write_shapes
from trencadis.config import DataConfig, FilterConfig
from trencadis.errors import DataError
from trencadis.run_directory import RunDirectory
from trencadis.training.known_pairs import KnownPairs, grown_pairs, read_pairs, resumed_pairs
from trencadis.training.run_pairs import RunPairs

COUNT = 40


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", COUNT, side=24)


def add(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        image, caption = draw_shape(900 + number, 24)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption)


def planned(run: RunDirectory, path: Path | str) -> RunPairs:
    run.path.mkdir(exist_ok=True)
    pairs = read_pairs(DataConfig(path=str(path)), 0, run)
    run.write_data(pairs.summary())
    return pairs


def resumed(run: RunDirectory, path: Path | str) -> RunPairs:
    return resumed_pairs(DataConfig(path=str(path)), 0, run)


def content(pairs: RunPairs) -> list[tuple[str, tuple[str, ...], bytes]]:
    """What is trained and measured on, in order, whatever its place in the source is."""
    both = (*pairs.train, *pairs.validation)
    return [(pair.sample_id, pair.captions, pairs.source.image_bytes(pair.index)) for pair in both]


def moved(folder: Path) -> str:
    return str(folder.rename(folder.parent / "elsewhere"))


def copied(folder: Path) -> str:
    return str(shutil.copytree(folder, folder.parent / "copy", copy_function=shutil.copyfile))  # with new times


def linked(folder: Path) -> str:
    (folder.parent / "link").symlink_to(folder, target_is_directory=True)
    return str(folder.parent / "link")


def spelt(folder: Path) -> str:
    return f"{folder.parent}/./run/../{folder.name}/"


def with_sheet_and_samples(folder: Path) -> str:
    """What commands write, a picture without a caption, and pairs that were not there."""
    for name in ("data-check.png", "loose.png"):
        draw_shape(5, 24)[0].save(folder / name)
    add(folder, "00000a", "new/00000", "zzz")
    return str(folder)


def joined(folder: Path) -> str:
    """Names get longer in front."""
    add(folder.parent / "others", "00001", "00002")
    return f"{folder.parent / 'others'}::{folder}"


def under_a_parent(folder: Path) -> str:
    (folder.parent / "parent" / "deep").mkdir(parents=True)
    folder.rename(folder.parent / "parent" / "deep" / "er")
    return str(folder.parent / "parent")


@pytest.mark.parametrize(
    "change", [moved, copied, linked, spelt, with_sheet_and_samples, joined, under_a_parent], ids=lambda f: f.__name__
)
def test_the_same_pairs_are_found_again(run: RunDirectory, folder: Path, change: Callable[[Path], str]) -> None:
    before = content(planned(run, folder))
    assert len(before) == COUNT
    written = run.pairs.read_bytes()
    assert content(resumed(run, change(folder))) == before
    assert run.pairs.read_bytes() == written


def test_a_table_may_list_its_rows_in_another_order(run: RunDirectory, tmp_path: Path) -> None:
    table = write_metadata(tmp_path / "table", COUNT, side=24) / "metadata.jsonl"
    rows = table.read_text().splitlines()
    rows.append(json.dumps(json.loads(rows[0]) | {"caption": "another caption of the first one"}))
    table.write_text("\n".join(rows))
    before = content(planned(run, table.parent))
    random.Random(1).shuffle(rows)
    table.write_text("\n".join(rows))
    assert content(resumed(run, table.parent)) == before
    other = RunDirectory(tmp_path / "other")
    again = content(planned(other, table.parent))
    assert [(name, sorted(captions)) for name, captions, _ in again] == [(n, sorted(c)) for n, c, _ in before]


def shard(folder: Path, path: Path, numbers: range) -> None:
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            for suffix in (".png", ".txt"):
                archive.add(folder / f"{number:05d}{suffix}", f"{number:05d}{suffix}")


def test_shards_may_be_joined_by_others_and_packed_anew(run: RunDirectory, folder: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    shard(folder, shards / "a.tar", range(20))
    shard(folder, shards / "b.tar", range(20, 30))
    before = content(planned(run, shards))
    shard(folder, shards / "c.tar", range(30, 40))
    assert content(resumed(run, shards)) == before
    for name in ("a.tar", "b.tar", "c.tar"):
        (shards / name).unlink()
    shard(folder, shards / "all.tar", range(40))
    assert content(resumed(run, f"{shards}/*.tar")) == before


def test_names_may_be_composed_otherwise(run: RunDirectory, folder: Path) -> None:
    """A file system may return another form of a name than was written."""
    composed, decomposed = partial(unicodedata.normalize, "NFC"), partial(unicodedata.normalize, "NFD")
    forms = {"coração": (composed, decomposed), "cèrcol": (decomposed, composed)}
    add(folder, *(one(name) for name, (one, _) in forms.items()))
    before = content(planned(run, folder))
    for name, (one, other) in forms.items():
        for suffix in (".png", ".txt"):
            (folder / (one(name) + suffix)).rename(folder / (other(name) + suffix))
    assert content(resumed(run, folder)) == before


def test_pairs_that_are_gone_or_have_changed_are_named(run: RunDirectory, folder: Path) -> None:
    planned(run, folder)
    (folder / "00003.png").unlink()
    (folder / "00007.txt").write_text("another caption altogether")
    with open(folder / "00011.png", "ab") as file:
        file.write(b"\0")
    with pytest.raises(DataError) as raised:
        resumed(run, folder)
    said = str(raised.value)
    assert f"3 of the run's {COUNT} pairs" in said
    assert "00003.png (gone), 00007.png (changed), 00011.png (changed)" in said
    assert "put them back" in said
    for path in folder.glob("*.png"):
        path.unlink()
    add(folder, "one")
    with pytest.raises(DataError, match="and 35 more"):
        resumed(run, folder)


def test_data_that_is_not_there_any_more_is_to_be_named(run: RunDirectory, folder: Path) -> None:
    planned(run, folder)
    folder.rename(folder.parent / "elsewhere")
    with pytest.raises(DataError, match=r"nothing at .*shapes.*name where the pictures are now"):
        resumed(run, folder)


def test_new_pairs_leave_the_others_on_their_side(run: RunDirectory, folder: Path) -> None:
    before = planned(run, folder)
    names = [f"more/{number:04d}" for number in range(200)]
    add(folder, *names)
    (folder / "00000.txt").unlink()  # one that is gone, and one that has changed
    (folder / "00001.txt").write_text("another caption of it")
    grown = grown_pairs(DataConfig(path=str(folder)), 0, run)
    assert len(grown.new) == 201
    assert {pair.sample_id for pair in grown.absent} == {"00000.png", "00001.png"}
    sides = [{pair.sample_id for pair in side} for side in (grown.pairs.train, grown.pairs.validation)]
    known = {"00000.png", *(pair.sample_id for pair in grown.known.curated.kept)}
    assert {pair.sample_id for pair in before.train} - {"00000.png"} <= sides[0]
    assert {pair.sample_id for pair in before.validation} - {"00000.png"} <= sides[1]
    assert sides[0] | sides[1] | {"00000.png"} == known
    assert len(sides[1]) > len(before.validation), "some of the new ones are held out too"
    first = [pair.sample_id for pair in before.validation if pair.sample_id != "00000.png"]
    assert [pair.sample_id for pair in grown.pairs.validation][: len(first)] == first, "drawings can be compared"
    assert KnownPairs.load(run) != grown.known, "nothing is written"
    grown.known.save(run)
    again = resumed(run, folder)
    assert content(again) == content(grown.pairs)
    assert grown_pairs(DataConfig(path=str(folder)), 0, run).new == ()


def test_a_new_pair_with_the_name_of_a_known_one_gets_another(run: RunDirectory, folder: Path) -> None:
    add(folder, "more/x", "more/y")
    before = content(planned(run, folder))
    other = folder.parent / "more"
    other.mkdir()
    draw_shape(77, 24)[0].save(other / "x.png")
    (other / "x.txt").write_text("another x, whose name among both folders is that of the first")
    both = DataConfig(path=f"{folder}::{other}")
    for _ in range(2):  # it is found again under that name
        grown = grown_pairs(both, 0, run)
        names = [pair.sample_id for pair in grown.known.curated.kept]
        assert sorted(names) == sorted({*(name for name, *_ in before), "#2/more/x.png"})
        assert sorted(before) == sorted(pair for pair in content(grown.pairs) if pair[0] != "#2/more/x.png")
        grown.known.save(run)
    assert grown.new == grown.absent == ()


def test_a_damaged_list_of_pairs_is_made_again_if_the_data_is_the_same(run: RunDirectory, folder: Path) -> None:
    before = content(planned(run, folder))
    run.pairs.write_text(run.pairs.read_text()[:1000])
    assert content(resumed(run, folder)) == before
    run.pairs.unlink()
    add(folder, "one", "two")
    with pytest.raises(DataError, match="other pairs than the run was planned with"):
        resumed(run, folder)
    assert not run.pairs.exists()


def test_what_is_left_out_and_what_is_new_is_said(run: RunDirectory, folder: Path) -> None:
    draw_shape(5, 24)[0].save(folder / "loose.png")
    (folder / "00002.txt").write_text("IMG_1234.jpg")
    said: list[str] = []
    run.path.mkdir()
    config = DataConfig(path=str(folder))
    read_pairs(config, 0, run, said.append)
    (line,) = said
    assert line.startswith("39 pairs; left out: ")
    assert "1 no caption" in line
    resumed_pairs(config, 0, run, said.append)
    assert len(said) == 1
    (folder / "loose.png").unlink()  # nothing is missed of what was left out
    draw_shape(6, 24)[0].save(folder / "00002.png")
    draw_shape(5, 24)[0].save(folder / "loose-2.png")
    resumed_pairs(config, 0, run, said.append)
    assert "since the run was planned: 1;" in said.pop()
    add(folder, "one", "two")
    resumed_pairs(config, 0, run, said.append)
    assert "since the run was planned: 3;" in said[1]


def test_verdicts_of_a_start_that_was_killed_are_used_and_not_those_of_other_filters(
    run: RunDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(planned(run, folder))
    with monkeypatch.context() as patch:
        patch.setattr("trencadis.data.curation.decode_picture", lambda *_, **__: pytest.fail("decoded again"))
        assert content(planned(run, folder)) == before
    stricter = DataConfig(path=str(folder), filters=FilterConfig(min_image_side=25))
    with pytest.raises(DataError, match="too small"):
        read_pairs(stricter, 0, run)
