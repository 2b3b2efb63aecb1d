"""Growth of time and memory with the size of the picture, for full attention and for the paper's sparse patterns.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --grids 8 16 32 --json scaling.json

For each grid of image tokens, two kinds of work are measured, each in its own process:

*decoding*: a step that reads one image token, with all earlier tokens in the KV cache, for `--candidates` pictures at
once. "At the end" is the mean over the last `--sampled` tokens; "over the picture" is the mean over as many tokens,
spread evenly.
*training*: the forward and the backward pass of one pair, in seconds per image token.

*The attention part* is the difference from the same work without a picture to attend to (the floor): a decoding step in
a picture of `FLOOR_GRID` squared tokens, and for training the same number of positions in short streams of such
pictures. The matrices, the text and the fixed cost of a step cancel out.

*Keys and values* are the exact bytes that an image token's pass must read, from the masks' definition
(`trencadis.transformer.masks`): for one picture, all layers, float32; with the text's, and of image tokens alone.

*Peak memory* is a process's peak (VmHWM) minus its memory before the model was built. Its attention part is again the
difference from the floor.

The exponent is the slope of a line through the logarithms of a figure and of the number of image tokens: full attention
grows with 1, a row or a column with 0.5. It is left out if a difference is within the noise. Every figure is the median
of `--repeats`, for a decoding step of `STEP_ROUNDS` times as many. Full, sparse and the floor take turns.

JSON: `benchmark`, `setting`, `shape` (grid and attention left out), `candidates`, `sampled`, `rows` with `work`,
`attention`, `grid`, `image_tokens`, `end_s`, `mean_s`, `seconds`, `seconds_per_token`, `attention_end_s`,
`attention_mean_s`, `attention_s_per_token`, `peak_bytes`, `peak_per_token_bytes` (of each picture),
`attention_peak_bytes`, `attention_peak_per_token_bytes`, `read_end_bytes`, `read_mean_bytes`, `read_image_end_bytes`,
`read_image_mean_bytes` and `samples`, each if it is measured; and `exponents` with `work`, `figure`, `full` and
`sparse`.
"""

import dataclasses
import sys
from contextlib import ExitStack
from statistics import fmean
from typing import TYPE_CHECKING, Any

import jsonargparse

from benchmarks.options import add_shape, config_of, run_command
from trencadis.cli.arguments import integer
from trencadis.config import TransformerConfig

if TYPE_CHECKING:
    from benchmarks.child import Child
    from trencadis.progress import Advance

SENTENCE = "Measures how time and memory grow with the number of image tokens."
# Narrow, with small vocabularies, so that attention is most of the work.
DEFAULT = TransformerConfig(
    num_layers=4, num_heads=2, head_dim=64, text_len=64, image_vocab_size=256, text_vocab_size=256
)
FLOOR_GRID = 2
STEP_ROUNDS = 5  # per repeat: decoding steps are short, so other load on the machine hits only a few of them
KINDS = ("full", "sparse", "floor")
COLUMNS = {
    "attention": "attention",
    "grid": "grid",
    "image_tokens": "tokens",
    "end_s": "s at the end",
    "mean_s": "s over the picture",
    "seconds": "s",
    "seconds_per_token": "s a token",
    "attention_end_s": "attention, end",
    "attention_mean_s": "attention, mean",
    "attention_s_per_token": "attention, s a token",
    "peak_bytes": "peak memory",
    "peak_per_token_bytes": "memory a token",
    "attention_peak_per_token_bytes": "attention's, a token",
    "read_end_bytes": "keys, values at the end",
    "read_mean_bytes": "mean",
    "read_image_mean_bytes": "of image tokens",
}
FITTED = {
    "end_s": "time at the end",
    "mean_s": "time over the picture",
    "seconds_per_token": "time a token",
    "attention_end_s": "attention's part at the end",
    "attention_mean_s": "attention's part, mean",
    "attention_s_per_token": "attention's part a token",
    "peak_per_token_bytes": "peak memory a token",
    "attention_peak_per_token_bytes": "attention's part of it",
    "read_end_bytes": "keys and values at the end",
    "read_mean_bytes": "keys and values, mean",
    "read_image_end_bytes": "those of image tokens at the end",
    "read_image_mean_bytes": "those of image tokens, mean",
}


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    size = integer(FLOOR_GRID + 1)
    add("--grids", nargs="+", type=size, default=[16, 32, 64], help="rows and columns of image tokens, to measure")
    add("--candidates", type=integer(1), default=8, help="pictures decoded at once")
    add("--sampled", type=integer(1), default=16, help="image tokens at which decoding is timed")
    add_shape(parser, DEFAULT, grid=False)


