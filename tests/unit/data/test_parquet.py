"""Parquet files with pictures in them, as the Hub and others write them."""

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from trencadis.config import FilterConfig
from trencadis.config.data import ReadingConfig
from trencadis.data import open_source, parquet
from trencadis.data.curation import examine
from trencadis.data.pairs import BROKEN_ROW, DAMAGED_TABLE, LOOSE_PICTURE, OTHER_DATASET, ListedSource
from trencadis.data.prefetch import prefetch
from trencadis.errors import DataError
from trencadis.protocols import PairSource

pyarrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Raw = Callable[..., bytes]


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pyarrow.table(columns), path, **options)
    return path


def cells(*pictures: bytes | None) -> list[dict[str, Any]]:
    return [{"bytes": raw, "path": f"{number}.png"} for number, raw in enumerate(pictures)]


def pairs(source: PairSource) -> dict[str, tuple[str, ...]]:
    return {source.sample_id(index): source.captions(index) for index in range(len(source))}


def test_a_dataset_of_the_hub_is_read_and_its_validation_held_out(tmp_path: Path, picture: Raw) -> None:
    raws = [picture(colour=colour) for colour in ("red", "lime", "blue")]
    columns = {"image": cells(*raws), "text": ["red", "green", "blue"]}
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / "data" / f"{name}.parquet", columns, row_group_size=2)
    (tmp_path / "README.md").write_text("a dataset")
    (tmp_path / "data" / "loose.png").write_bytes(raws[0])
    source = open_source(str(tmp_path))
    assert len(source) == 9
    name = "data/train-00001-of-00002.parquet/2"
    assert pairs(source)[name] == ("blue",)
    assert isinstance(source, ListedSource)
    assert {source.sample_id(index).split("-")[0] for index in source.held_out} == {"data/validation"}
    assert [(one.name, one.reason) for one in source.omitted] == [("data/loose.png", LOOSE_PICTURE)]
    for index in (8, 0, 5, 3):
        assert source.image_bytes(index) == raws[index % 3]


@pytest.mark.parametrize(
    ("picture_column", "caption_column"),
    [("image", "caption"), ("IMG", "Text"), ("jpg", "prompt"), ("of_any_name", "title"), ("image", "captions")],
)
def test_columns_of_other_names(tmp_path: Path, picture: Raw, picture_column: str, caption_column: str) -> None:
    captions: list[Any] = [["one", "two"]] if caption_column == "captions" else ["one"]
    source = open_source(str(write(tmp_path / "a.parquet", {picture_column: [picture()], caption_column: captions})))
    assert pairs(source) == {"a.parquet/0": tuple(captions[0]) if caption_column == "captions" else ("one",)}
    assert source.image_bytes(0) == picture()


def test_the_columns_can_be_chosen(tmp_path: Path, picture: Raw) -> None:
    columns = {"image": [b"x"], "second": cells(picture()), "caption": ["theirs"], "Ours": ["ours"]}
    reading = ReadingConfig(file_column="second", caption_column="ours")
    source = open_source(str(write(tmp_path / "a.parquet", columns)), reading)
    assert (source.captions(0), source.image_bytes(0)) == (("ours",), picture())


def test_no_column_of_captions_is_refused_with_those_found(tmp_path: Path, picture: Raw) -> None:
    path = write(tmp_path / "a.parquet", {"image": cells(picture()), "label": [3]})
    with pytest.raises(DataError, match=r"columns image, label.*expected captions in one of .*caption_column"):
        open_source(str(path))


def test_a_table_of_addresses_or_of_files_is_no_table_of_pictures(tmp_path: Path, picture: Raw) -> None:
    assert not parquet.is_embedded(write(tmp_path / "a.parquet", {"url": ["http://x"], "caption": ["x"]}))
    (tmp_path / "a.png").write_bytes(picture())
    path = write(tmp_path / "metadata.parquet", {"file_name": ["a.png"], "caption": ["a file"]})
    assert pairs(open_source(str(path))) == {"a.png": ("a file",)}


def test_bytes_beside_paths_of_pictures_are_no_pictures(tmp_path: Path, picture: Raw) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    columns = {"file_name": ["a.png"], "caption": ["a file"], "hash": [b"12345678"]}
    assert pairs(open_source(str(write(tmp_path / "metadata.parquet", columns)))) == {"a.png": ("a file",)}
    columns = {"file_name": ["a.png"], "caption": ["embedded"], "image": cells(picture())}
    path = write(tmp_path / "metadata.parquet", columns)
    assert pairs(open_source(str(path))) == {"metadata.parquet/0": ("embedded",)}


def test_two_columns_of_one_name(tmp_path: Path, picture: Raw) -> None:
    columns = [cells(picture()), cells(picture()), ["a caption"], ["a caption"]]
    path = tmp_path / "a.parquet"
    pq.write_table(pyarrow.table(columns, names=["image", "image", "text", "text"]), path)
    source = open_source(str(path))
    assert (pairs(source), source.image_bytes(0)) == ({"a.parquet/0": ("a caption",)}, picture())


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
@pytest.mark.parametrize("bytes_kind", ["binary", "large_binary", "binary_view"])
def test_kinds_of_columns(tmp_path: Path, picture: Raw, kind: str, bytes_kind: str) -> None:
    captions = pyarrow.array(["one"])
    captions = captions.dictionary_encode() if kind == "dictionary" else captions.cast(getattr(pyarrow, kind)())
    pictures = pyarrow.array([picture()], getattr(pyarrow, bytes_kind)())
    source = open_source(str(write(tmp_path / "a.parquet", {"image": pictures, "caption": captions})))
    assert (source.captions(0), source.image_bytes(0)) == (("one",), picture())


