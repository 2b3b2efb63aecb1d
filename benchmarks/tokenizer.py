"""Encoding and decoding pictures with the published discrete VAE: seconds, compared with the ceilings and a peer.

    python -m benchmarks.tokenizer
    python -m benchmarks.tokenizer --peer openai-DALL-E --peer-path ~/DALL-E --batch-sizes 1 8

Encoding turns pixels into image tokens, decoding turns image tokens into pixels. Both contenders have the same random
weights: ours imports the peer's. They take turns, each in its own process, after a warm-up that is not measured. Every
figure is the median of `--repeats`. Their results for the same input are compared: how many tokens differ, and the
largest difference of a pixel.

*GFLOP/s* counts the operations of the convolutions, with a multiplication and an addition as two, for the cheapest
method used here: a result that is equal for four pixels counts once. *Ceiling* is the longer of two times: these
operations at the fastest measured rate (a product of two matrices, or a convolution of 256 channels to 256), and one
read of all inputs, outputs and weights of the convolutions.

*Peak memory* is the peak of a contender's process minus its memory before the model was built, over all batch sizes.

JSON: `benchmark`, `setting`, `shape`, `ceilings`, `contenders`, `agreement` (with `batch_size`, `tokens`,
`tokens_that_differ` and `largest_pixel_difference`), `peak_bytes`, and `rows` with `contender`, `work`, `batch_size`,
`samples_s`, `seconds`, `pictures_per_s`, `gflop_s`, `share_of_fastest`, `ceiling_s`, `share_of_ceiling` and
`times_as_fast_as_peer`.
"""

import dataclasses
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jsonargparse
import torch
from torch import nn

from benchmarks.ceilings import PASSES, Ceilings
from benchmarks.options import TOKENIZER_PEERS, add_peer, peer_of, run_command
from benchmarks.work import FLOAT32_BYTES
from trencadis.cli.arguments import integer
from trencadis.config import DiscreteVAEConfig, PublishedConfig

if TYPE_CHECKING:
    from benchmarks.child import Child

SENTENCE = "Measures how fast pictures are encoded into image tokens and decoded from them."
WORKS = ("encode", "decode")
READ_SHAPE = (4096, 4096)  # of the matrix for the memory ceiling: larger than the caches
COLUMNS = {
    "contender": "contender",
    "work": "work",
    "batch_size": "pictures",
    "seconds": "s a batch",
    "pictures_per_s": "pictures/s",
    "gflop_s": "GFLOP/s",
    "share_of_fastest": "of fastest",
    "ceiling_s": "ceiling, s",
    "share_of_ceiling": "of ceiling",
    "times_as_fast_as_peer": "as fast as the peer",
}
AGREEMENT = {
    "batch_size": "pictures",
    "tokens": "tokens",
    "tokens_that_differ": "that differ",
    "largest_pixel_difference": "largest difference of a pixel in [0, 1]",
}


