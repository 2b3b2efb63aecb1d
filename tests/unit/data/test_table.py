import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from trencadis.config import ReadingConfig
from trencadis.data import ListedSource, open_source
from trencadis.data.pairs import LONE_CAPTION, OTHER_DATASET, OTHER_FORMAT, UNLISTED
from trencadis.errors import DataError
from trencadis.protocols import PairSource

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


BROKEN = [
    ("{", "no JSON"),
    ("[" * 100_000, "no JSON"),
    ("[1]", "a JSON list in place of an object"),
    ({"file_name": "\ud800.png"}, "the path"),
    ({"file_name": "a\0.png"}, "the path"),
    ({"file_name": "."}, "the path"),
    ({"caption": "a"}, "no file_name or file or image that is a path (it has caption)"),
    ({"file_name": 3}, "no file_name"),
    ({"file_name": "../a.png", "caption": "a"}, "the path '../a.png', which is not in the table's folder"),
    ({"file_name": "x/../../a.png", "caption": "a"}, "the path"),
    ({"file_name": "..\\a.png", "caption": "a"}, "the path"),
    ({"file_name": "/etc/passwd", "caption": "a"}, "the path '/etc/passwd'"),
    ({"file_name": "~/a.png", "caption": "a"}, "the path"),
    ({"file_name": "C:/a.png", "caption": "a"}, "the path"),
    ({"file_name": "\\\\server\\a.png", "caption": "a"}, "the path"),
    ({"file_name": "https://example.org/a.png", "caption": "a"}, "the path"),
    ({"file_name": "a.png", "caption": 3}, "a caption that is not text"),
    ({"file_name": "a.png", "captions": ["a", None]}, "a caption that is not text"),
    ({"file_name": "a.png", "weight": 0}, "weight '0'"),
    ({"file_name": "a.png", "weight": 1.5}, "weight '1.5'"),
    ({"file_name": "a.png", "weight": "much"}, "weight 'much'"),
    ({"file_name": "a.png", "weight": [1]}, "weight"),
    ({"file_name": "a.png", "weight": 10**400}, "weight"),
]


def ids(source: PairSource) -> list[str]:
    return [source.sample_id(index) for index in range(len(source))]


def omitted(source: PairSource) -> list[tuple[str, str]]:
    assert isinstance(source, ListedSource)
    return [(one.name, one.reason) for one in source.omitted]


@pytest.mark.parametrize(("row", "message"), BROKEN)
def test_broken_row_is_left_out_by_its_line(table: Table, row: object, message: str) -> None:
    source = open_source(str(table(ROWS[0], row, ROWS[1])))
    assert ids(source) == ["a.png", "b.png"]
    assert isinstance(source, ListedSource)
    assert [(one.name, one.reason) for one in source.omitted] == [("metadata.jsonl, line 2", "broken row")]
    assert source.omitted[0].detail.startswith(message)


