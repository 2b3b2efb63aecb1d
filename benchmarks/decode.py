"""Drawing image tokens: seconds per drawing, compared with the machine's ceilings and with a peer.

    python -m benchmarks.decode
    python -m benchmarks.decode --candidates 1 4 16 --json decode.json
    python -m benchmarks.decode --peer minDALL-E --peer-path ~/minDALL-E

A drawing is `candidates` pictures of one caption in one batch, from the caption's tokens to all image tokens. Decoding
them to pixels is not included. The contenders take turns, each in its own process. Every figure is the median of
`--repeats`. Before the measurement, each computes one or two tokens; ours also packs its weights, as it does once per
model. The weights are random, so do not use this to judge a decoder that guesses tokens.

*GB/s of weights* is the size of the matrices that a step reads, in their stored type, times the number of passes,
divided by the time. `share_of_linear_read` and `share_of_plain_read` are its shares of the ceilings (see
`benchmarks.ceilings`). `float32_…` in the JSON is the same as if the matrices were stored in float32. *GFLOP/s* counts
useful operations (see `benchmarks.work`): the shared caption counts once, and attention only visible positions. Neither
is given for a peer, whose model differs.

JSON: `benchmark`, `setting`, `shape`, `ceilings`, `contenders` (how each was used), and `rows` with `contender`,
`candidates`, `guidance_scale`, `weights`, `decoder`, `samples_s`, `seconds`, `pictures_per_s`, `passes`,
`weights_gb_s`, `share_of_linear_read`, `share_of_plain_read`, `float32_gb_s`, `share_of_linear_read_float32`,
`gflop_s`, `share_of_matmul`, `share_of_fastest_matmul` and `times_as_fast_as_peer`.
"""

import dataclasses
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import jsonargparse

from benchmarks.options import DEFAULT_SHAPE, add_peer, add_shape, config_of, peer_of, run_command
from trencadis.cli.arguments import integer, real
from trencadis.config import TransformerConfig
from trencadis.errors import ConfigError

if TYPE_CHECKING:
    from benchmarks.ceilings import Ceilings
    from benchmarks.child import Child

SENTENCE = "Measures how fast image tokens are drawn."
STORED_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
DECODERS = ("sequential",)  # what `sampling_of` of our contender knows
COLUMNS = {
    "contender": "contender",
    "weights": "weights",
    "decoder": "decoder",
    "candidates": "candidates",
    "seconds": "s a drawing",
    "pictures_per_s": "pictures/s",
    "passes": "passes",
    "weights_gb_s": "GB/s of weights",
    "share_of_linear_read": "of F.linear",
    "share_of_plain_read": "of plain read",
    "gflop_s": "GFLOP/s",
    "share_of_matmul": "of matmul",
    "share_of_fastest_matmul": "of fastest",
    "times_as_fast_as_peer": "as fast as the peer",
}


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--candidates", nargs="+", type=integer(1), default=[1, 16], help="pictures of a drawing; several are measured")
    add("--guidance-scale", type=real(0, 100), default=1.0, help="1 is no guidance")
    add("--weights", nargs="+", choices=list(STORED_BYTES), default=["float32"], help="type that ours are stored in")
    add("--decoder", nargs="+", choices=list(DECODERS), default=["sequential"], help="how ours decodes")
    add_shape(parser, DEFAULT_SHAPE)
    add_peer(parser)


def run(arguments: jsonargparse.Namespace) -> None:
    """Measure, print and write."""
    from benchmarks.ceilings import Ceilings
    from benchmarks.child import Child
    from benchmarks.machine import setting
    from benchmarks.report import publish, table
    from benchmarks.work import matrices_of

    config, peer = config_of(arguments), peer_of(arguments)
    before = setting(threads=arguments.threads, repeats=arguments.repeats)
    if peer is not None and peer.name == "minDALL-E" and arguments.guidance_scale != 1:
        given = f"--guidance-scale {arguments.guidance_scale:g} with --peer minDALL-E"
        raise ConfigError(given, expected="1: it has no guidance", remedy="leave one of the two out")
    with ExitStack() as opened:
        children = [opened.enter_context(Child(config, threads=arguments.threads))]
        if peer is not None:
            children.append(opened.enter_context(Child(config, threads=arguments.threads, peer=peer)))
        ceilings = Ceilings(matrices_of(config).of_decoding)
        rows = _measure(children, _cases(arguments), ceilings, arguments.repeats)
        used = {child.name: child.settings for child in children}
    figures = ceilings.figures()
    _complete(rows, config, figures)
    report = {
        "benchmark": "decode",
        "setting": before,
        "shape": dataclasses.asdict(config),
        "ceilings": figures,
        "contenders": used,
        "rows": rows,
    }
    publish(report, [table("Drawing image tokens", COLUMNS, rows)], arguments.json)


