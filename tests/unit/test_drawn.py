"""What is written of pictures that were drawn: nothing is lost, and nothing is replaced."""

import dataclasses
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from trencadis.data import read_picture
from trencadis.drawn import Drawn, Record, read_record
from trencadis.errors import StorageError
from trencadis.sampling import Sampling

RECORD = Record(prompt="a ring", seed=5, sampling=Sampling(), model="tiny", torch="2")
TOKENS = torch.zeros(1, 4, 4, dtype=torch.long)
IMAGE = Image.new("RGB", (16, 16), "red")


def saved(directory: Path, record: Record = RECORD, image: Image.Image = IMAGE) -> Path:
    (path,) = Drawn([image], [record], TOKENS).save(directory)
    return path


def test_the_same_pixels_with_another_record_are_another_picture(tmp_path: Path) -> None:
    first = saved(tmp_path)
    written = first.read_bytes(), first.stat().st_mtime_ns
    assert saved(tmp_path) == first
    assert (first.read_bytes(), first.stat().st_mtime_ns) == written, "the same picture is left as it is"
    for change in ({"model": "other"}, {"prompt": "A Ring!"}, {"torch": "9"}, {"weights": "int8"}):
        other = dataclasses.replace(RECORD, **change)  # type: ignore[arg-type]
        path = saved(tmp_path, other)
        assert path != first
        assert read_record(read_picture(path)) == other
    assert first.read_bytes() == written[0]
    assert len(list(tmp_path.iterdir())) == 5


def test_a_file_of_any_kind_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a-ring-5.png").write_bytes(b"mine")
    (tmp_path / "a-ring-5-2.png").mkdir()
    (tmp_path / "a-ring-5-3.png").symlink_to(tmp_path / "absent")
    assert saved(tmp_path) == tmp_path / "a-ring-5-4.png"
    assert (tmp_path / "a-ring-5.png").read_bytes() == b"mine"
    assert not (tmp_path / "absent").exists()


AWKWARD = [
    "💔",
    "⭐",
    ".",
    "",
    "CON",
    "con",
    "nul",
    "a/b",
    "a" * 4000,
    "a" * 3999 + "b",
    "\udcff",
    "é",
    "e\u0301",
    "\x1b[2J",
]


def test_a_file_system_without_links_loses_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    paths = [saved(tmp_path, image=Image.new("RGB", (4, 4), (shade, 0, 0))) for shade in (1, 2, 1)]
    assert [path.name for path in paths] == ["a-ring-5.png", "a-ring-5-2.png", "a-ring-5.png"]
    assert len(list(tmp_path.iterdir())) == 2

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="no space left"):
        saved(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_every_prompt_has_a_file_of_its_own_with_its_exact_text(tmp_path: Path) -> None:
    paths = [saved(tmp_path, dataclasses.replace(RECORD, prompt=text)) for text in AWKWARD]
    assert len({path.name.casefold() for path in paths}) == len(AWKWARD), "also where case is ignored"
    assert [read_record(read_picture(path)).prompt for path in paths] == AWKWARD


def test_two_that_save_at_once_lose_nothing(tmp_path: Path) -> None:
    shades = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in range(16)]
    with ThreadPoolExecutor(8) as threads:
        paths = list(threads.map(lambda image: saved(tmp_path, image=image), shades))
    assert len(set(paths)) == 16
    assert sorted(read_picture(path).getpixel((0, 0))[0] for path in paths) == list(range(16))  # type: ignore[index]
    assert len(list(tmp_path.iterdir())) == 16
