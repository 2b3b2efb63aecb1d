"""Short trainings that a forecast is fitted to, and the logs of runs that exist."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trencadis.config import RunConfig
from trencadis.errors import ConfigError
from trencadis.image import DiscreteVAE
from trencadis.progress import track
from trencadis.randomness import derive_seed
from trencadis.run_directory import RunDirectory
from trencadis.run_log import read_log
from trencadis.training.build_stages import Stages
from trencadis.training.candidates import SHARES
from trencadis.training.config_files import read_config
from trencadis.training.forecast import Point
from trencadis.training.known_pairs import Say
from trencadis.training.plan import longest_ema
from trencadis.training.run_pairs import RunPairs
from trencadis.training.stage import Stage
from trencadis.training.text import train_tokenizer
from trencadis.training.timing import Timing
from trencadis.training.token_cache import encode_middle
from trencadis.training.trainer import Trainer

METRIC = "validation_bits_per_image_token"
PARTS = (1, 4, 16)
"""By what the pictures of a probe are divided. What is learnt of few, seen more often, tells what more would give."""

FEWEST_STEPS = 64  # of a probe
FIRST = 1 / 16  # share of a probe after which it is validated for the first time
VALIDATIONS = 10  # of a probe, evenly apart in the logarithm


def read_probe(run: RunDirectory, config: RunConfig) -> tuple[Point, ...]:
    """Return what the best weights so far measured at each validation of a run's transformer.

    A run whose learning rate falls is worse on its way than one that was planned to end there.

    Raises:
        ConfigError: There is no run, or it has other sizes than those that are planned.
    """
    if not run.has_begun:
        remedy = "name the folder that `trencadis train` wrote"
        raise ConfigError(f"--probe {run.path}", expected="a run", remedy=remedy)
    probe = read_config(run.config)
    for what, own, asked in (
        ("transformer", probe.transformer_model(), config.transformer_model()),
        ("image tokenizer", probe.image.model, config.image.model),
    ):
        if own != asked:
            remedy = f"plan with --config {run.config}, or name another probe"
            raise ConfigError(f"--probe {run.path} has another {what}", expected="the one planned", remedy=remedy)
    lines = [line for line in read_log(run) if line["stage"] == "transformer" and line.get(METRIC) is not None]
    pictures = float(run.read_data().get("train", 0)) or 1.0
    found = [(line["step"] * probe.transformer.batch_size, line[METRIC]) for line in lines]
    return _falling(found, pictures)


def _falling(found: Sequence[tuple[float, float]], pictures: float) -> tuple[Point, ...]:
    """Return what the best weights measured at each validation: those are kept."""
    best, points = float("inf"), []
    for seen, value in found:
        best = min(best, value)
        points.append(Point(seen, min(seen, pictures), best))
    return tuple(points)


def train_probes(config: RunConfig, pairs: RunPairs, timing: Timing, minutes: float, say: Say) -> tuple[Point, ...]:
    """Train the image tokenizer, where it is not given, and transformers on fewer and fewer pictures, for a while.

    The learning rate stays at its peak after the warm-up, and the averaged weights are measured, so that every
    validation stands for a training of that length. Source: Hägele et al. 2024, "Scaling laws and compute-optimal
    training beyond fixed training durations". What a rate that falls as planned gains is measured once more, on most
    pictures, and taken off all values. Weights, order and noise are those of the plan's seed.

    Args:
        timing: Of the plan.
        minutes: For all probes.
    """
    device = torch.device(config.device)
    torch.set_num_threads(config.threads)
    stages = Stages(config, pairs, train_tokenizer(pairs.train, config.text.vocab_size), device)
    seconds = 60 * minutes
    if config.image.pretrained is None:
        share = SHARES["image"] / (SHARES["image"] + SHARES["transformer"])
        vae = _tokenizer(stages, max(FEWEST_STEPS, int(share * seconds / timing.step_s["image"])))
        seconds *= 1 - share
        say("the probes' image tokenizer was trained as briefly as they are; a longer one has tokens that hold more")
    else:
        vae = stages.given_tokenizer()
    batch_size = config.transformer.batch_size
    steps = max(FEWEST_STEPS, int(seconds / (len(PARTS) + 1) / timing.step_s["transformer"]))
    most = min(len(pairs.train), steps * batch_size)
    counts = sorted({max(1, most // parts) for parts in PARTS})
    chosen = sorted(pairs.train, key=lambda pair: derive_seed(config.seed, "probe", pair.sample_id))[: counts[-1]]
    tokens = encode_middle(vae, pairs, tuple(chosen), config.data, device)
    held_out = encode_middle(vae, pairs, pairs.validation, config.data, device)
    points: list[Point] = []
    for count in counts:
        fewer = replace(stages, pairs=replace(pairs, train=tuple(chosen[:count])))
        measured = _transformer(fewer, vae, tokens[None, :count], held_out, steps, final_rate=1.0)
        points += _falling(measured, float(count))
    final_rate = config.transformer.optimizer.final_learning_rate
    ((_, annealed), *_) = reversed(_transformer(fewer, vae, tokens[None], held_out, steps, final_rate=final_rate))
    gain = max(0.0, points[-1].value - annealed)
    say(f"a learning rate that falls gained {gain:.2f} bits in the probes; the forecast has as much off")
    return tuple(point._replace(value=point.value - gain) for point in points)


def _tokenizer(stages: Stages, steps: int) -> DiscreteVAE:
    stage = stages.image()
    trainer = Trainer(stage, steps)
    _train(trainer, "probe of the image tokenizer", ())
    stage.model.load_state_dict(trainer.ema.state_dict(), strict=False)
    stage.model.eval()
    return stage.model


def _transformer(
    stages: Stages, vae: DiscreteVAE, tokens: Tensor, held_out: Tensor, steps: int, *, final_rate: float
) -> list[tuple[float, float]]:
    """Return how many pictures had passed at each validation, and what it measured.

    Args:
        final_rate: The last learning rate as a share of the peak; 1 keeps it there.
    """
    before = stages.config.transformer
    optimizer = replace(before.optimizer, final_learning_rate=final_rate)
    stage = replace(before, optimizer=optimizer, ema_decay=min(before.ema_decay, longest_ema(steps)), token_noise=0.0)
    config = replace(stages.config, transformer=stage)
    training = replace(stages, config=config).transformer(vae, tokens, held_out)
    due = [round(steps * FIRST ** (1 - number / (VALIDATIONS - 1))) for number in range(VALIDATIONS)]
    found = _train(Trainer(training, steps), f"probe with {tokens.shape[1]:,} pictures", due)
    return [(step * before.batch_size, metrics[METRIC]) for step, metrics in found]


def _train(trainer: Trainer, doing: str, due: Sequence[int]) -> list[tuple[int, Mapping[str, float]]]:
    """Make all updates of a trainer, and return what its averaged weights measure after those that are `due`."""
    stage: Stage[Any] = trainer.stage
    found: list[tuple[int, Mapping[str, float]]] = []
    batches = stage.batches(0, trainer.steps)
    for microbatches in track(batches, doing, total=trainer.steps):
        stage.model.train()
        trainer.update(microbatches)
        if trainer.step in due:
            with trainer.ema.apply_to(stage.model), torch.no_grad():
                stage.model.eval()
                found.append((trainer.step, stage.validate()))
    batches.close()
    return found
