from pathlib import Path

import pytest

from trencadis.cli.arguments import Kind, UnfitValueError, existing_directory, integer, output_directory, real
from trencadis.errors import StorageError

RANGES: list[tuple[Kind[int] | Kind[float], str, list[object], list[object]]] = [
    (integer(2), "a whole number of 2 or more", ["2", "9", 3], ["1", "-2", "3.0", "one", "", None, True]),
    (integer(1, 8), "a whole number in 1..8", ["1", "8"], ["0", "9"]),
    (real(0), "a number of 0 or more", ["0", "0.1", "1e3", 2], ["-0.1", "nan", "inf", "-inf", "x", ""]),
    (real(0, low_open=True), "a number above 0", ["0.1"], ["0", "-1"]),
    (real(0, 1), "a number in [0, 1]", ["0", "1"], ["-0.1", "1.1"]),
    (real(0, 1, low_open=True), "a number in (0, 1]", ["0.1", "1"], ["0", "1.1"]),
]


@pytest.mark.parametrize(("kind", "expected", "right", "wrong"), RANGES, ids=[row[1] for row in RANGES])
def test_a_range_takes_what_is_in_it(
    kind: Kind[int] | Kind[float], expected: str, right: list[object], wrong: list[object]
) -> None:
    assert kind.expected == expected
    for value in right:
        assert kind(value) == float(str(value))
    for value in wrong:
        with pytest.raises(UnfitValueError) as refusal:
            kind(value)
        assert (refusal.value.value, refusal.value.kind.expected) == (str(value), expected)


@pytest.mark.parametrize("kind", [row[0] for row in RANGES], ids=[row[1] for row in RANGES])
def test_what_a_remedy_gives_as_an_example_is_right(kind: Kind[int] | Kind[float]) -> None:
    kind(kind.remedy.removeprefix("give one such as "))


def test_an_example_of_ones_own_is_given() -> None:
    assert real(0, 1, example=0.95).remedy == "give one such as 0.95"
    assert integer(1, example=32).remedy == "give one such as 32"


def test_a_value_that_was_read_is_read_again_to_the_same(tmp_path: Path) -> None:
    for kind, text in ((integer(0), "12"), (real(0), "0.1"), (existing_directory(), str(tmp_path))):
        assert kind(kind(text)) == kind(text)


def test_a_folder_for_output_is_there_or_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert output_directory()(tmp_path) == tmp_path
    assert output_directory()(tmp_path / "new" / "one") == tmp_path / "new" / "one"
    with pytest.raises(UnfitValueError, match="expected a folder, there already or not; check the path"):
        output_directory()(tmp_path / "file")
    with pytest.raises(UnfitValueError):
        output_directory()("")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert output_directory()(".") == Path()
    with pytest.raises(UnfitValueError):
        output_directory()("~nobody-of-this-name/out")
    with pytest.raises(StorageError, match="not a directory"):
        output_directory()(tmp_path / "file" / "out")
    assert existing_directory()("~") == tmp_path
