import errno
import hashlib
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image

from trencadis.errors import StorageError
from trencadis.storage import (
    MAX_NAME_BYTES,
    is_sheet,
    require_writable,
    sha256,
    user_path,
    user_storage,
    whole_directory,
    write_new,
    write_sheet,
    write_whole,
)


def full_disk(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b" / "file.txt", "mosaic ·")
    assert (tmp_path / "a" / "b" / "file.txt").read_text("utf-8") == "mosaic ·"
    assert names(tmp_path / "a" / "b") == ["file.txt"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file.txt"
    write_whole(path, "old")
    monkeypatch.setattr(*{"fsync": (os, "fsync", full_disk), "replace": (Path, "replace", full_disk)}[failing])
    with pytest.raises(StorageError, match="no space left on device; expected a writable place with room; free some"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_device_is_written_into_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, "tiles")
        assert os.read(reader, 100) == b"tiles"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("target.txt")
    write_whole(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "target.txt").read_text() == "new"
    assert names(tmp_path) == ["link.txt", "target.txt"]


def test_a_directory_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(StorageError, match="a file is in its place"), whole_directory(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "mine"
    assert names(tmp_path) == ["model"]


def test_a_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with whole_directory(path) as directory:
        (directory / "config.json").write_text("{}")
        assert not path.exists()
    assert [entry.name for entry in path.iterdir()] == ["config.json"]
    assert names(tmp_path) == ["model"]


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for name in ("old.json", "new.json"):
        with whole_directory(path) as directory:
            (directory / name).write_text("{}")
    assert names(path) == ["new.json"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_directory_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "model"
    with whole_directory(path) as directory:
        (directory / "old.json").write_text("{}")
    monkeypatch.setattr(*{"fsync": (os, "fsync", full_disk), "rename": (Path, "rename", full_disk)}[failing])
    with pytest.raises(StorageError), whole_directory(path) as directory:
        (directory / "new.json").write_text("{}")
    assert names(path) == ["old.json"]
    assert names(tmp_path) == ["model"]


def test_a_directory_whose_replacement_fails_half_way_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    with whole_directory(path) as directory:
        (directory / "old.json").write_text("{}")
    rename = Path.rename

    def refuse_the_new(self: Path, target: Path) -> Path:
        return full_disk() if self.name.endswith(".partial") else rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(StorageError), whole_directory(path):
        pass
    assert names(path) == ["old.json"]
    assert names(tmp_path) == ["model"]


def test_an_exception_inside_is_the_callers_own_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_directory(tmp_path / "model"):
        _ = 1 // 0
    assert names(tmp_path) == []


def test_a_parent_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/model"), whole_directory(tmp_path / "file" / "model"):
        pass


def test_a_full_disk_is_known_by_a_foreign_librarys_words(tmp_path: Path) -> None:
    class RustError(Exception):
        pass

    with pytest.raises(StorageError, match="no space left"), user_storage(tmp_path):
        raise RustError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RustError, match="else"), user_storage(tmp_path):
        raise RustError("something else")


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"tiles" * 100_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"tiles" * 100_000).hexdigest()


def test_a_new_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write_new(path, b"one")
    assert not write_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["file"]


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    longest = "é" * (MAX_NAME_BYTES // 2) + "x"
    write_whole(tmp_path / longest, "whole")
    assert write_new(tmp_path / longest[1:], b"new")
    assert len(names(tmp_path)) == 2
    with pytest.raises(StorageError, match="file name too long; expected a writable place with room; choose a shorter"):
        write_whole(tmp_path / (longest + "x"), "whole")


def test_a_place_is_tried_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "absent" / "file")
    for right in ("", "file", "new", "new/one/two", "link", "n" * MAX_NAME_BYTES):
        require_writable(tmp_path / right)
    require_writable(Path("/dev/null"))
    wrong = {"file/new": "not a directory", "n" * (MAX_NAME_BYTES + 1): "file name too long"}
    for name, reason in wrong.items():
        with pytest.raises(StorageError, match=f"cannot write .*: {reason}"):
            require_writable(tmp_path / name)
    assert names(tmp_path) == ["file", "link"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the system has no /proc")
def test_a_file_system_that_takes_no_file_is_found_out() -> None:
    with pytest.raises(StorageError, match="cannot write /proc/new/file"):
        require_writable(Path("/proc/new/file"))


def test_a_path_is_read_as_a_shell_hands_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    home = str(tmp_path)
    for text in ("~/a b", '"~/a b"', "'~/a b'"):
        assert user_path(text) == f"{home}/a b"
    assert user_path("~") == home
    for text in ("a b", "./~", "a~", "~nobody-of-this-name/x", "'", "''", "it's", "'a\"", ""):
        assert user_path(text) == text
    Path("'quoted'").touch()
    assert user_path("'quoted'") == "'quoted'", "a file that is there has this name"


def test_a_sheet_is_known_again(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    write_sheet(tmp_path / "sheet.png", picture)
    picture.save(tmp_path / "picture.png")
    (tmp_path / "empty").touch()
    known = {name: is_sheet(tmp_path / name) for name in ("sheet.png", "picture.png", "empty", "absent", ".")}
    assert [name for name, is_one in known.items() if is_one] == ["sheet.png", "absent"]
