"""Checkpoints: each is a directory that appears whole, never changes, and is verified when it is read.

    step-00001234/
      model.safetensors    one file a group of tensors: model, ema, optimizer
      meta.json            what is not a tensor
      manifest.json        size and SHA-256 of the files above, written last
    latest                 the name of the directory to resume from

One process at a time works here: the one that holds the run's lock.
"""

import json
import shutil
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trencadis.errors import CheckpointError
from trencadis.memory import in_memory
from trencadis.run_directory import LATEST, MANIFEST, META, checkpoint_name, checkpoint_step
from trencadis.storage import sha256, sweep, sync_directory, user_storage, whole_directory, write_whole

_SUFFIX = ".safetensors"


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged, and an older one is used instead."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    path: Path
    step: int  # updates that had been made
    tensors: dict[str, dict[str, Tensor]]  # by group, then by name; on the CPU
    meta: dict[str, Any]  # as JSON returns it: tuples have become lists


def save_checkpoint(
    directory: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], meta: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write a checkpoint and make it the latest; a kill or a failure at any moment leaves the one before loadable.

    Args:
        directory: Of the stage; made where it is absent.
        step: Updates made so far.
        tensors: By group, then by name.
        meta: Anything that JSON can hold.
        keep: How many checkpoints stay, this one included. Later ones than `step` are removed too.

    Raises:
        StorageError: The place cannot be written; the latest checkpoint is the one before.
    """
    path = directory / checkpoint_name(step)
    with user_storage(directory):
        _make_directory(directory)
        sweep(directory)
    with whole_directory(path) as temporary:
        for group, named in tensors.items():
            save_file(_separate(named), temporary / f"{group}{_SUFFIX}")
        (temporary / META).write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
        names = [META, *(f"{group}{_SUFFIX}" for group in tensors)]
        (temporary / MANIFEST).write_bytes(_manifest(temporary, step, names))
    write_whole(directory / LATEST, path.name + "\n")
    with suppress(OSError):
        # What cannot be removed now stays until the next save; the checkpoint is safe.
        steps = _steps(directory)
        kept = [name for name, own in steps.items() if own <= step][:keep]
        for name in steps.keys() - set(kept):
            shutil.rmtree(directory / name, ignore_errors=True)
    return path


def load_latest(directory: Path) -> Checkpoint | None:
    """Return the latest checkpoint, every byte verified, or the newest valid one where the latest is damaged.

    Returns:
        None where there is no checkpoint at all.

    Raises:
        CheckpointError: There are checkpoints, and all are damaged; or the directory cannot be read.

    Warns:
        CheckpointWarning: Something was damaged; the warning names it, and what is used instead.
    """
    try:
        if not directory.is_dir():
            return None
        sweep(directory)
        steps = _steps(directory)
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be read: {error}") from error
    damaged: list[str] = []
    checkpoint = None
    for name in _by_preference(directory, steps, damaged):
        try:
            with in_memory(f"loading the checkpoint {directory / name}"):
                checkpoint = _read(directory / name, steps[name])
            break
        except (OSError, ValueError, SafetensorError) as error:
            damaged.append(f"{directory / name} ({error})")
    if steps and checkpoint is None:
        raise CheckpointError(f"no checkpoint can be loaded; damaged: {'; '.join(damaged)}")
    if damaged:
        used = "there is no checkpoint" if checkpoint is None else f"resuming from {checkpoint.path}"
        warnings.warn(f"damaged: {'; '.join(damaged)}; {used}", CheckpointWarning, stacklevel=2)
    return checkpoint


def _steps(directory: Path) -> dict[str, int]:
    """Return the steps of the checkpoints by their names, newest first."""
    steps = {path.name: step for path in directory.iterdir() if (step := checkpoint_step(path)) is not None}
    return dict(sorted(steps.items(), key=lambda named: named[1], reverse=True))


def _by_preference(directory: Path, names: Iterable[str], damaged: list[str]) -> list[str]:
    """Return the names with the one that is in `latest` first; a wrong `latest` is added to `damaged`."""
    names = list(names)
    pointer = directory / LATEST
    try:
        name = pointer.read_text("utf-8").removesuffix("\n")
    except FileNotFoundError:
        # The first save was cut off between the directory and `latest`.
        return names
    except (OSError, ValueError) as error:
        damaged.append(f"{pointer} ({error})")
        return names
    if name not in names:
        damaged.append(f"{pointer} (names {name!r:.40}, which is not there)")
    return sorted(names, key=lambda own: own != name)


def _read(path: Path, step: int) -> Checkpoint:
    """Verify and load one checkpoint.

    The manifest is made anew from the files and compared as text, so that it is itself verified.

    Raises:
        OSError: A file is absent or cannot be read.
        ValueError: A file has changed; the message names it.
    """
    stored = (path / MANIFEST).read_bytes()
    try:
        written = dict(json.loads(stored)["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(MANIFEST) from error
    found = _manifest(path, step, written)
    if found != stored:
        entries = json.loads(found)["files"]
        raise ValueError(", ".join(name for name in entries if entries[name] != written[name]) or MANIFEST)
    groups = {name.removesuffix(_SUFFIX): load_file(path / name) for name in written if name.endswith(_SUFFIX)}
    return Checkpoint(path=path, step=step, tensors=groups, meta=json.loads((path / META).read_text("utf-8")))


def _manifest(path: Path, step: int, names: Iterable[str]) -> bytes:
    """Return the manifest of these files as they are on the disk; the same files give the same bytes."""
    files = {
        name: {"sha256": sha256(path / name), "size_bytes": (path / name).stat().st_size} for name in sorted(names)
    }
    return (json.dumps({"step": step, "files": files}, indent=2) + "\n").encode()


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as safetensors wants them: on the CPU, contiguous, none sharing memory with another."""
    taken: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        copy = tensor.detach().cpu().contiguous()
        if copy.numel() and copy.untyped_storage().data_ptr() in taken:
            copy = copy.clone()
        taken.add(copy.untyped_storage().data_ptr())
        separate[name] = copy
    return separate


def _make_directory(directory: Path) -> None:
    """Make a directory and its parents, and force their entries to the disk."""
    absent = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in absent:
        sync_directory(path.parent)
