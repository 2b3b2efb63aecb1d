"""Folders as people have them: captions in other files, other pictures, splits, classes, and what is no data."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trencadis.config import FilterConfig, ReadingConfig
from trencadis.data import ListedSource, curate, open_source
from trencadis.data.files import OTHER_PICTURE_SUFFIXES, PICTURE_SUFFIXES
from trencadis.data.folders import list_folder
from trencadis.data.pairs import LONE_CAPTION, OTHER_DATASET, OTHER_FORMAT
from trencadis.errors import DataError
from trencadis.protocols import PairSource
from trencadis.run_directory import RunDirectory
from trencadis.storage import write_whole

Maker = Callable[..., bytes]


def captions(source: PairSource) -> dict[str, tuple[str, ...]]:
    return {source.sample_id(index): source.captions(index) for index in range(len(source))}


def omitted(source: PairSource) -> list[tuple[str, str]]:
    assert isinstance(source, ListedSource)
    return [(one.name, one.reason) for one in source.omitted]


def fill(root: Path, picture: Maker, *names: str, **texts: str) -> None:
    """Write a picture under each name, and texts under `name_suffix`."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture())
    for name, text in texts.items():
        (root / name.replace("_", ".")).write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *[
            (name, "a square")
            for name in ("x.txt", "x.TXT", "x.Txt", "x.png.txt", "x.caption", "x.PNG.CAPTION", "X.txt")
        ],
        ("x.json", json.dumps({"caption": "a square", "url": "…"})),
        ("x.png.json", json.dumps({"Prompt": "a square", "caption": ""})),
    ],
)
def test_captions_beside_a_picture(tmp_path: Path, picture: Maker, name: str, content: str) -> None:
    fill(tmp_path, picture, "x.png")
    (tmp_path / name).write_text(content)
    source = open_source(str(tmp_path))
    assert captions(source) == {"x.png": ("a square",)}
    assert omitted(source) == []


def test_the_first_caption_file_that_is_not_blank_counts(tmp_path: Path, picture: Maker) -> None:
    """As img2dataset writes them: the .json beside the .txt, tables of addresses, figures of a shard."""
    fill(tmp_path, picture, "00000/a.png", "00000/b.png")
    for stem, text in (("a", "from txt"), ("b", " \n")):
        (tmp_path / "00000" / f"{stem}.txt").write_text(text)
        (tmp_path / "00000" / f"{stem}.json").write_text(json.dumps({"caption": "from json"}))
    (tmp_path / "00000.parquet").write_bytes(b"addresses")
    (tmp_path / "00000_stats.json").write_text(json.dumps({"count": 2}))
    source = open_source(str(tmp_path))
    assert captions(source) == {"00000/a.png": ("from txt",), "00000/b.png": ("from json",)}
    assert omitted(source) == []


def test_each_caption_goes_to_the_picture_that_has_its_very_name(tmp_path: Path, picture: Maker) -> None:
    fill(tmp_path, picture, "a.png", "A.png", "a.jpg", a_txt="small", A_txt="large")
    assert captions(open_source(str(tmp_path))) == {"A.png": ("large",), "a.jpg": ("small",), "a.png": ("small",)}
    (tmp_path / "A.txt").unlink()
    assert captions(open_source(str(tmp_path)))["A.png"] == ()


def test_names_may_be_composed_in_either_way(tmp_path: Path, picture: Maker) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    fill(tmp_path, picture, f"{decomposed}.png")
    (tmp_path / f"{composed}.txt").write_text("a café")
    assert captions(open_source(str(tmp_path))) == {f"{composed}.png": ("a café",)}
    fill(tmp_path, picture, f"{composed}.png")
    assert captions(open_source(str(tmp_path))) == {f"{name}.png": ("a café",) for name in (composed, decomposed)}


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_suffixes_that_are_read(tmp_path: Path, picture: Maker, suffix: str) -> None:
    fill(tmp_path, picture, f"x{suffix.upper()}", x_txt="a square")
    assert len(open_source(str(tmp_path))) == 1


@pytest.mark.parametrize("suffix", OTHER_PICTURE_SUFFIXES)
def test_pictures_of_other_formats_are_counted_once(tmp_path: Path, picture: Maker, suffix: str) -> None:
    fill(tmp_path, picture, "x.png", f"y{suffix.upper()}", x_txt="a square", y_txt="the caption of y")
    assert omitted(open_source(str(tmp_path))) == [(f"y{suffix.upper()}", OTHER_FORMAT)]
    (tmp_path / "x.png").unlink()
    with pytest.raises(DataError, match=rf"but 1 \{suffix}"):
        open_source(str(tmp_path))


def test_captions_without_a_picture_are_counted(tmp_path: Path, picture: Maker) -> None:
    fill(tmp_path, picture, "x.png", x_txt="a square", lone_txt="lone", other_caption="other", README_txt="how to")
    (tmp_path / "failed.json").write_text(json.dumps({"caption": "a picture that was not downloaded"}))
    for name, content in (("info.json", "{}"), ("list.json", "[1]"), ("broken.json", "{"), ("license.txt", "free")):
        (tmp_path / name).write_text(content)
    expected = [("failed.json", LONE_CAPTION), ("lone.txt", LONE_CAPTION), ("other.caption", LONE_CAPTION)]
    assert sorted(omitted(open_source(str(tmp_path)))) == expected