def run(arguments: jsonargparse.Namespace) -> None:
    """Measure, print and write."""
    from benchmarks.machine import setting
    from benchmarks.report import publish, table
    from trencadis.progress import progress

    config_of(arguments)
    before = setting(threads=arguments.threads, repeats=arguments.repeats)
    grids = sorted(set(arguments.grids))
    rows: list[dict[str, Any]] = []
    with progress("measuring", 2 * len(grids) * len(KINDS) * arguments.repeats) as advance:
        for grid in grids:
            rows += _decoding(arguments, grid, advance)
            rows += _training(arguments, grid, advance)
    exponents = _exponents(rows)
    shape = dataclasses.asdict(config_of(arguments))
    report = {
        "benchmark": "scaling",
        "setting": before,
        "shape": {key: value for key, value in shape.items() if key not in ("grid_size", "attention")},
        "candidates": arguments.candidates,
        "sampled": arguments.sampled,
        "rows": rows,
        "exponents": exponents,
    }
    tables = [
        table(f"{work[0].upper()}{work[1:]}", COLUMNS, [row for row in rows if row["work"] == work])
        for work in ("decoding", "training")
    ]
    shown = [
        {"work": entry["work"], "figure": FITTED[entry["figure"]], "full": entry["full"], "sparse": entry["sparse"]}
        for entry in exponents
    ]
    headings = {"work": "work", "figure": "growth with image tokens, exponent of", "full": "full", "sparse": "sparse"}
    publish(report, [*tables, table("Exponents", headings, shown)], arguments.json)


def _configs(arguments: jsonargparse.Namespace, grid: int) -> dict[str, TransformerConfig]:
    """Return the configs: full and sparse attention at this grid, and the floor."""
    return {
        "full": config_of(arguments, grid_size=(grid, grid), attention="full"),
        "sparse": config_of(arguments, grid_size=(grid, grid), attention="sparse"),
        "floor": config_of(arguments, grid_size=(FLOOR_GRID, FLOOR_GRID), attention="full"),
    }


def _children(configs: dict[str, TransformerConfig], threads: int, opened: ExitStack) -> dict[str, "Child"]:
    from benchmarks.child import Child

    return {kind: opened.enter_context(Child(config, threads=threads)) for kind, config in configs.items()}


def _decoding(arguments: jsonargparse.Namespace, grid: int, advance: "Advance") -> list[dict[str, Any]]:
    """Return the rows of decoding at one grid."""
    from benchmarks.figures import median

    configs = _configs(arguments, grid)
    ends = {kind: config.grid_size[0] * config.grid_size[1] for kind, config in configs.items()}
    samples: dict[str, dict[str, list[list[float]]]] = {kind: {"end": [], "mean": []} for kind in KINDS}
    with ExitStack() as opened:
        children = _children(configs, arguments.threads, opened)
        for sample in range(STEP_ROUNDS * arguments.repeats + 1):
            for kind, child in children.items():
                places = {"end": last(ends[kind], arguments.sampled), "mean": spread(ends[kind], arguments.sampled)}
                for place, positions in places.items():
                    done = child.do("steps", candidates=arguments.candidates, positions=positions)
                    if sample:  # the first one fills the cache
                        samples[kind][place].append(done.result)
                advance(int(sample > 0 and sample % STEP_ROUNDS == 0))
        peaks = {kind: child.peak_bytes() for kind, child in children.items()}
    # The median of the samples at each position, then the mean over the positions.
    at = {
        kind: {place: fmean(map(median, zip(*times, strict=True))) for place, times in of_kind.items()}
        for kind, of_kind in samples.items()
    }
    return [
        {
            **_row("decoding", kind, grid, peaks, arguments.candidates),
            **_read(configs[kind]),
            "end_s": at[kind]["end"],
            "mean_s": at[kind]["mean"],
            "attention_end_s": at[kind]["end"] - at["floor"]["mean"],
            "attention_mean_s": at[kind]["mean"] - at["floor"]["mean"],
            "samples": samples[kind],
        }
        for kind in ("full", "sparse")
    ]


