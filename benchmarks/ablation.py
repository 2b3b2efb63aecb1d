"""The effect of each choice in the modern design: the same tokens and CPU time, one choice changed.

    python -m benchmarks.ablation RUN --variants paper modern modern:model.design.norm=layer --json FILE

RUN is a run of `trencadis train`; every variant trains on its tokenizers and cached tokens. A variant is `paper` or
`modern`, followed by settings of the transformer's stage. Each trains on one thread for a budget of its own CPU time,
which other processes do not reduce; on an idle machine this is wall-clock time. The number of steps is measured first,
so that the learning-rate schedule ends with the budget. The result is the held-out bits per image token of the EMA
weights, over all held-out pairs of the run.
"""

import dataclasses
import json
import statistics
import time
from typing import Any

import jsonargparse
import torch

from benchmarks.machine import setting
from benchmarks.options import nested_settings
from trencadis.cli.arguments import existing_directory, output_file
from trencadis.config import RunConfig
from trencadis.config.plain import overlay
from trencadis.errors import ConfigError
from trencadis.image import DiscreteVAE
from trencadis.recipes import MODERN_DESIGN, MODERN_OPTIMIZER, PAPER_DESIGN, PAPER_OPTIMIZER
from trencadis.run_directory import RunDirectory
from trencadis.text import CaptionTokenizer
from trencadis.training.build_stages import Stages
from trencadis.training.config_files import read_config
from trencadis.training.known_pairs import resumed_pairs
from trencadis.training.token_cache import cache_tokens, encode_middle
from trencadis.training.trainer import Metrics, Trainer
from trencadis.training.transformer import TransformerTraining

TIMED_STEPS = 6
DESIGNS = {"paper": (PAPER_DESIGN, PAPER_OPTIMIZER), "modern": (MODERN_DESIGN, MODERN_OPTIMIZER)}


def variant(name: str, config: RunConfig) -> RunConfig:
    """Return the config of a variant.

    Raises:
        ConfigError: The variant or a setting is unknown.
    """
    design, _, changes = name.partition(":")
    if design not in DESIGNS:
        raise ConfigError(f"variant {name!r}", expected="paper or modern, then :setting=value,…", remedy="see --help")
    blocks, optimizer = DESIGNS[design]
    model = dataclasses.replace(config.transformer.model, design=blocks)
    stage = dataclasses.replace(config.transformer, model=model, optimizer=optimizer)
    return dataclasses.replace(config, transformer=overlay(stage, nested_settings(changes), "transformer."))


def train(stages: Stages, tokens: tuple[Any, ...], seconds: float) -> dict[str, float]:
    """Train one variant for a budget of CPU time and measure it on the held-out pairs."""
    timed = Trainer(stages.transformer(*tokens), steps=1000)
    step_s = min(_step(timed) for _ in range(TIMED_STEPS))
    steps = int(seconds / step_s)
    training = _with_ema(stages, steps).transformer(*tokens)
    trainer = Trainer(training, steps)
    training.model.train()
    began_s = time.process_time()
    last: Metrics = {}
    for step in range(steps):
        last = trainer.update(training.batch(step))
    spent_s = time.process_time() - began_s
    with trainer.ema.apply_to(training.model), torch.no_grad():
        training.model.eval()
        measured = training.validate()
    return {**measured, "steps": steps, "processor_s": spent_s, "training_loss": float(last["loss"])}


def _with_ema(stages: Stages, steps: int) -> Stages:
    """Return the stages with an EMA over the last 3 % of the steps, as in a planned run."""
    stage = dataclasses.replace(stages.config.transformer, ema_decay=1 - 1 / max(2.0, 0.03 * steps))
    return dataclasses.replace(stages, config=dataclasses.replace(stages.config, transformer=stage))


def _step(trainer: Trainer) -> float:
    stage = trainer.stage
    assert isinstance(stage, TransformerTraining)
    began_s = time.process_time()
    trainer.update(stage.batch(trainer.step))
    return time.process_time() - began_s


def main() -> None:
    """Train every variant with every seed, print each, and write them all."""
    parser = jsonargparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=existing_directory(), help="a run whose tokens are used")
    parser.add_argument("--variants", type=str, nargs="+", default=["paper", "modern"])
    parser.add_argument("--seconds", type=float, default=150.0, help="CPU time of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", type=output_file(), help="file to append the results to, one JSON object per line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = RunDirectory(arguments.run)
    config = read_config(run.config)
    pairs = resumed_pairs(config.data, config.seed, run)
    vae = DiscreteVAE.from_pretrained(run.part("image"))
    tokenizer = CaptionTokenizer.from_pretrained(run.part("text"))
    device = torch.device("cpu")
    variants = config.transformer.token_variants or 1
    tokens = cache_tokens(vae, pairs, config.data, run.tokens, variants=variants, seed=0, device=device)
    held_out = encode_middle(vae, pairs, pairs.validation, config.data, device)
    for name in arguments.variants:
        bits = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            told = dataclasses.replace(variant(name, config), seed=seed)
            stages = Stages(told, pairs, tokenizer, device)
            result = train(stages, (vae, tokens, held_out), arguments.seconds)
            bits.append(result["validation_bits_per_image_token"])
            line = {
                "variant": name,
                "seed": seed,
                "seconds": arguments.seconds,
                **result,
                **setting(threads=1, repeats=1),
            }
            if arguments.json:
                with arguments.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            print(f"{name}  seed {seed}  {bits[-1]:.4f} bits  {result['steps']:.0f} steps", flush=True)
        spread = statistics.stdev(bits) if len(bits) > 1 else 0.0
        print(f"{name}  mean {statistics.mean(bits):.4f}  deviation {spread:.4f}", flush=True)


if __name__ == "__main__":
    main()
