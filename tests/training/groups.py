"""Processes that train one stage together, for the tests."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from trencadis.cli import main
from trencadis.config import DataConfig
from trencadis.config.plain import overlay
from trencadis.image import DiscreteVAE
from trencadis.recipes import RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.training import loop
from trencadis.training.build_stages import Stages
from trencadis.training.decoder import DecoderTraining
from trencadis.training.image import ImageTraining
from trencadis.training.known_pairs import resumed_pairs
from trencadis.training.stage import Stage
from trencadis.training.text import train_tokenizer
from trencadis.training.trainer import Trainer

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """Updates of a stage.

    Args:
        run: A directory with `pairs.json`.
        settings: Over those of the recipe.
        to_step: So many updates are made in all.
        checkpoints: Where to go on from, and to leave a checkpoint; None for neither.
        is_wide: Compute in float64, so that sums in another order differ by less than anything magnifies.
    """

    run: Path
    data: Path
    stage: str
    recipe: str = "tiny"
    settings: dict[str, Any] = field(default_factory=dict)
    steps: int = 50
    to_step: int = 50
    checkpoints: Path | None = None
    is_wide: bool = False

    def trained(self) -> dict[str, Tensor]:
        """Make the updates in this process, and return what there is then: weights, averages, state, last metrics."""
        torch.set_num_threads(1)
        stage = self.build()
        if self.is_wide:
            _widen(stage)
        trainer = Trainer(stage, self.steps)
        if self.checkpoints is not None:
            trainer.resume(self.checkpoints)
        stage.model.train()
        metrics: dict[str, Tensor] = {}
        for microbatches in stage.batches(trainer.step, self.to_step):
            metrics = trainer.update([_wide(batch) for batch in microbatches] if self.is_wide else microbatches)
        if self.checkpoints is not None and (not dist.is_initialized() or dist.get_rank() == 0):
            trainer.save(self.checkpoints)
        state = {"model": stage.model.state_dict(), "ema": trainer.ema.state_dict(), "extra": stage.extra_state()}
        named = {f"{kind}/{name}": tensor for kind, tensors in state.items() for name, tensor in tensors.items()}
        return {name: t.clone() for name, t in (named | {f"metric/{n}": t for n, t in metrics.items()}).items()}

    def build(self) -> Stage[Any]:
        """Return the stage, with made-up image tokens for a transformer."""
        settings: dict[str, Any] = {"data": {"path": str(self.data)}, self.stage: self.settings}
        config = overlay(RECIPES[self.recipe](), settings)
        pairs = resumed_pairs(DataConfig(path=str(self.data)), 0, RunDirectory(self.run))
        stages = Stages(config, pairs, train_tokenizer(pairs.train, config.text.vocab_size), CPU)
        if self.stage in ("image", "ranker"):
            return stages.image() if self.stage == "image" else stages.ranker()
        torch.manual_seed(0)
        vae = DiscreteVAE(config.image.model)
        if self.stage == "decoder":
            return stages.decoder(vae)
        count = len(pairs.train)
        tokens = torch.randint(config.image.model.image_vocab_size, (2, count, *vae.grid_size), dtype=torch.int32)
        return stages.transformer(vae, tokens, tokens[0, : len(pairs.validation)])


def _wide(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.double()
    return batch._replace(images=batch.images.double()) if hasattr(batch, "images") else batch


def _widen(stage: Stage[Any]) -> None:
    stage.model.double()
    if isinstance(stage, ImageTraining | DecoderTraining) and stage._terms.adversary is not None:
        stage._terms.adversary.discriminator.double()
        stage._terms.adversary._averages = stage._terms.adversary._averages.double()
    if isinstance(stage, ImageTraining) and stage._codebook is not None:
        stage._codebook._averages.double()


def together(count: int, work: Work, directory: Path) -> dict[str, Tensor]:
    """Return what `Work.trained` does in the last of `count` processes; all of them end with the same weights."""
    directory.mkdir()
    in_processes(count, _train, work, directory)
    found = [load_file(directory / f"{rank}.safetensors") for rank in range(count)]
    for own in found[:-1]:
        assert [name for name in own if not torch.equal(own[name], found[-1][name])] == []
    return found[-1]


def _train(work: Work, directory: Path) -> None:
    if work.is_wide:
        pytest.MonkeyPatch().setattr(Tensor, "float", Tensor.double)
    save_file(work.trained(), directory / f"{dist.get_rank()}.safetensors")


def in_processes(count: int, target: Callable[..., None], *arguments: Any) -> None:
    """Call a function in each of `count` processes that have joined, with a folder for them as the last argument."""
    started = [
        forking().Process(target=_join, args=(rank, count, arguments[-1] / "meeting", target, arguments))
        for rank in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * count


def _join(rank: int, count: int, meeting: Path, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.use_deterministic_algorithms(True)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    try:
        target(*arguments)
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Command:
    """`trencadis` with these arguments, in several processes that see what torchrun tells its own.

    Args:
        killed: The second process kills itself after two updates of this stage.
    """

    arguments: Sequence[str]
    killed: str | None = None

    def run(self, count: int, directory: Path) -> list[tuple[int, str]]:
        """Return the exit code of each process, and what it said on stderr; `directory` is made for that."""
        directory.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        started = [forking().Process(target=self._run, args=(r, count, port, directory)) for r in range(count)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        return [(int(p.exitcode or 0), (directory / f"{r}.txt").read_text()) for r, p in enumerate(started)]

    def _run(self, rank: int, count: int, port: int, directory: Path) -> None:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}
        patch = pytest.MonkeyPatch()
        patch.setattr(loop, "VALIDATIONS", 2)
        patch.setattr(loop.SavingTimes, "is_due", lambda self: True)
        if rank == 1 and self.killed is not None:
            _kill_after_two_updates(self.killed)
        with open(directory / f"{rank}.txt", "w") as sys.stderr:
            code = main(list(self.arguments))
        os._exit(code)


def _kill_after_two_updates(stage: str) -> None:
    update = Trainer.update

    def killing(trainer: Trainer, microbatches: Sequence[Any]) -> dict[str, Tensor]:
        if trainer.stage.name == stage and trainer.step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(trainer, microbatches)

    pytest.MonkeyPatch().setattr(Trainer, "update", killing)


@cache
def forking() -> ForkServerContext:
    """Return what forks processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context