def test_what_is_no_data_is_passed_over(folder: Path, picture: Maker) -> None:
    names = [".hidden/d.png", ".hidden.png", "._a.jpg", "__MACOSX/a.jpg", "@eaDir/a.jpg/thumb.jpg", "data-check.png"]
    fill(folder, picture, *names)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._a.txt"):
        (folder / name).write_bytes(b"")
    source = open_source(str(folder))
    assert (len(source), omitted(source)) == (3, [])
    (folder / "data-check.txt").write_text("a sheet that somebody has described")
    assert len(open_source(str(folder))) == 4


def test_runs_are_no_data(folder: Path, picture: Maker) -> None:
    run = RunDirectory(folder / "more" / "run")
    for path in (run.config, run.plan, run.part("image") / "config.json"):
        write_whole(path, "{}")
    fill(run.path, picture, "samples/image-00000001.png")
    source = open_source(str(folder))
    assert (len(source), omitted(source)) == (3, [])
    assert list_folder(run.path / "samples").pictures == ("image-00000001.png",)
    with pytest.raises(DataError, match="is the directory of a run"):
        open_source(str(run.path))


def test_tables_and_shards_in_folders_of_captioned_pictures_are_counted(folder: Path, picture: Maker) -> None:
    for name in ("backup/old.tar", "backup/metadata.jsonl"):
        write_whole(folder / name, "")
    source = open_source(str(folder))
    assert len(source) == 3
    assert omitted(source) == [("backup/metadata.jsonl", OTHER_DATASET), ("backup/old.tar", OTHER_DATASET)]


def test_class_folders(tmp_path: Path, picture: Maker) -> None:
    names = ["10_red_fox/a.png", "birds/001.Black_footed_Albatross/b.png", "cat/c.png", "2024/d.png", "top.png"]
    fill(tmp_path, picture, *names)
    with pytest.raises(DataError, match="ask for class_folders"):
        open_source(str(tmp_path))
    (tmp_path / "cat" / "c.txt").write_text("my cat")
    assert captions(open_source(str(tmp_path), ReadingConfig(class_folders=True))) == {
        "10_red_fox/a.png": ("red fox",),
        "2024/d.png": ("2024",),
        "birds/001.Black_footed_Albatross/b.png": ("Black footed Albatross",),
        "cat/c.png": ("my cat",),
        "top.png": (),
    }


def test_folders_as_kohya_has_them(tmp_path: Path, picture: Maker) -> None:
    fill(tmp_path, picture, "10_fox/a.png", "1_dog/b.png")
    (tmp_path / "10_fox" / "a.caption").write_text("a fox")
    (tmp_path / "1_dog" / "b.txt").write_text("a dog")
    source = open_source(str(tmp_path))
    assert captions(source) == {"10_fox/a.png": ("a fox",), "1_dog/b.png": ("a dog",)}
    assert [source.weight(index) for index in range(2)] == [1.0, 1.0]


@pytest.mark.parametrize("classes", [False, True])
def test_folders_of_splits(tmp_path: Path, picture: Maker, classes: bool) -> None:
    inside = "cat/x.png" if classes else "x.png"
    fill(tmp_path, picture, *[f"{split}/{inside}" for split in ("train", "val", "test")])
    if not classes:
        for split in ("train", "val", "test"):
            (tmp_path / split / "x.txt").write_text("cat")
    source = open_source(str(tmp_path), ReadingConfig(class_folders=classes))
    assert set(captions(source).values()) == {("cat",)}
    assert isinstance(source, ListedSource)
    assert {source.sample_id(index) for index in source.held_out} == {f"test/{inside}", f"val/{inside}"}
    kept = curate(source, FilterConfig())
    train, validation = kept.split(0.5, 0)
    assert [pair.sample_id for pair in train] == [f"train/{inside}"]
    assert len(validation) == 2


@pytest.mark.parametrize("others", [["val/x.png"], ["train/x.png", "val/x.png", "car/x.png"], ["train/x.png"]])
def test_folders_that_are_no_splits(tmp_path: Path, picture: Maker, others: list[str]) -> None:
    fill(tmp_path, picture, *others)
    for name in others:
        (tmp_path / name).with_suffix(".txt").write_text("a square")
    source = open_source(str(tmp_path))
    assert isinstance(source, ListedSource)
    assert not source.held_out


def test_a_folder_without_captions_names_a_table_that_may_be_it(tmp_path: Path, picture: Maker) -> None:
    fill(tmp_path, picture, "a.png", labels_csv="file,caption\na.png,a square\n")
    with pytest.raises(DataError, match=r"1 pictures .* name a table of pictures, such as .*labels\.csv"):
        open_source(str(tmp_path))
    assert captions(open_source(str(tmp_path / "labels.csv"))) == {"a.png": ("a square",)}


def test_the_captions_key_of_a_json_can_be_chosen(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "a.json").write_text(json.dumps({"caption": "of the site", "Mine": "ours"}))
    (tmp_path / "lone.json").write_text(json.dumps({"Mine": "ours"}))
    source = open_source(str(tmp_path), ReadingConfig(caption_column="mine"))
    assert source.captions(0) == ("ours",)
    assert isinstance(source, ListedSource)
    assert [one.name for one in source.omitted] == ["lone.json"]