def _training(arguments: jsonargparse.Namespace, grid: int, advance: "Advance") -> list[dict[str, Any]]:
    """Return the rows of training at one grid."""
    from benchmarks.figures import median

    configs, image_tokens = _configs(arguments, grid), grid * grid
    positions, floor_positions = arguments.text_len + image_tokens, arguments.text_len + FLOOR_GRID**2
    batches = {"full": 1, "sparse": 1, "floor": max(1, round(positions / floor_positions))}
    samples: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with ExitStack() as opened:
        children = _children(configs, arguments.threads, opened)
        for repeat in range(arguments.repeats + 1):
            for kind, child in children.items():
                elapsed_s = child.do("forward_backward", batch_size=batches[kind]).elapsed_s
                if repeat:  # the first one allocates
                    samples[kind].append(elapsed_s)
                    advance()
        peaks = {kind: child.peak_bytes() for kind, child in children.items()}
    floor_s = median(samples["floor"]) * positions / (batches["floor"] * floor_positions)
    return [
        {
            **_row("training", kind, grid, peaks, pictures=1),
            "seconds": median(samples[kind]),
            "seconds_per_token": median(samples[kind]) / image_tokens,
            "attention_s_per_token": (median(samples[kind]) - floor_s) / image_tokens,
            "samples": samples[kind],
        }
        for kind in ("full", "sparse")
    ]


def _row(work: str, kind: str, grid: int, peaks: dict[str, int], pictures: int) -> dict[str, Any]:
    """Return the fields that rows of both kinds of work share."""
    tokens = grid * grid
    above_floor = peaks[kind] - peaks["floor"]
    return {
        "work": work,
        "attention": kind,
        "grid": grid,
        "image_tokens": tokens,
        "peak_bytes": peaks[kind],
        "peak_per_token_bytes": peaks[kind] / tokens / pictures,
        "attention_peak_bytes": above_floor,
        "attention_peak_per_token_bytes": above_floor / tokens / pictures,
    }


def _read(config: TransformerConfig) -> dict[str, float]:
    """Return the bytes of keys and values that an image token's pass must read."""
    from benchmarks.work import attended_bytes, attended_image_bytes

    read, read_image = attended_bytes(config).double(), attended_image_bytes(config).double()
    return {
        "read_end_bytes": float(read[-1]),
        "read_mean_bytes": float(read.mean()),
        "read_image_end_bytes": float(read_image[-1]),
        "read_image_mean_bytes": float(read_image.mean()),
    }


def _exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the exponent of every measured figure, for both attentions; None if it cannot be fitted."""
    from benchmarks.figures import growth_exponent

    exponents = []
    for work in ("decoding", "training"):
        for figure in FITTED:
            entry: dict[str, Any] = {"work": work, "figure": figure}
            for attention in ("full", "sparse"):
                of_it = [row for row in rows if (row["work"], row["attention"]) == (work, attention) and figure in row]
                entry[attention] = growth_exponent([row["image_tokens"] for row in of_it], [r[figure] for r in of_it])
            if any(figure in row for row in rows if row["work"] == work):
                exponents.append(entry)
    return exponents


def last(image_tokens: int, count: int) -> list[int]:
    """Return the raster indices of the last `count` tokens that are read; the last token of all is never read."""
    return list(range(max(0, image_tokens - 1 - count), image_tokens - 1))


def spread(image_tokens: int, count: int) -> list[int]:
    """Return at most `count` raster indices, at the centres of equal parts of the tokens that are read."""
    read = image_tokens - 1
    return sorted({int((part + 0.5) * read / count) for part in range(count)})


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    return run_command("scaling", SENTENCE, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