def _cases(arguments: jsonargparse.Namespace) -> list[dict[str, Any]]:
    """Return every drawing of ours to measure."""
    return [
        {"candidates": candidates, "guidance_scale": arguments.guidance_scale, "weights": weights, "decoder": decoder}
        for candidates in arguments.candidates
        for weights in arguments.weights
        for decoder in arguments.decoder
    ]


def _measure(
    children: list["Child"], cases: list[dict[str, Any]], ceilings: "Ceilings", repeats: int
) -> list[dict[str, Any]]:
    """Return a row with its samples for each case, and for a peer one for each number of candidates."""
    from benchmarks.child import OURS
    from trencadis.progress import progress

    rows: list[dict[str, Any]] = []
    for case in cases:
        peers_case = {key: case[key] for key in ("candidates", "guidance_scale")}
        for child in children:
            row = {"contender": child.name, **(case if child.name == OURS else peers_case), "samples_s": []}
            if not any(_same(row, other) for other in rows):
                rows.append(row)
    child_by_name = {child.name: child for child in children}
    with progress("drawing", len(rows) * repeats) as advance:
        for candidates in dict.fromkeys(case["candidates"] for case in cases):
            ours = [row for row in rows if row["candidates"] == candidates]
            for row in ours:
                child_by_name[row["contender"]].do("warm", **_options(row))
            for _ in range(repeats):
                for row in ours:
                    ceilings.sample()
                    done = child_by_name[row["contender"]].do("draw", **_options(row))
                    row["samples_s"].append(done.elapsed_s)
                    row["passes"] = done.result
                    advance()
    ceilings.sample()
    return rows


def _same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return (row["contender"], _options(row)) == (other["contender"], _options(other))


def _options(row: dict[str, Any]) -> dict[str, Any]:
    """Return what the contender is asked for."""
    return {key: row[key] for key in ("candidates", "guidance_scale", "weights", "decoder") if key in row}


def _complete(rows: list[dict[str, Any]], config: TransformerConfig, ceilings: dict[str, Any]) -> None:
    """Add what follows from the samples."""
    from benchmarks.child import OURS
    from benchmarks.figures import median
    from benchmarks.work import drawing_flops, matrices_of, weights_in

    weights = weights_in(matrices_of(config).of_decoding)
    for row in rows:
        row["seconds"] = median(row["samples_s"])
        row["pictures_per_s"] = row["candidates"] / row["seconds"]
    seconds_of_peer = {row["candidates"]: row["seconds"] for row in rows if row["contender"] != OURS}
    for row in (row for row in rows if row["contender"] == OURS):
        read_gb_s = weights * row["passes"] / row["seconds"] / 1e9  # if a weight were a byte
        stored_gb_s, float32_gb_s = read_gb_s * STORED_BYTES[row["weights"]], read_gb_s * STORED_BYTES["float32"]
        flops = drawing_flops(config, row["candidates"], guided=row["guidance_scale"] != 1)
        row |= {
            "weights_gb_s": stored_gb_s,
            "share_of_linear_read": stored_gb_s / ceilings["linear_read_gb_s"],
            "share_of_plain_read": stored_gb_s / ceilings["plain_read_gb_s"],
            "float32_gb_s": float32_gb_s,
            "share_of_linear_read_float32": float32_gb_s / ceilings["linear_read_gb_s"],
            "gflop_s": flops / row["seconds"] / 1e9,
            "share_of_matmul": flops / row["seconds"] / 1e9 / ceilings["matmul_gflop_s"],
            "share_of_fastest_matmul": flops / row["seconds"] / 1e9 / ceilings["fastest_matmul_gflop_s"],
        }
        if row["candidates"] in seconds_of_peer:
            row["times_as_fast_as_peer"] = seconds_of_peer[row["candidates"]] / row["seconds"]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    return run_command("decode", SENTENCE, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
