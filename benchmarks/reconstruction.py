"""Fidelity of image tokenizers after the same CPU time on the same pictures.

    python -m benchmarks.reconstruction TRAIN HELD_OUT --contenders pocket pocket-gumbel pocket-vqvae pocket-vqgan

A contender is a recipe, whose image stage is trained, with settings of that stage after a colon
(`pocket-gumbel:losses.kl=0`). Or it is `DALLE-pytorch`, its `DiscreteVAE`, with settings of `PeerSettings` and
as many tokens and codes as the first recipe. Each trains on one thread for a budget of its own CPU time, data included,
which other processes do not reduce. All use the same batches, the random crops of `trencadis train`. The figures are of
hard reconstructions of every held-out picture, with EMA weights if the contender has them.
"""

import argparse
import dataclasses
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders.dalle_pytorch_vae import PeerSettings, PeerTraining, load
from benchmarks.machine import setting
from benchmarks.options import nested_settings
from trencadis.cli.arguments import dataset, existing_directory, output_directory
from trencadis.config import DataConfig, ImageStage
from trencadis.config.plain import overlay
from trencadis.data import TOKENIZER_CROPS, read_picture
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow
from trencadis.errors import ConfigError
from trencadis.image import code_perplexity, code_use, count_codes, psnr, ssim
from trencadis.recipes import RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.storage import write_picture
from trencadis.training.image import ImageTraining
from trencadis.training.known_pairs import read_pairs
from trencadis.training.run_pairs import RunPairs
from trencadis.training.schedules import Course
from trencadis.training.trainer import Trainer

PEER = "DALLE-pytorch"
MOST_STEPS = 10**9  # the budget ends the training first
EMA_SHARE = 0.03  # length of the EMA, as a share of all updates
AT_ONCE = 64  # pictures
SEED = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Reconstructions of the held-out pictures, and their cost."""

    drawn: Tensor
    tokens: Tensor
    steps: int
    processor_s: float
    parameters: int


def stage_of(contender: str) -> ImageStage:
    """Return the image stage of a contender.

    Raises:
        ConfigError: The recipe or a setting is unknown.
    """
    recipe, _, changes = contender.partition(":")
    if recipe not in RECIPES:
        raise ConfigError(f"contender {recipe!r}", expected="a recipe or DALLE-pytorch", remedy="see --help")
    return overlay(RECIPES[recipe]().image, nested_settings(changes), "image.")


def train_ours(stage: ImageStage, pairs: RunPairs, data: DataConfig, held_out: Tensor, seconds: float) -> Outcome:
    """Train the image stage of a recipe; its schedules follow the spent share of the budget."""
    training = ImageTraining(stage, pairs, data, seed=SEED, device=torch.device("cpu"))
    trainer = Trainer(training, MOST_STEPS)
    training.model.train()
    batches, began_s, spent_s = training.batches(0, MOST_STEPS), time.process_time(), 0.0
    while spent_s < seconds:
        trainer.update(next(batches))
        spent_s = time.process_time() - began_s
        steps = max(trainer.step + 1, round(trainer.step * seconds / spent_s))
        trainer.course = Course(steps, steps)
        trainer.ema.decay = 1 - 1 / max(2.0, EMA_SHARE * steps)
    batches.close()
    with trainer.ema.apply_to(training.model):
        training.model.eval()
        tokens = torch.cat([training.model.encode(images) for images in torch.split(held_out, AT_ONCE)])
        drawn = torch.cat([training.model.decode(part) for part in torch.split(tokens, AT_ONCE)])
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    return Outcome(drawn, tokens, trainer.step, spent_s, parameters)


def train_peer(
    peer: Any, contender: str, like: ImageStage, pairs: RunPairs, data: DataConfig, held_out: Tensor, seconds: float
) -> Outcome:
    """Train DALLE-pytorch's `DiscreteVAE` for the budget."""
    settings = PeerSettings(**nested_settings(contender.partition(":")[2]))
    training = PeerTraining(peer, like.model, settings, seed=SEED)
    size, batch_size = like.model.image_size, settings.batch_size
    pictures = pairs.batches(size, data, batch_size=batch_size, seed=SEED, rule=TOKENIZER_CROPS)
    batches, began_s, spent_s = pictures.iterate(0, MOST_STEPS), time.process_time(), 0.0
    while spent_s < seconds:
        training.update(next(batches).images, spent_s / seconds)
        spent_s = time.process_time() - began_s
    batches.close()
    parts = [training.reconstruct(images) for images in torch.split(held_out, AT_ONCE)]
    drawn, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
    parameters = sum(parameter.numel() for parameter in training.vae.parameters())
    return Outcome(drawn, tokens, training.step, spent_s, parameters)


