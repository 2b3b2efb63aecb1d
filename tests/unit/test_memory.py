"""Too little memory is said as such, whatever raises it and whatever it was taken for on its way."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

import trencadis.data.image_files as image_files
from tests.corpus.drawing import encoded, quarters
from trencadis.config import FilterConfig
from trencadis.data import KeptPair, decode_picture, open_source, read_picture
from trencadis.data.crops import Pictures
from trencadis.data.curation import examine
from trencadis.errors import DataError, FullMemoryError, ModelError, PictureError, RunError
from trencadis.memory import in_memory, is_full_memory
from trencadis.pretrained import load_weights
from trencadis.ranking import rank
from trencadis.text import CaptionTokenizer
from trencadis.training.checkpoints import load_latest, save_checkpoint

NO_ROOM = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
FULL = [
    MemoryError(),
    NO_ROOM,
    OSError("out of memory when reading image file"),  # Pillow
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"
    ),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("std::bad_alloc"),
    SafetensorError("Error while mapping: Cannot allocate memory (os error 12)"),
]
NOT_FULL = [
    FileNotFoundError(errno.ENOENT, "No such file or directory", "out of memory.png"),
    PictureError("cannot read out of memory.png", expected="a picture", remedy="check the path"),
    RuntimeError("Memory allocation error: Security limit exceeded"),  # libheif, of a file that claims too much
    OSError("image file is truncated"),
    KeyError("memory"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_too_little_memory_is_known(error: Exception) -> None:
    def damaged() -> None:
        try:
            raise error
        except Exception as taken:
            raise DataError("damaged", expected="whole", remedy="download it again") from taken

    assert is_full_memory(error)
    with pytest.raises(FullMemoryError, match=r"the memory is full: no room.* while reading; wait"):
        in_memory("reading", remedy="wait")(damaged)()


@pytest.mark.parametrize("error", NOT_FULL, ids=str)
def test_other_faults_stay_what_they_are(error: Exception) -> None:
    assert not is_full_memory(error)
    with pytest.raises(type(error)), in_memory("reading"):
        raise error


def test_the_message_says_how_much_and_where() -> None:
    with (
        pytest.raises(FullMemoryError) as caught,
        in_memory("reading a.png", remedy="x"),
        in_memory("decoding", remedy="shrink it"),
    ):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 243000000 bytes.")
    assert str(caught.value) == ("the memory is full: no room for 243 MB more while reading a.png: decoding; shrink it")
    assert isinstance(caught.value, RunError)
    assert isinstance(caught.value, MemoryError)


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no room for the pixels of PNGs."""

    def load(self: Image.Image) -> Any:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)


@pytest.mark.usefixtures("no_room")
def test_a_picture_without_room_is_not_damaged(tmp_path: Path) -> None:
    raw = encoded(quarters())
    with pytest.raises(FullMemoryError, match="while decoding 48 × 32 pixels"):
        decode_picture(raw, max_image_pixels=10_000)
    (tmp_path / "a.png").write_bytes(raw)
    with pytest.raises(FullMemoryError, match=r"while reading .*a\.png: decoding 48 × 32 pixels; close other"):
        read_picture(tmp_path / "a.png")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(encoded(quarters()))
        (tmp_path / f"{name}.txt").write_text("four colours")
    return tmp_path


@pytest.mark.usefixtures("no_room")
def test_a_pair_without_room_is_not_left_out(pairs: Path) -> None:
    with pytest.raises(FullMemoryError, match=r"while judging a\.png: decoding 48 × 32 pixels"):
        examine(open_source(str(pairs)), FilterConfig())
    kept = [KeptPair(0, "a.png", ("four colours",), 1.0, (32, 48))]
    with pytest.raises(FullMemoryError, match=r"reading the picture of a\.png: decoding"):
        Pictures(open_source(str(pairs)), kept, (16, 16)).crop(0)


def test_a_file_that_the_system_has_no_room_for_is_not_left_out(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, most_bytes: int) -> bytes:
        raise NO_ROOM

    source = open_source(str(pairs))
    monkeypatch.setattr("trencadis.data.files.read_regular_file", refuse)
    with pytest.raises(FullMemoryError, match=r"judging a\.png"):
        examine(source, FilterConfig())


def test_a_header_without_room_is_not_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(raw: bytes, limit: int | None) -> Any:
        raise MemoryError

    monkeypatch.setattr(image_files, "open_picture", refuse)
    with pytest.raises(FullMemoryError):
        image_files.picture_size(b"")


def test_weights_without_room_are_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise SafetensorError("Cannot allocate memory (os error 12)")

    monkeypatch.setattr("trencadis.pretrained.load_file", refuse)
    with pytest.raises(FullMemoryError, match=r"loading .*model\.safetensors"):
        load_weights(tmp_path)


def test_a_checkpoint_without_room_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"model": {"weight": torch.ones(3)}}, {}, keep=2)

    def refuse(path: Path, step: int) -> Any:
        raise NO_ROOM

    monkeypatch.setattr("trencadis.training.checkpoints._read", refuse)
    with pytest.raises(FullMemoryError, match=r"loading the checkpoint .*step-00000002"):
        load_latest(tmp_path)


def test_a_tokenizer_without_room_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def from_file(path: str) -> Any:
            raise MemoryError

    monkeypatch.setattr("trencadis.text.tokenizer.Tokenizer", Library)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FullMemoryError, match=r"loading .*tokenizer\.json"):
        CaptionTokenizer.from_pretrained(tmp_path)


class Full:
    """A part that has no room for anything."""

    def score(self, images: torch.Tensor, prompt: str) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def to(self, device: Any) -> "Full":
        return self


def test_ranking_says_what_to_lower() -> None:
    with pytest.raises(FullMemoryError, match=r"2\.00 GiB more while ranking 3 pictures; rank fewer at once"):
        rank(torch.zeros(3, 3, 8, 8), "a ring", ranker=Full(), keep=1)


def test_a_model_error_of_too_little_memory_is_said_as_such() -> None:
    from trencadis.cli.faults import explain

    try:
        try:
            raise SafetensorError("Cannot allocate memory (os error 12)")
        except SafetensorError as error:
            raise ModelError("model.safetensors cannot be read", expected="a whole file", remedy="save it") from error
    except ModelError as error:
        line, code = explain(error)
    assert line.startswith("error: the memory is full")
    assert code == 1
    line, code = explain(FullMemoryError("drawing", remedy="lower batch_size"))
    assert (line, code) == ("error: the memory is full: no room while drawing; lower batch_size", 1)
