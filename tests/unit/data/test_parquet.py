"""Parquet files with pictures in them, as the Hub and others write them."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trencadis.config import FilterConfig
from trencadis.config.data import ReadingConfig
from trencadis.data import open_source, parquet
from trencadis.data.curation import examine
from trencadis.data.pairs import BROKEN_ROW, DAMAGED_TABLE, LOOSE_PICTURE, ListedSource
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
