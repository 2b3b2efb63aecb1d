"""A run's directory: the only file that knows where a run keeps what, and who may write there."""

import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from filelock import FileLock, Timeout

from trencadis.errors import ConfigError
from trencadis.storage import sweep, user_storage, write_whole

STAGES = ("text", "image", "decoder", "transformer", "ranker")
LATEST, MANIFEST, META = "latest", "manifest.json", "meta.json"
"""Of a stage's checkpoints, and of each of them."""

Content = TypeVar("Content", dict[str, Any], list[Any])

_CHECKPOINT = re.compile(r"step-(\d{8,})")
_MOST_USES = 2**40  # of one code; no data set has as many tokens, so that the file is damaged


def checkpoint_name(step: int) -> str:
    return f"step-{step:08d}"


def checkpoint_step(path: Path) -> int | None:
    """Return the step of a checkpoint's directory; None where the path is none."""
    match = _CHECKPOINT.fullmatch(path.name)
    return None if match is None else int(match[1])


class _Inside:
    """A path below a run's directory."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __get__(self, run: "RunDirectory", kind: type["RunDirectory"]) -> Path:
        return run.path.joinpath(*self._names)


@dataclass(frozen=True)
class RunDirectory:
    """Where a run is, and what it holds. What a reader finds absent, damaged or of another kind is left out."""

    path: Path

    config = _Inside("config.yaml")  # every setting; the run has begun once it is there
    plan = _Inside("plan.json")  # what was chosen, and why
    budgets = _Inside("budgets.json")  # the time of each stage whose steps were fitted into it
    data = _Inside("data.json")  # how many pairs there are
    pairs = _Inside("pairs.json")  # which pairs are kept, and why others are not
    trained = _Inside("trained.json")  # the steps that each part of the model was trained for
    log = _Inside("log.jsonl")
    report = _Inside("report.html")
    tokens = _Inside("tokens")  # the training pictures as tokens
    model = _Inside("model")  # a folder for each part, written when its stage ends
    withdrawn = _Inside("model-settings.json")  # config.json of a model that is not whole at the moment
    captions = _Inside("samples", "captions.json")  # of the drawings
    code_counts = _Inside("samples", "codes.json")
    code_portraits = _Inside("samples", "codes.png")
    training_pictures = _Inside("samples", "training-pictures.png")  # what training sees of some of them
    old_tokens = _Inside("samples", "old-captions.safetensors")  # what the model drew of old captions before tuning
    old_before = _Inside("samples", "old-captions-before.png")  # some of the drawings
    old_after = _Inside("samples", "old-captions-after.png")
    forgetting = _Inside("forgetting.json")  # bits of old captions' drawings, before and after
    adapter = _Inside("adapter")  # the low-rank updates of a run that trains no others
    holder = _Inside(".holder")  # who has the lock
    lock_file = _Inside(".lock")

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def part(self, stage: str) -> Path:
        """Return the trained part of a stage; it is there, and whole, once the stage has ended.

        The decoder is in the part of the image tokenizer, which is there before. While a finished run is continued, a
        part is the one before until its stage has ended again.
        """
        return self.model / ("image" if stage == "decoder" else stage)

    def is_trained(self, stage: str, steps: int | None) -> bool:
        """Return whether the part of a stage is there and was trained for that many steps, None where it has none."""
        if stage == "decoder":
            return self.part(stage).exists() and self.read_trained().get(stage, 0) == (steps or 0)
        return self.part(stage).exists() and self.read_trained().get(stage, steps) == steps

    def read_trained(self) -> dict[str, Any]:
        return _json(self.trained, {})

    def mark_trained(self, stage: str, steps: int) -> None:
        """Note that the part of a stage has been trained for that many steps."""
        write_whole(self.trained, json.dumps(self.read_trained() | {stage: steps}, indent=2) + "\n")

    def tensorboard(self, stage: str) -> Path:
        return self.path / "tensorboard" / stage

    def checkpoints(self, stage: str) -> Path:
        return self.path / "checkpoints" / stage

    def best(self, stage: str) -> Path:
        """Return the place of the weights that did best on held-out pairs; a checkpoint too."""
        return self.checkpoints(stage) / "best"

    def latest_checkpoint(self, stage: str) -> Path | None:
        """Return the checkpoint that a stage would resume from, unverified."""
        name = _text(self.checkpoints(stage) / LATEST).strip()
        return self.checkpoints(stage) / name if name else None

    def sample(self, stage: str, step: int) -> Path:
        return self.path / "samples" / f"{stage}-{step:08d}.png"

    def samples(self, stage: str) -> list[tuple[int, Path]]:
        """Return the pictures that a stage has drawn, each with its step, in order."""
        name = re.compile(rf"{re.escape(stage)}-(\d+)\.png")
        paths = (self.path / "samples").glob("*.png")
        return sorted((int(match[1]), path) for path in paths if (match := name.fullmatch(path.name)))

    @classmethod
    def is_run(cls, path: Path) -> bool:
        """Return whether a folder is a run's own, begun or still being planned; it holds no data to train on."""
        run = cls(path)
        if run.has_begun:
            return any(own.is_file() for own in (run.plan, run.pairs, run.log))
        return run.lock_file.is_file() and not run.strangers()

    @property
    def has_begun(self) -> bool:
        return self.config.exists()

    @property
    def is_finished(self) -> bool:
        """Whether the model is complete and trained for the steps of the plan; nothing is written until it has more."""
        if not all((self.model / name).exists() for name in ("config.json", "README.md")):
            return False
        settings = self.read_config()
        planned = {stage: _like({}, settings.get(stage)).get("steps") for stage in STAGES}
        return all(self.is_trained(stage, steps) for stage, steps in planned.items())

    def withdraw_model(self) -> None:
        """Leave no whole model, and no picture of its codes, until both are made again; parts and settings stay."""
        with suppress(FileNotFoundError):
            (self.model / "config.json").replace(self.withdrawn)
        self.code_portraits.unlink(missing_ok=True)

    def strangers(self) -> list[str]:
        """Return the names of what no run leaves in its directory before it has begun."""
        own = {self.pairs.name, self.plan.name, self.budgets.name, self.data.name}
        return sorted(
            path.name for path in self.path.iterdir() if not path.name.startswith(".") and path.name not in own
        )

    def config_text(self) -> str:
        return _text(self.config)

    def read_config(self) -> dict[str, Any]:
        try:
            return _like({}, yaml.safe_load(self.config_text()))
        except (ValueError, yaml.YAMLError):
            return {}

    def read_choices(self) -> list[dict[str, str]]:
        """Return `what` was chosen, its `value` and `why`."""
        choices = _like([], _json(self.plan, {}).get("choices"))
        names = ("what", "value", "why")
        return [{name: str(choice.get(name, "")) for name in names} for choice in choices if isinstance(choice, dict)]

    def write_choices(self, choices: Sequence[dict[str, str]]) -> None:
        write_whole(self.plan, json.dumps({"choices": choices}, indent=2) + "\n")

    def read_budgets(self) -> dict[str, Any]:
        return _json(self.budgets, {})

    def write_budgets(self, budgets: dict[str, Any]) -> None:
        write_whole(self.budgets, json.dumps(budgets, indent=2) + "\n")

    def read_data(self) -> dict[str, Any]:
        return _json(self.data, {})

    def write_data(self, summary: dict[str, Any]) -> None:
        write_whole(self.data, json.dumps(summary, indent=2) + "\n")

    def read_captions(self) -> list[str]:
        """Return what the drawings are of, from left to right."""
        return [caption for caption in _json(self.captions, []) if isinstance(caption, str)]

    def write_captions(self, captions: Sequence[str]) -> None:
        write_whole(self.captions, json.dumps(captions, ensure_ascii=False) + "\n")

    def read_forgetting(self) -> dict[str, Any]:
        return _json(self.forgetting, {})

    def read_code_counts(self) -> list[int]:
        counts = _json(self.code_counts, [])
        return [count for count in counts if isinstance(count, int) and 0 <= count < _MOST_USES]

    def write_code_counts(self, counts: list[int]) -> None:
        write_whole(self.code_counts, json.dumps(counts) + "\n")

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the right to write into the directory, which is made where it is absent; yield whether it was.

        The operating system releases the lock when the process ends, however it ends, and forked children do not
        inherit it. What killed processes left half-written is removed. A directory that was made here and is empty at
        the end is removed too.

        Raises:
            ConfigError: Another process holds it; the message names that process.
            StorageError: The directory cannot be written.
        """
        lock = FileLock(self.lock_file, blocking=False)
        with user_storage(self.path):
            is_new = _make_directory(self.path)
            try:
                lock.acquire()
            except Timeout as error:
                raise ConfigError(
                    f"{self.path} is being trained by {_text(self.holder) or 'another process'}",
                    expected="a run that no other process trains",
                    remedy="wait for that process, stop it, or choose another --out",
                ) from error
        try:
            with user_storage(self.path):
                if self.has_begun or not self.strangers():
                    for path in [self.path, *self.path.rglob("*")]:
                        if path.is_dir():
                            sweep(path)
                self.holder.write_text(f"process {os.getpid()} of {platform.node()}", "utf-8")
            yield is_new
        finally:
            with suppress(OSError):
                self.holder.unlink()
                if is_new and list(self.path.iterdir()) == [self.lock_file]:
                    # Still locked, so that nobody else has begun here.
                    self.lock_file.unlink()
                    self.path.rmdir()
            lock.release()

    def clear(self) -> None:
        """Remove everything but the lock."""
        for path in {*self.path.iterdir()} - {self.lock_file, self.holder}:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _make_directory(path: Path) -> bool:
    """Make a directory with its parents; return False where it was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _json(path: Path, default: Content) -> Content:
    """Return what a file holds; the default where it is absent, damaged or of another kind."""
    try:
        return _like(default, json.loads(_text(path)))
    except ValueError:
        return default


def _like(default: Content, content: Any) -> Content:
    return content if isinstance(content, type(default)) else default
