import builtins
import errno
import os
import random
import resource
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from trencadis.errors import CheckpointError, StorageError
from trencadis.training.checkpoints import Checkpoint, CheckpointWarning, load_latest, save_checkpoint

LEFT_BY = "0123abcd"  # the random part of a leftover's name


def tensors_of(step: int) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(8, 6, generator=generator)
    return {
        "model": {"weight": weight, "tied": weight, "half": weight.bfloat16(), "turned": weight.T},
        "optimizer": {"weight/step": torch.tensor(float(step)), "seen": torch.arange(step), "none": torch.zeros(0)},
    }


def save(directory: Path, step: int, keep: int = 2) -> Path:
    return save_checkpoint(directory, step, tensors_of(step), {"step": step, "rate": 0.1 + 0.2}, keep=keep)


def assert_is(checkpoint: Checkpoint | None, step: int) -> None:
    assert checkpoint is not None
    assert checkpoint.step == step
    assert checkpoint.path.name == f"step-{step:08d}"
    assert checkpoint.meta == {"step": step, "rate": 0.1 + 0.2}
    for group, named in tensors_of(step).items():
        assert checkpoint.tensors[group].keys() == named.keys()
        for name, tensor in named.items():
            assert checkpoint.tensors[group][name].dtype == tensor.dtype
            assert torch.equal(checkpoint.tensors[group][name], tensor)


def load_quietly(directory: Path) -> Checkpoint | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        return load_latest(directory)


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    path = save(tmp_path / "run" / "image", 1234)
    assert path == tmp_path / "run" / "image" / "step-00001234"
    assert sorted(p.name for p in path.iterdir()) == [
        "manifest.json",
        "meta.json",
        "model.safetensors",
        "optimizer.safetensors",
    ]
    assert (path.parent / "latest").read_text() == "step-00001234\n"
    assert_is(load_latest(path.parent), 1234)


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "absent") is None
    assert load_latest(tmp_path) is None


def test_only_the_newest_two_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000002", "step-00000003"]


def test_going_back_removes_the_abandoned_future(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, step)
    save(tmp_path, 15)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000010", "step-00000015"]