class ConvolutionCeilings(Ceilings):
    """Samples of the machine's rates, including a convolution's."""

    channels, side = 256, 64

    def __init__(self) -> None:
        super().__init__([READ_SHAPE])
        self._pixels = torch.rand(1, self.channels, self.side, self.side).to(memory_format=torch.channels_last)
        self._layer = nn.Conv2d(self.channels, self.channels, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def sample(self) -> None:
        """Take a sample of each rate."""
        super().sample()
        operations = 2 * 9 * self.channels**2 * self.side**2
        for _ in range(PASSES):
            self._time("convolution_gflop_s", operations, lambda: self._layer(self._pixels))

    def figures(self) -> dict[str, Any]:
        """Return the best of each, and the fastest of all."""
        rates = [self.best(name) for name in self.samples if name.endswith("gflop_s")]
        return {**super().figures(), "fastest_gflop_s": max(rates)}


class Work(NamedTuple):
    """The cost of the convolutions of one picture."""

    flops: float
    size_bytes: float


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add, published, convolutions = parser.add_argument, DiscreteVAEConfig(), PublishedConfig()
    add("--batch-sizes", nargs="+", type=integer(1), default=[1, 8], help="pictures per batch; each is measured")
    add("--image-size", type=integer(8), default=published.image_size[0], help="height and width, a multiple of 8")
    add("--hidden-dim", type=integer(4), default=convolutions.hidden_dim, help="channels of the first group")
    add("--blocks", type=integer(1), default=convolutions.blocks_per_group, help="blocks per group")
    add("--image-vocab", type=integer(1), default=published.image_vocab_size, help="number of codes")
    add_peer(parser, TOKENIZER_PEERS)


def run(arguments: jsonargparse.Namespace) -> None:
    """Measure, print and write."""
    from benchmarks.child import TOKENIZER, Child
    from benchmarks.machine import setting
    from benchmarks.report import publish, table

    config, peer = config_of(arguments), peer_of(arguments, TOKENIZER_PEERS)
    before, ceilings = setting(threads=arguments.threads, repeats=arguments.repeats), ConvolutionCeilings()
    with ExitStack() as opened:
        children = [opened.enter_context(Child(config, threads=arguments.threads, ours=TOKENIZER))]
        if peer is not None:
            children.append(opened.enter_context(Child(config, threads=arguments.threads, peer=peer)))
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        _share_weights(children)
        rows, agreement = [], []
        for batch_size in arguments.batch_sizes:
            rows += _measure(children, batch_size, ceilings, arguments.repeats)
            agreement += _agreement(children, batch_size, scratch)
        used = {child.name: child.settings for child in children}
        peak_bytes = {child.name: child.peak_bytes() for child in children}
    figures = ceilings.figures()
    _complete(rows, config, figures)
    report = {
        "benchmark": "tokenizer",
        "setting": before,
        "shape": dataclasses.asdict(config),
        "ceilings": figures,
        "contenders": used,
        "agreement": agreement,
        "peak_bytes": peak_bytes,
        "rows": rows,
    }
    memory = [{"contender": name, "peak_bytes": size} for name, size in peak_bytes.items()]
    title = f"Pictures and image tokens; fastest product or convolution: {figures['fastest_gflop_s']:.4g} GFLOP/s"
    tables = [table(title, COLUMNS, rows)]
    tables += [table("Agreement", AGREEMENT, agreement)] if agreement else []
    tables += [table("Memory", {"contender": "contender", "peak_bytes": "peak memory"}, memory)]
    publish(report, tables, arguments.json)


def config_of(arguments: jsonargparse.Namespace) -> DiscreteVAEConfig:
    """Return the requested config, with the published architecture."""
    return DiscreteVAEConfig(
        image_size=(arguments.image_size, arguments.image_size),
        image_vocab_size=arguments.image_vocab,
        architecture=PublishedConfig(hidden_dim=arguments.hidden_dim, blocks_per_group=arguments.blocks),
    )


def _share_weights(children: list["Child"]) -> None:
    """Load the peer's weights into ours."""
    ours, *peers = children
    for peer in peers:
        with tempfile.TemporaryDirectory() as folder:
            peer.do("save", folder=folder)
            ours.do("read", folder=folder)


def _measure(
    children: list["Child"], batch_size: int, ceilings: ConvolutionCeilings, repeats: int
) -> list[dict[str, Any]]:
    """Return a row with its samples for each work of each contender."""
    from trencadis.progress import progress

    rows: list[dict[str, Any]] = []
    with progress(f"batches of {batch_size}", len(WORKS) * len(children) * (repeats + 1)) as advance:
        for work in WORKS:
            begun: list[dict[str, Any]] = [
                {"contender": child.name, "work": work, "batch_size": batch_size, "samples_s": []} for child in children
            ]
            for repeat in range(repeats + 1):
                for child, row in zip(children, begun, strict=True):
                    ceilings.sample()
                    elapsed_s = child.do(work, batch_size=batch_size).elapsed_s
                    if repeat:
                        row["samples_s"].append(elapsed_s)
                    advance()
            rows += begun
    ceilings.sample()
    return rows


def _agreement(children: list["Child"], batch_size: int, scratch: Path) -> list[dict[str, Any]]:
    """Return how the contenders' last tokens and pictures differ; empty without a peer."""
    ours, *peers = [_kept(child, scratch) for child in children]
    return [
        {
            "batch_size": batch_size,
            "tokens": ours["image_tokens"].numel(),
            "tokens_that_differ": int((ours["image_tokens"] != theirs["image_tokens"]).sum()),
            "largest_pixel_difference": float((ours["pictures"] - theirs["pictures"]).abs().max()),
        }
        for theirs in peers
    ]


def _kept(child: "Child", scratch: Path) -> dict[str, torch.Tensor]:
    path = scratch / "kept.pt"
    child.do("keep", path=str(path))
    kept: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return kept


def work_of(config: DiscreteVAEConfig) -> dict[str, Work]:
    """Return the operations of the convolutions of one picture, and the bytes that they read and write, in float32."""
    from trencadis.image import Categorical, DiscreteVAE

    taken: list[tuple[float, float]] = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        size = inputs[0].numel() + output.numel() + weight.numel()
        taken.append((2.0 * output.numel() * weight[0].numel(), float(FLOAT32_BYTES * size)))

    with torch.device("meta"), torch.no_grad():  # tensors without data: nothing is computed
        dvae = DiscreteVAE(config)
        for layer in dvae.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count)
        assert isinstance(dvae.bottleneck, Categorical)
        features = dvae.encoder(torch.rand(1, 3, *config.image_size))
        # Not called: it uses autocast, which the meta device does not have.
        count(dvae.bottleneck.to_logits, (features,), features.new_empty(1, config.image_vocab_size, *config.grid_size))
        encoding = len(taken)
        dvae.decoder(torch.rand(1, config.latent_dim, *config.grid_size))
    halves = (taken[:encoding], taken[encoding:])
    return {work: Work(*map(sum, zip(*half, strict=True))) for work, half in zip(WORKS, halves, strict=True)}


def _complete(rows: list[dict[str, Any]], config: DiscreteVAEConfig, ceilings: dict[str, Any]) -> None:
    """Add what follows from the samples."""
    from benchmarks.child import OURS
    from benchmarks.figures import median

    works = work_of(config)
    for row in rows:
        flops, size_bytes = (row["batch_size"] * amount for amount in works[row["work"]])
        row["seconds"] = median(row["samples_s"])
        row["pictures_per_s"] = row["batch_size"] / row["seconds"]
        row["gflop_s"] = flops / row["seconds"] / 1e9
        row["share_of_fastest"] = row["gflop_s"] / ceilings["fastest_gflop_s"]
        row["ceiling_s"] = max(flops / ceilings["fastest_gflop_s"], size_bytes / ceilings["plain_read_gb_s"]) / 1e9
        row["share_of_ceiling"] = row["ceiling_s"] / row["seconds"]
    seconds_of_peer = {(row["work"], row["batch_size"]): row["seconds"] for row in rows if row["contender"] != OURS}
    for row in rows:
        if row["contender"] == OURS and (key := (row["work"], row["batch_size"])) in seconds_of_peer:
            row["times_as_fast_as_peer"] = seconds_of_peer[key] / row["seconds"]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    return run_command("tokenizer", SENTENCE, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