def test_captions_that_are_numbers_are_named(tmp_path: Path, picture: Raw) -> None:
    path = write(tmp_path / "a.parquet", {"image": cells(picture()), "caption": [7]})
    with pytest.raises(DataError, match=r"a\.parquet/0: a caption that is not text.*correct the rows"):
        open_source(str(path))


def test_rows_without_picture_or_caption_are_dropped_with_a_reason(tmp_path: Path, picture: Raw) -> None:
    columns = {"image": cells(picture(), None, picture(), b"", b"damaged"), "text": ["whole", "a", None, "b", "c"]}
    curated = examine(open_source(str(write(tmp_path / "a.parquet", columns))), FilterConfig())
    assert [pair.sample_id for pair in curated.kept] == ["a.parquet/0"]
    assert curated.counts() == {"no picture": 2, "no caption": 1, "unreadable picture": 1}


def test_captions_that_are_no_text_are_left_out_alone(tmp_path: Path, picture: Raw) -> None:
    path = write(tmp_path / "a.parquet", {"image": cells(*[picture()] * 3), "text": ["one", "Köln", "three"]})
    path.write_bytes(path.read_bytes().replace("Köln".encode(), b"K\xf6\xf6ln"))
    source = parquet.ParquetSource([path])
    assert pairs(source) == {"a.parquet/0": ("one",), "a.parquet/2": ("three",)}
    assert [(one.name, one.reason) for one in source.omitted] == [("a.parquet/1", BROKEN_ROW)]
    assert source.image_bytes(1) == picture()


def test_a_damaged_file_does_not_stop_the_rest(tmp_path: Path, picture: Raw) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.parquet", {"image": cells(picture()), "text": [name]})
    whole = (tmp_path / "b.parquet").read_bytes()
    middle = whole.index(b"\x89PNG")
    (tmp_path / "b.parquet").write_bytes(whole[:middle] + bytes(80) + whole[middle + 80 :])
    source = open_source(str(tmp_path))
    curated = examine(source, FilterConfig())
    assert [pair.sample_id for pair in curated.kept] == ["a.parquet/0", "c.parquet/0"]
    assert sum(curated.counts().values()) == 1
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    (tmp_path / "b.parquet").write_bytes(whole[:-10])
    joined = parquet.ParquetSource(paths)
    assert [(one.name, one.reason) for one in joined.omitted] == [("b.parquet", DAMAGED_TABLE)]
    with pytest.raises(DataError, match=r"b\.parquet cannot be read as parquet"):
        parquet.ParquetSource(paths[1:])
    (tmp_path / "empty.parquet").write_bytes(b"")
    for path in (str(tmp_path), f"{tmp_path}/*.parquet"):
        source = open_source(path)
        assert isinstance(source, ListedSource)
        assert [(one.name, one.reason) for one in source.omitted] == [
            ("b.parquet", DAMAGED_TABLE),
            ("empty.parquet", DAMAGED_TABLE),
        ]
        assert [source.captions(index) for index in range(len(source))] == [("a",), ("c",)]


@pytest.mark.parametrize("beside", ["table", "shards", "pictures"])
def test_parquet_with_pictures_beside_another_dataset_is_accounted_for(
    tmp_path: Path, picture: Raw, tar: Callable[..., Path], beside: str
) -> None:
    write(tmp_path / "more" / "train-0.parquet", {"image": cells(picture()), "text": ["one"]})
    write(tmp_path / "statistics.parquet", {"key": ["0"], "caption": ["as img2dataset writes it"]})
    if beside == "shards":
        tar(tmp_path / "0.tar", [("0.png", picture()), ("0.txt", b"a caption")])
    else:
        (tmp_path / "0.png").write_bytes(picture())
        (tmp_path / "0.txt").write_text("a caption")
    if beside == "table":
        (tmp_path / "0.txt").unlink()
        (tmp_path / "metadata.csv").write_text("file_name,caption\n0.png,a caption\n")
    source = open_source(str(tmp_path))
    assert isinstance(source, ListedSource)
    assert [source.captions(index) for index in range(len(source))] == [("a caption",)]
    assert [(one.name, one.reason) for one in source.omitted] == [("more/train-0.parquet", OTHER_DATASET)]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, picture: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", {"image": cells(picture()), "text": ["one"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"1 tables such as a\.parquet.*name a table, such as .*a\.parquet"):
        open_source(str(tmp_path))
    with pytest.raises(DataError, match=r"pyarrow is not installed.*trencadis\[parquet\]"):
        open_source(str(path))


def test_threads_read_a_row_group_once(tmp_path: Path, picture: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"image": cells(*[picture()] * 64), "text": ["x"] * 64}
    source = parquet.ParquetSource([write(tmp_path / "a.parquet", columns, row_group_size=16)])
    opened = Mock(wraps=parquet._opened)
    monkeypatch.setattr(parquet, "_opened", opened)
    assert list(prefetch(source.image_bytes, range(64), workers=8, ahead=16)) == [picture()] * 64
    assert opened.call_count == 4


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "KEPT_BYTES", 2_000_000)
    raws = [bytes([number]) * 500_000 for number in range(40)]
    path = write(tmp_path / "a.parquet", {"image": cells(*raws), "text": ["x"] * 40}, row_group_size=2)
    source = parquet.ParquetSource([path])
    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    for index in range(40):
        assert source.image_bytes(index) == raws[index]
    assert pyarrow.total_allocated_bytes() - before < 6_000_000
    assert tracemalloc.get_traced_memory()[1] < 6_000_000
    tracemalloc.stop()
