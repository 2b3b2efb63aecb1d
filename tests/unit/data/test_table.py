import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from trencadis.data import open_source
from trencadis.errors import DataError

Table = Callable[..., Path]
ROWS = (
    {"file_name": "a.png", "captions": ["a square", " a red one "], "weight": 0.5},
    {"file_name": "b.png", "caption": "another square"},
)


def test_jsonl(table: Table) -> None:
    path = table(*ROWS)
    for place in (path, path.parent):
        source = open_source(str(place))
        assert [source.sample_id(index) for index in range(2)] == ["a.png", "b.png"]
        assert source.captions(0) == ("a square", "a red one")
        assert (source.weight(0), source.weight(1)) == (0.5, 1.0)
        assert source.image_bytes(1) == (path.parent / "b.png").read_bytes()


@pytest.mark.parametrize("file_column", ["file_name", "file", "image"])
@pytest.mark.parametrize("caption_column", ["caption", "captions", "text"])
def test_column_names(table: Table, file_column: str, caption_column: str) -> None:
    source = open_source(str(table({file_column: "a.png", caption_column: "a square"})))
    assert source.captions(0) == ("a square",)


def test_csv(table: Table) -> None:
    path = table().with_suffix(".csv")
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["file_name", "text", "weight"], ["a.png", 'a "red",\nsquare', "0.25"], ["b.png", "b", ""]])
    source = open_source(str(path))
    assert source.captions(0) == ('a "red",\nsquare',)
    assert (source.weight(0), source.weight(1)) == (0.25, 1.0)


def test_parquet(table: Table) -> None:
    path = table().with_suffix(".parquet")
    columns = {"file_name": ["a.png", "b.png"], "captions": [["one", "two"], ["three"]], "more": [1, 2]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    source = open_source(str(path))
    assert (source.captions(0), source.captions(1)) == (("one", "two"), ("three",))


def test_parquet_without_pyarrow_says_what_to_install(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table().with_suffix(".parquet")
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'trencadis\[parquet\]'"):
        open_source(str(path))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_damaged_parquet_is_refused(table: Table, content: bytes) -> None:
    path = table().with_suffix(".parquet")
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as parquet"):
        open_source(str(path))


def test_rows_of_one_picture_are_one_pair(table: Table) -> None:
    rows = [{"file_name": name, "caption": caption} for name, caption in (("a.png", "1"), ("b.png", "2"))]
    source = open_source(str(table(*rows, {"file_name": "./a.png", "caption": "3", "weight": 0.5})))
    assert [source.sample_id(index) for index in range(len(source))] == ["a.png", "b.png"]
    assert source.captions(0) == ("1", "3")
    assert source.weight(0) == 1.0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: no JSON"),
        ("[" * 100_000, "line 2: no JSON"),
        ("[1]", "line 2: a JSON list"),
        ({"file_name": "\ud800.png"}, "line 2: the path"),
        ({"file_name": "a\0.png"}, "line 2: the path"),
        ({"file_name": "."}, "line 2: the path"),
        ({"caption": "a"}, "line 2: no file_name or file or image"),
        ({"file_name": 3}, "line 2: no file_name"),
        ({"file_name": "../a.png", "caption": "a"}, "line 2: the path '../a.png'"),
        ({"file_name": "x/../../a.png", "caption": "a"}, "line 2: the path"),
        ({"file_name": "/etc/passwd", "caption": "a"}, "line 2: the path '/etc/passwd'"),
        ({"file_name": "C:/a.png", "caption": "a"}, "line 2: the path"),
        ({"file_name": "a.png", "caption": 3}, "line 2: a caption that is not text"),
        ({"file_name": "a.png", "captions": ["a", None]}, "line 2: a caption that is not text"),
        ({"file_name": "a.png", "weight": 0}, "line 2: weight 0"),
        ({"file_name": "a.png", "weight": 1.5}, "line 2: weight 1.5"),
        ({"file_name": "a.png", "weight": "much"}, "line 2: weight 'much'"),
        ({"file_name": "a.png", "weight": [1]}, "line 2: weight"),
        ({"file_name": "a.png", "weight": 10**400}, "line 2: weight"),
    ],
)
def test_broken_row_is_refused_by_its_line(table: Table, row: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        open_source(str(table(ROWS[0], row)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has the columns of an empty file"),
        (b"path,caption\na.png,a\n", "has the columns path, caption"),
        (b"file_name,caption\na.png\n", "line 2: a row with more or fewer cells"),
        (b"file_name,caption\na.png,a,b\n", "line 2: a row with more or fewer cells"),
        (b'file_name,caption\na.png,"a" b\n', "line 2: no CSV"),
        (b"file_name,caption\na.png,\xff\n", "is not UTF-8"),
        (b"file_name,caption\n", "has no row"),
    ],
)
def test_broken_csv_is_refused(table: Table, content: bytes, message: str) -> None:
    path = table().with_suffix(".csv")
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_source(str(path))
    assert message in str(caught.value)


def test_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at"):
        open_source(str(tmp_path / "metadata.jsonl"))


def test_empty_table_is_refused(table: Table) -> None:
    with pytest.raises(DataError, match="has no row"):
        open_source(str(table("")))


def test_half_of_a_surrogate_pair_is_no_part_of_a_caption(table: Table) -> None:
    source = open_source(str(table('{"file_name": "a.png", "caption": "a \\ud83d square 🐈"}')))
    assert source.captions(0) == ("a ? square 🐈",)


def test_missing_picture_is_found_when_it_is_read(table: Table) -> None:
    source = open_source(str(table({"file_name": "gone.png", "caption": "a"})))
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        source.image_bytes(0)