def figures(outcome: Outcome, held_out: Tensor, image_vocab_size: int) -> dict[str, float]:
    """Return the figures of an outcome."""
    counts = count_codes(outcome.tokens, image_vocab_size=image_vocab_size)
    return {
        "psnr": float(psnr(outcome.drawn, held_out).mean()),
        "ssim": float(ssim(outcome.drawn, held_out).mean()),
        "code_use": code_use(counts),
        "code_perplexity": code_perplexity(counts),
        "steps": outcome.steps,
        "processor_s": outcome.processor_s,
        "parameters": outcome.parameters,
    }


def main(argv: list[str] | None = None) -> None:
    """Train every contender, print its figures, and write them and a sheet of pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=dataset(), help="captioned pictures to train on")
    parser.add_argument("held_out", type=dataset(), help="captioned pictures to measure on")
    parser.add_argument("--contenders", nargs="+", default=["pocket"])
    parser.add_argument("--seconds", type=float, default=1200.0, help="CPU time of each training")
    parser.add_argument("--peer-path", type=existing_directory(), help="a checkout of DALLE-pytorch")
    parser.add_argument("--shown", type=int, default=12, help="pictures on the sheet")
    parser.add_argument(
        "--out", type=output_directory(), default="out/reconstruction", help="folder for figures and pictures"
    )
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    first = next((name for name in arguments.contenders if not name.startswith(PEER)), "pocket")
    like, data = stage_of(first), DataConfig(path=arguments.train)
    with tempfile.TemporaryDirectory() as scratch:
        pairs = read_pairs(data, SEED, RunDirectory(Path(scratch)))
    measured = DataConfig(path=arguments.held_out)
    with tempfile.TemporaryDirectory() as scratch:
        others = read_pairs(measured, SEED, RunDirectory(Path(scratch)))
    everything = tuple(sorted(others.train + others.validation, key=lambda pair: pair.sample_id))
    held_out = others.middle_crops(everything, like.model.image_size, measured)
    shown = torch.arange(arguments.shown) * (len(held_out) // arguments.shown)
    write_sheet(arguments.out / "originals.png", held_out[shown], "original")
    for contender in arguments.contenders:
        told = setting(threads=1, repeats=1)
        if contender.startswith(PEER):
            assert arguments.peer_path is not None, "--peer-path is needed"
            peer = load(arguments.peer_path)
            outcome = train_peer(peer, contender, like, pairs, data, held_out, arguments.seconds)
        else:
            outcome = train_ours(stage_of(contender), pairs, data, held_out, arguments.seconds)
        line = {"contender": contender, "seconds": arguments.seconds, "held_out": len(held_out)}
        line |= figures(outcome, held_out, like.model.image_vocab_size) | told
        with (arguments.out / "figures.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        write_sheet(arguments.out / f"{row_name(contender)}.png", outcome.drawn[shown], contender)
        join_rows(arguments.out)
        print(
            f"{contender}  {line['psnr']:.2f} dB  SSIM {line['ssim']:.3f}  {line['code_use']:.0%} of codes, "
            f"perplexity {line['code_perplexity']:.0f}  {line['steps']} steps  {line['parameters'] / 1e6:.2f} M",
            flush=True,
        )


def join_rows(out: Path) -> None:
    """Write a sheet of all results in a folder: the originals, and a row for each contender."""
    lines = [json.loads(line) for line in (out / "figures.jsonl").read_text("utf-8").splitlines()]
    labels = {"originals": "originals"}
    labels |= {row_name(line["contender"]): _label(line) for line in lines}
    rows = [read_picture(out / f"{name}.png") for name in labels]
    width, height = rows[0].size
    sheet = contact_sheet(rows, list(labels.values()), 1, tile_size=(height, width), label_lines=1)
    write_picture(out / "sheet.png", sheet)


def _label(line: dict[str, Any]) -> str:
    return f"{line['contender']}, {line['seconds']:.0f} s: {line['psnr']:.2f} dB, {line['code_use']:.0%} of the codes"


def row_name(contender: str) -> str:
    """Return the file name, without extension, of a contender's pictures."""
    return re.sub(r"[^\w.-]", "_", contender)


def write_sheet(path: Path, images: Tensor, label: str) -> None:
    """Write pictures in one row."""
    write_picture(path, contact_sheet(to_pillow(images), [label] * len(images), len(images), label_lines=0))


if __name__ == "__main__":
    main()
