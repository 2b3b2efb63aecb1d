"""Measures how long the parts of a run take on this machine."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from trencadis.config import RunConfig
from trencadis.training.build_stages import Stages
from trencadis.training.loop import VALIDATIONS
from trencadis.training.run_pairs import RunPairs
from trencadis.training.stage import Stage
from trencadis.training.text import train_tokenizer
from trencadis.training.token_cache import encode_middle
from trencadis.training.trainer import Trainer

TIMED_STEPS = 4
ENCODED = 64  # pictures


@dataclass(frozen=True)
class Timing:
    step_s: dict[str, float] = field(default_factory=dict)  # of one update, by stage
    look_s: dict[str, float] = field(default_factory=dict)  # of all validations and samples of a stage
    encoding_s: float = 0.0  # of one crop of every training picture
    where: str = "here"


def time_stages(config: RunConfig, pairs: RunPairs) -> Timing:
    """Time the stages whose number of steps is not chosen yet, on models that are thrown away."""
    open_stages = [config.transformer, config.ranker, *([config.image] if config.image.pretrained is None else [])]
    if all(stage.steps is not None for stage in open_stages):
        return Timing()
    device = torch.device(config.device)
    torch.set_num_threads(config.threads)
    stages = Stages(config, pairs, train_tokenizer(pairs.train, config.text.vocab_size), device)
    image = stages.image() if config.image.pretrained is None else None
    vae = stages.given_tokenizer() if image is None else image.model
    began_s = time.perf_counter()
    encode_middle(vae, pairs, pairs.train[:ENCODED], config.data, device)
    encode_s = (time.perf_counter() - began_s) / min(ENCODED, len(pairs.train))
    tokens = torch.zeros(1, len(pairs.train), *vae.grid_size, dtype=torch.int32)
    timing = Timing(encoding_s=encode_s * len(pairs.train))
    if image is not None and config.image.steps is None:
        timing.step_s["image"], timing.look_s["image"] = _time(image)
    if config.transformer.steps is None:
        stage = stages.transformer(vae, tokens, tokens[0, : len(pairs.validation)])
        timing.step_s["transformer"], timing.look_s["transformer"] = _time(stage)
    if config.ranker.steps is None:
        timing.step_s["ranker"], timing.look_s["ranker"] = _time(stages.ranker())
    return timing


def time_candidate(config: RunConfig, pairs: RunPairs) -> dict[str, float]:
    """Return the seconds that a picture takes in training, by stage; the ranker, a small part of it, is left out."""
    device = torch.device(config.device)
    torch.set_num_threads(config.threads)
    stages = Stages(config, pairs, train_tokenizer(pairs.train, config.text.vocab_size), device)
    image = stages.image() if config.image.pretrained is None else None
    sample_s = {} if image is None else {"image": _update_s(image) / config.image.batch_size}
    vae = stages.given_tokenizer() if image is None else image.model
    tokens = torch.zeros(1, len(pairs.train), *vae.grid_size, dtype=torch.int32)
    transformer = stages.transformer(vae, tokens, tokens[0, : len(pairs.validation)])
    sample_s["transformer"] = _update_s(transformer) / config.transformer.batch_size
    return sample_s


def _time(stage: Stage[Any]) -> tuple[float, float]:
    """Return the seconds of one update, its batch included, and of all validations and samples."""
    update_s = _update_s(stage)
    stage.model.eval()
    began_s = time.perf_counter()
    with torch.no_grad():
        stage.validate()
        stage.sample()
    return update_s, VALIDATIONS * (time.perf_counter() - began_s)


def _update_s(stage: Stage[Any]) -> float:
    """Return the seconds of one update, its batch included."""
    # Time the last steps, when the discriminator is active too.
    trainer = Trainer(stage, steps=1000)
    trainer.step = trainer.steps - TIMED_STEPS
    stage.model.train()
    steps_s = []
    for step in range(trainer.step, trainer.steps):
        began_s = time.perf_counter()
        batches = stage.batches(step, step + 1)
        trainer.update(next(batches))
        batches.close()
        steps_s.append(time.perf_counter() - began_s)
    # The first update allocates and selects kernels.
    return sorted(steps_s[1:])[len(steps_s[1:]) // 2]