@pytest.mark.parametrize(("row", "message"), BROKEN)
def test_table_of_broken_rows_is_refused(table: Table, row: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        open_source(str(table(row)))
    assert f"line 1: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has the columns of an empty file; expected one of file_name, file"),
        (b"where,caption\na.png,a\n", "has the columns where, caption"),
        (b"file_name,Beschreibung\na.png,a\n", "has the columns file_name, beschreibung; expected captions in one of"),
        (b"file_name,caption\na.png\n", "line 2: 1 cells under a heading of 2 columns"),
        (b"file_name,caption\na.png,a,b\n", "line 2: 3 cells under a heading of 2 columns"),
        (b'file_name,caption\na.png,"a" b\n', "line 2: no CSV"),
        (b"file_name,caption\na.png,\xff\n", "line 2: not UTF-8"),
        (b"file_name,caption\n", "has no row"),
    ],
)
def test_broken_csv_is_refused(table: Table, content: bytes, message: str) -> None:
    path = table().with_suffix(".csv")
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_source(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_any_usual_delimiter(table: Table, tmp_path: Path, delimiter: str, ending: str, suffix: str) -> None:
    rows = [f"File_Name{delimiter} Caption ", f"a.png{delimiter} a square", f'b.png{delimiter}"a; b, c|d\te"']
    path = table().rename(tmp_path / f"metadata{suffix}")
    path.write_bytes(ending.join(rows).encode())
    source = open_source(str(path.parent))
    assert [source.captions(index) for index in range(2)] == [("a square",), ("a; b, c|d\te",)]


def test_table_as_a_spreadsheet_saves_it(table: Table) -> None:
    path = table().with_suffix(".csv")
    path.write_text("sep=;\nfile_name;caption\na.png;ein Königreich\n", "utf-16")
    assert open_source(str(path)).captions(0) == ("ein Königreich",)


def test_a_quote_that_nothing_closes_breaks_its_own_row(table: Table, tmp_path: Path) -> None:
    path = table().rename(tmp_path / "metadata.csv")
    path.write_text('file_name,caption\na.png,"a square\nb.png,another\n\nc.png,"two\nlines"\n')
    source = open_source(str(path))
    assert (ids(source), omitted(source)) == (
        ["b.png", "c.png"],
        [("metadata.csv, line 2", "broken row"), ("a.png", UNLISTED)],
    )
    assert source.captions(1) == ("two\nlines",)


def test_broken_bytes_break_their_own_row(table: Table) -> None:
    path = table()
    path.write_bytes(b'{"file_name": "a.png", "caption": "K\xf6nig"}\n{"file_name": "b.png", "caption": "b"}\n')
    source = open_source(str(path))
    assert (ids(source), omitted(source)) == (
        ["b.png"],
        [("metadata.jsonl, line 1", "broken row"), ("a.png", UNLISTED)],
    )


def test_the_first_filled_column_counts(table: Table) -> None:
    rows = [
        {"file_name": "a.png", "Caption": " ", "text": None, "PROMPT": "a prompt", "title": "a title"},
        {"file_name": "b.png", "caption": float("nan"), "captions": [], " Title ": "a title"},
    ]
    source = open_source(str(table(*rows)))
    assert [source.captions(index) for index in range(2)] == [("a prompt",), ("a title",)]


def test_columns_that_are_named(table: Table) -> None:
    rows = [{"file_name": "x.png", "Bild": "a.png", "Beschreibung": "ein Quadrat", "caption": "a square"}]
    path = str(table(*rows))
    source = open_source(path, ReadingConfig(caption_column="beschreibung", file_column=" bild"))
    assert (source.sample_id(0), source.captions(0)) == ("a.png", ("ein Quadrat",))
    with pytest.raises(
        DataError, match="has the columns file_name, bild, beschreibung, caption; expected captions in one of no"
    ):
        open_source(path, ReadingConfig(caption_column="no", file_column="bild"))


def test_paths_as_people_write_them(table: Table, tmp_path: Path, picture: Callable[..., bytes]) -> None:
    names = ["sub/c.png", "d:e.png", "back\\slash.png", " space.png", "\u00e9.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture())
    given = [
        *("sub\\c.png", "d:e.png", "back\\slash.png", " space.png", "e\u0301.png"),
        *("sub/../a.png", f"{tmp_path}/b.png", "./sub//c.png", '"a.png"', "B.PNG "),
    ]
    source = open_source(str(table(*({"file_name": name, "caption": "a"} for name in given))))
    assert ids(source) == [*names, "a.png", "b.png"]
    assert [len(source.captions(index)) for index in range(len(source))] == [2, 1, 1, 1, 1, 2, 2]
    assert omitted(source) == []


def test_absolute_paths_through_a_link(table: Table, tmp_path: Path) -> None:
    table()
    link = tmp_path.parent / "link"
    link.symlink_to(tmp_path)
    table({"file_name": str(link / "a.png"), "caption": "a"}, {"file_name": str(tmp_path / "b.png"), "caption": "b"})
    assert ids(open_source(str(link))) == ["a.png", "b.png"]
    link.unlink()


def test_what_a_table_does_not_list_is_counted(table: Table, tmp_path: Path, picture: Callable[..., bytes]) -> None:
    path = table(ROWS[0], {"file_name": "drawing.svg", "caption": "a drawing"})
    for name in ("sub/c.jpg", "d.svg", "drawing.svg", ".hidden.png", "data-check.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture())
    for name in ("lone.txt", "README.txt", "a.txt", "shard.tar", "metadata.csv"):
        (tmp_path / name).write_text("a caption")
    expected = [("b.png", UNLISTED), ("sub/c.jpg", UNLISTED), ("d.svg", OTHER_FORMAT), ("lone.txt", LONE_CAPTION)]
    expected += [("metadata.csv", OTHER_DATASET), ("shard.tar", OTHER_DATASET)]
    for place in (path, tmp_path):
        assert omitted(open_source(str(place))) == expected
    path.rename(tmp_path / "own.jsonl")
    assert omitted(open_source(str(tmp_path / "own.jsonl"))) == []


@pytest.mark.parametrize("held_out", ["validation", "val", "test", "Dev"])
def test_tables_of_splits(tmp_path: Path, picture: Callable[..., bytes], held_out: str) -> None:
    for split in ("train", held_out, "notes"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.png").write_bytes(picture())
        if split != "notes":
            (tmp_path / split / "metadata.jsonl").write_text('{"file_name": "a.png", "caption": "a"}\n{')
    source = open_source(str(tmp_path))
    assert set(ids(source)) == {"train/a.png", f"{held_out}/a.png"}
    assert isinstance(source, ListedSource)
    assert [source.sample_id(index) for index in source.held_out] == [f"{held_out}/a.png"]
    names = {f"{split}/metadata.jsonl, line 2" for split in ("train", held_out)}
    assert {one.name for one in source.omitted} == {"notes/a.png", *names}


def test_a_split_that_cannot_be_read_does_not_stop_the_other(table: Table, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    table(ROWS[1]).rename(tmp_path / "train" / "metadata.jsonl")
    (tmp_path / "val" / "metadata.csv").write_text("where\n")
    source = open_source(str(tmp_path))
    assert ids(source) == ["train/b.png"]
    assert ("val", "damaged table") in omitted(source)


def test_parquet_that_is_damaged_in_the_middle(table: Table) -> None:
    path = table().with_suffix(".parquet")
    rows = 5000
    columns = {
        "file_name": [f"{number}.png" for number in range(rows)],
        "caption": [f"c {number}" for number in range(rows)],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=1000, compression="zstd")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 200] = bytes(200)
    path.write_bytes(raw)
    source = open_source(str(path))
    assert len(source) == rows - 1000
    assert [one for one in omitted(source) if one[1] == "broken row"] == [
        ("metadata.parquet, rows 2001 to 3000", "broken row")
    ]


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