def test_a_step_saved_again_replaces_the_first(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 7, {"model": {}}, {"other": True})
    save(tmp_path, 7)
    assert_is(load_latest(tmp_path), 7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000007"]


def test_checkpoint_is_not_tied_to_the_file_it_came_from(tmp_path: Path) -> None:
    save(tmp_path, 3)
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None
    checkpoint.tensors["model"]["weight"].zero_()
    shutil.rmtree(checkpoint.path)
    assert torch.equal(checkpoint.tensors["model"]["tied"], tensors_of(3)["model"]["tied"])


def damage(path: Path, rng: random.Random) -> None:
    """Flip a bit of a file, or cut it short."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.25:
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def test_no_damage_is_silent(tmp_path: Path) -> None:
    save(tmp_path / "saved", 1)
    latest = save(tmp_path / "saved", 2)
    names = sorted(p.name for p in latest.iterdir())
    rng = random.Random(0)
    for number in range(200):
        directory = tmp_path / str(number)
        shutil.copytree(tmp_path / "saved", directory)
        name = names[number % len(names)]
        damage(directory / latest.name / name, rng)
        # A damaged manifest accuses a file that it does not fit.
        with pytest.warns(CheckpointWarning, match=f"{latest.name} .*{'json|tensors' if 'manifest' in name else name}"):
            assert_is(load_latest(directory), 1)
        shutil.rmtree(directory)


def test_every_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    latest = save(tmp_path, 2)
    intact = (latest / "manifest.json").read_bytes()
    for position in range(len(intact)):
        content = bytearray(intact)
        content[position] ^= 1 << position % 8
        (latest / "manifest.json").write_bytes(content)
        with pytest.raises(CheckpointError, match="step-00000002"):
            load_latest(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "meta.json", "model.safetensors", "optimizer.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 2) / name).unlink()
    with pytest.warns(CheckpointWarning, match=name):
        assert_is(load_latest(tmp_path), 1)


def test_a_checkpoint_under_another_step_is_damaged(tmp_path: Path) -> None:
    path = save(tmp_path, 2)
    path.rename(tmp_path / "step-00000003")
    (tmp_path / "latest").write_text("step-00000003\n")
    with pytest.raises(CheckpointError, match="manifest"):
        load_latest(tmp_path)


def test_none_valid_is_an_error_that_names_each(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step) / "meta.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"(?s)step-00000002.*meta.json.*step-00000001"):
        load_latest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"step-0000", b"step-00000009\n", b"\xff\xfe", b"../elsewhere\n"])
def test_a_damaged_pointer_is_named_and_the_newest_taken(tmp_path: Path, content: bytes) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    (tmp_path / "latest").write_bytes(content)
    with pytest.warns(CheckpointWarning, match="latest"):
        assert_is(load_latest(tmp_path), 2)


def test_a_pointer_to_nothing_is_said(tmp_path: Path) -> None:
    shutil.rmtree(save(tmp_path, 1))
    with pytest.warns(CheckpointWarning, match="there is no checkpoint"):
        assert load_latest(tmp_path) is None


def test_leftovers_of_killed_processes_are_swept(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for name in (f".step-00000002.{LEFT_BY}.partial", f".step-00000001.{LEFT_BY}.old", ".step-00000002.4242.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    (tmp_path / f".latest.{LEFT_BY}.partial").write_text("step-0000")
    assert_is(load_latest(tmp_path), 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000001"]


def test_a_replacement_cut_off_between_its_renames_is_undone(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    path.rename(tmp_path / f".{path.name}.{LEFT_BY}.old")
    assert_is(load_latest(tmp_path), 1)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it, and nothing works after it."""


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException, *, for_good: bool
) -> Iterator[list[str]]:
    """Make the operation number `count` on the file system fail, and those after it too where it is `for_good`."""
    made: list[str] = []

    def step(name: str) -> None:
        made.append(name)
        if len(made) == count or (for_good and len(made) > count):
            raise error

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            step(name)
            return function(*args, **kwargs)

        return call

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        step(f"open {mode}")
        stream: Any = real_open(file, mode, *args, **kwargs)
        if mode.startswith("w"):
            stream.write = counted("write", stream.write)
        return stream

    real_open = builtins.open
    with monkeypatch.context() as patch:
        for name in ("open", "fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "listdir"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        patch.setattr("trencadis.training.checkpoints.save_file", counted("save_file", save_file))
        patch.setattr(Path, "write_bytes", counted("write_bytes", Path.write_bytes))
        patch.setattr(Path, "write_text", counted("write_text", Path.write_text))
        patch.setattr(builtins, "open", opened)
        yield made


def prepared(directory: Path, saved: tuple[int, ...]) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    for step in saved:
        save(directory, step)
    (directory / f".step-00000009.{LEFT_BY}.partial").mkdir()
    return directory


@pytest.mark.parametrize(("saved", "keep"), [((1,), 1), ((1, 2), 2), ((1, 3), 2)])
@pytest.mark.parametrize("for_good", [False, True])
def test_any_operation_may_fail_once_or_be_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: tuple[int, ...], keep: int, for_good: bool
) -> None:
    """Saving step 3 over what is there: each failure leaves the last one or the new one loadable, never neither."""
    directory = tmp_path / "stage"
    for count in range(1, 1000):
        prepared(directory, saved)
        error = Killed() if for_good else OSError(errno.EIO, os.strerror(errno.EIO))
        raised: BaseException | None = None
        with failing(monkeypatch, count, error, for_good=for_good) as made:
            try:
                save(directory, 3, keep)
            except (Killed, StorageError) as caught:
                raised = caught
        if count > len(made):
            break
        loaded = load_latest(directory)
        assert loaded is not None
        assert_is(loaded, loaded.step)
        assert loaded.step == 3 or (raised is not None and loaded.step == saved[-1]), made[-1]
        save(directory, 4)
        assert_is(load_latest(directory), 4)
        assert {p.name for p in directory.iterdir()} <= {"latest", "step-00000004", loaded.path.name, "step-00000003"}
    else:
        pytest.fail("there is no end to the operations")
    assert count > 30
    assert {"fsync", "rename", "replace", "save_file", "write_text"} <= set(made)


def test_any_read_may_fail_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    unlisted = 0
    for count in range(1, 1000):
        with failing(monkeypatch, count, OSError(errno.EIO, os.strerror(errno.EIO)), for_good=False) as made:
            try:
                loaded = load_quietly(tmp_path)
            except CheckpointError:
                unlisted += 1
                continue
        if count > len(made):
            break
        assert loaded is not None
        assert_is(loaded, loaded.step)
    assert count > 5
    assert unlisted == 2


def test_a_full_disk_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("trencadis.training.checkpoints.save_file", full)
        with pytest.raises(StorageError, match=r"no space left.*free some space"):
            save(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000001"]
    assert_is(load_latest(tmp_path), 1)


@pytest.mark.parametrize("size_bytes", [10, 100, 500])
def test_what_the_kernel_refuses_leaves_the_last_one(tmp_path: Path, size_bytes: int) -> None:
    """The limit on a file's size is the one refusal that needs no file system of one's own."""
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        with pytest.raises(StorageError, match="file too large"):
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000001"]
    assert_is(load_latest(tmp_path), 1)
