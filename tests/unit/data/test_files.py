import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trencadis.data import open_source
from trencadis.data.files import SizedSource
from trencadis.errors import DataError
from trencadis.protocols import PairSource


def ids(source: PairSource) -> list[str]:
    return [source.sample_id(index) for index in range(len(source))]


def test_folder_is_read_in_order_with_its_captions(folder: Path) -> None:
    source = open_source(str(folder))
    assert isinstance(source, PairSource)
    assert isinstance(source, SizedSource)
    assert ids(source) == ["a.jpg", "b.PNG", "more/c.webp"]
    assert source.captions(0) == ("a lime square", "the colour lime")
    assert source.image_bytes(1) == (folder / "b.PNG").read_bytes()
    assert source.image_size_bytes(1) == len(source.image_bytes(1))
    assert source.weight(2) == 1.0


def test_links_to_folders_are_followed_and_rings_are_not(folder: Path, tmp_path: Path) -> None:
    (folder / "ring").symlink_to(folder)
    elsewhere = tmp_path / "linked"
    elsewhere.symlink_to(folder / "more")
    assert ids(open_source(str(folder))) == ["a.jpg", "b.PNG", "more/c.webp"]
    assert ids(open_source(str(elsewhere))) == ["c.webp"]


def test_byte_order_mark_is_no_part_of_the_caption(folder: Path) -> None:
    (folder / "a.txt").write_bytes("\ufeffein Tagebuch\r\nzwei\r\n".encode())
    assert open_source(str(folder)).captions(0) == ("ein Tagebuch", "zwei")


def test_caption_that_is_no_utf8_is_refused_alone(folder: Path) -> None:
    (folder / "a.txt").write_bytes("ein Königreich".encode("latin-1"))
    source = open_source(str(folder))
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8 at byte 5"):
        source.captions(0)
    assert source.captions(1)


def test_huge_caption_file_is_not_read(folder: Path) -> None:
    with open(folder / "a.txt", "wb") as file:
        file.truncate(10**12)
    with pytest.raises(DataError, match="1,000,000,000,000 bytes"):
        open_source(str(folder)).captions(0)


def test_picture_without_caption_has_none(folder: Path) -> None:
    (folder / "a.txt").unlink()
    assert open_source(str(folder)).captions(0) == ()


def test_picture_that_is_gone_is_named(folder: Path) -> None:
    source = open_source(str(folder))
    (folder / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"cannot read .*a\.jpg: no such file"):
        source.image_bytes(0)
    assert isinstance(source, SizedSource)
    assert source.image_size_bytes(0) == -1


def test_pipe_in_the_place_of_a_picture_does_not_hang(folder: Path) -> None:
    (folder / "a.jpg").unlink()
    os.mkfifo(folder / "a.jpg")
    with pytest.raises(DataError, match="not a regular file"):
        open_source(str(folder)).image_bytes(0)


def test_name_that_is_no_text_gets_an_id_that_is(folder: Path, picture: Callable[..., bytes]) -> None:
    name = os.fsdecode(b"z\xff.png")
    try:
        (folder / name).write_bytes(picture())
    except OSError:
        pytest.skip("the file system takes no such name")
    source = open_source(str(folder))
    assert ids(source)[-1] == "z\\xff.png"
    assert source.image_bytes(3) == picture()


def test_folder_that_cannot_be_read_is_not_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read .*more: permission denied"):
        open_source(str(folder))


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture") as caught:
        open_source(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_folder_without_any_caption_says_what_to_do(folder: Path) -> None:
    for path in folder.rglob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match=r"3 pictures .* without a caption.*put a \.txt of the same name"):
        open_source(str(folder))
