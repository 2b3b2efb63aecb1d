import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trencadis.data import ListedSource, open_source
from trencadis.data.files import SizedSource
from trencadis.data.pairs import LONE_CAPTION, LOOSE_PICTURE, OTHER_FORMAT
from trencadis.errors import DataError
from trencadis.protocols import PairSource


def ids(source: PairSource) -> list[str]:
    return [source.sample_id(index) for index in range(len(source))]


@pytest.fixture
def shards(tmp_path: Path, tar: Callable[..., Path], picture: Callable[..., bytes]) -> Path:
    root = tmp_path / "shards"
    for number in (8, 9, 10):
        tar(root / f"{number:03}.tar", [("0.png", picture()), ("0.txt", b"a caption")])
    return root


ALL = ["008.tar/0", "009.tar/0", "010.tar/0"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ALL),
        ("/*.tar", ALL),
        ("/**/*.tar", ALL),
        ("/{008..010}.tar", ALL),
        ("/{010..008}.tar", ALL[::-1]),
        ("/0{08..09}.tar", ALL[:2]),
        ("/{008,010}.tar", [ALL[0], ALL[2]]),
        ("/0{0{8..9},10}.tar", None),
        ("/00[89].tar", ALL[:2]),
        ("/009.tar", ALL[1:2]),
    ],
)
def test_shards_by_folder_glob_and_range(shards: Path, pattern: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(DataError):
            open_source(f"{shards}{pattern}")
    else:
        assert ids(open_source(f"{shards}{pattern}")) == expected


def test_parts_are_joined(shards: Path, folder: Path) -> None:
    source = open_source(f"{shards}/009.tar::{folder}")
    assert isinstance(source, PairSource)
    assert isinstance(source, SizedSource)
    assert ids(source) == ["009.tar/009.tar/0", "pairs/a.jpg", "pairs/b.PNG", "pairs/more/c.webp"]
    assert source.captions(1)[0] == "a lime square"
    assert source.image_bytes(1) == (folder / "a.jpg").read_bytes()
    assert source.image_size_bytes(1) == len(source.image_bytes(1))
    assert source.weight(0) == 1.0


def test_shards_that_are_listed_are_one_source(shards: Path) -> None:
    assert ids(open_source(f"{shards}/008.tar::{shards}/010.tar")) == [ALL[0], ALL[2]]


def test_loose_files_beside_shards_are_counted(shards: Path, picture: Callable[..., bytes]) -> None:
    for name in ("loose.png", "sub/more.jpg", "drawing.svg", "data-check.png", "loose.txt", "lone.txt"):
        (shards / name).parent.mkdir(exist_ok=True)
        (shards / name).write_bytes(picture() if name != "lone.txt" else b"a caption")
    source = open_source(str(shards))
    assert ids(source) == ALL
    assert isinstance(source, ListedSource)
    assert [(one.name, one.reason) for one in source.omitted] == [
        ("loose.png", LOOSE_PICTURE),
        ("sub/more.jpg", LOOSE_PICTURE),
        ("drawing.svg", OTHER_FORMAT),
        ("lone.txt", LONE_CAPTION),
    ]


def test_shards_of_splits(shards: Path, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / "both" / split).mkdir(parents=True)
        (shards / f"00{8 if split == 'train' else 9}.tar").rename(tmp_path / "both" / split / "0.tar")
    source = open_source(str(tmp_path / "both"))
    assert ids(source) == ["train/0.tar/0", "valid/0.tar/0"]
    assert isinstance(source, ListedSource)
    assert source.held_out == {1}


def test_joined_parts_keep_what_they_omit(shards: Path, folder: Path) -> None:
    (folder / "lone.txt").write_text("a caption")
    source = open_source(f"{shards}/009.tar::{folder}")
    assert isinstance(source, ListedSource)
    assert [one.name for one in source.omitted] == ["pairs/lone.txt"]


@pytest.mark.parametrize(
    "spelling", ["'{}'", '"{}"', " {} ", "{}/", "{}/../pairs", "~/pairs", "'~/pairs'", "~/pairs::~/two"]
)
def test_spellings_of_a_path(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(folder, tmp_path / "two")
    assert len(open_source(spelling.format(folder))) == (6 if "::" in spelling else 3)


def test_part_named_twice_is_refused(shards: Path, folder: Path) -> None:
    for part in (f"{shards}/008.tar", str(folder)):
        with pytest.raises(DataError, match="is named twice"):
            open_source(f"{part}::{part}")


def test_a_path_that_exists_is_no_pattern(tmp_path: Path, folder: Path) -> None:
    odd = tmp_path / "pairs {1..3} [x]*"
    folder.rename(odd)
    assert len(open_source(str(odd))) == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "nothing at ''"),
        ("absent", "nothing at"),
        ("absent/*.tar", "nothing at"),
        ("absent/{000..002}.tar", "nothing at"),
        ("pipe:cat x.tar", "is not a local path"),
        ("s3://bucket/x.tar", "is not a local path"),
        ("https://example.com/{00..10}.tar", "is not a local path"),
        ("{0..99999999999}.tar", "the range"),
        ("{000..999}{000..999}{0..9}.tar", "expands to 10,000,000 names"),
    ],
)
def test_what_is_not_there_is_refused(path: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


def test_file_of_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="is a file of another kind"):
        open_source(str(folder / "a.jpg"))


def test_datasets_are_found_at_any_depth(
    tmp_path: Path, tar: Callable[..., Path], picture: Callable[..., bytes]
) -> None:
    for split in ("train", "val"):
        tar(tmp_path / "data" / split / "0.tar", [("0.png", picture()), ("0.txt", b"a caption")])
    table = tmp_path / "a" / "b" / "c" / "metadata.csv"
    table.parent.mkdir(parents=True)
    (table.parent / "0.png").write_bytes(picture())
    table.write_text("file_name,caption\n0.png,a caption\n")
    (tmp_path / "data" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "again").symlink_to(table.parent, target_is_directory=True)
    source = open_source(str(tmp_path))
    assert isinstance(source, ListedSource)
    assert sorted(map(source.sample_id, range(len(source)))) == [
        "a/again/0.png",
        "data/train/0.tar/0",
        "data/val/0.tar/0",
    ]
    assert {source.sample_id(index) for index in source.held_out} == {"data/val/0.tar/0"}
    assert source.omitted == ()
