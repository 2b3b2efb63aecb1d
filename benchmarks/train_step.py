"""One update of the transformer: seconds, operations per second and peak memory, compared with a peer.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --batch-size 16 --json train_step.json
    python -m benchmarks.train_step --peer minDALL-E --peer-path ~/minDALL-E

An update is a forward pass, a backward pass and the optimizer's step on a batch of synthetic tokens. Ours is
`Trainer.update`, which also clips the gradient and updates the EMA; `contenders` in the output describes a peer's.
The contenders take turns, each in its own process, after a first update that is not measured. Every figure is the
median of `--repeats`.

*GFLOP/s* counts useful operations: three times those of a forward pass, for matrix products and attention. Attention
counts only visible pairs of positions; the plain form of causal attention computes about twice as many. It is not given
for a peer, whose model differs.

*In products* is the share of ours' time that matrix products and attention take, in one more update under torch's
profiler. *Of bfloat16* compares with a product of large matrices in bfloat16, measured where `--precision` is bfloat16.

*Peak memory* is the peak of a contender's process (VmHWM) minus its memory after the imports and before the model was
built. Ours includes the EMA, which has as many weights as the model.

JSON: `benchmark`, `setting`, `shape`, `batch_size`, `precision`, `checkpointed_blocks`, `flops`, `ceilings`,
`contenders`, and `rows` with `contender`, `samples_s`, `seconds`, `peak_bytes`, `gflop_s`, `share_of_matmul`,
`share_of_fastest_matmul`, `share_of_bfloat16`, `share_in_products`, `times_as_fast_as_peer` and `times_memory_of_peer`.
"""

import dataclasses
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import jsonargparse

from benchmarks.options import DEFAULT_SHAPE, add_peer, add_shape, config_of, peer_of, run_command
from trencadis.cli.arguments import integer

if TYPE_CHECKING:
    from benchmarks.ceilings import Ceilings
    from benchmarks.child import Child

SENTENCE = "Measures one update of the transformer."
COLUMNS = {
    "contender": "contender",
    "seconds": "s an update",
    "gflop_s": "GFLOP/s",
    "share_of_matmul": "of matmul",
    "share_of_fastest_matmul": "of fastest",
    "share_of_bfloat16": "of bfloat16",
    "share_in_products": "in products",
    "peak_bytes": "peak memory",
    "times_as_fast_as_peer": "as fast as the peer",
    "times_memory_of_peer": "memory of the peer's",
}


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--batch-size", type=integer(1), default=8, help="pairs of an update")
    add("--precision", choices=["float32", "bfloat16"], default="float32", help="type that ours computes products in")
    add("--checkpointed-blocks", type=integer(0), default=0, help="blocks of ours that are computed twice, for memory")
    add_shape(parser, DEFAULT_SHAPE)
    add_peer(parser)


def run(arguments: jsonargparse.Namespace) -> None:
    """Measure, print and write."""
    from benchmarks.ceilings import Ceilings
    from benchmarks.child import Child
    from benchmarks.machine import setting
    from benchmarks.report import publish, table
    from benchmarks.work import matrices_of, training_flops

    config, peer = config_of(arguments), peer_of(arguments)
    before = setting(threads=arguments.threads, repeats=arguments.repeats)
    flops = training_flops(config, arguments.batch_size)
    with ExitStack() as opened:
        children = [opened.enter_context(Child(config, threads=arguments.threads, trains=True))]
        if peer is not None:
            children.append(opened.enter_context(Child(config, threads=arguments.threads, peer=peer, trains=True)))
        ceilings = Ceilings(matrices_of(config).of_decoding, precision=arguments.precision)
        own = {"precision": arguments.precision, "checkpointed_blocks": arguments.checkpointed_blocks}
        rows = _measure(children, arguments.batch_size, own, ceilings, arguments.repeats)
        used = {child.name: child.settings for child in children}
    figures = ceilings.figures()
    _complete(rows, flops, figures)
    report = {
        "benchmark": "train_step",
        "setting": before,
        "shape": dataclasses.asdict(config),
        "batch_size": arguments.batch_size,
        **own,
        "flops": flops,
        "ceilings": figures,
        "contenders": used,
        "rows": rows,
    }
    title = f"An update on {arguments.batch_size} pairs"
    publish(report, [table(title, COLUMNS, rows)], arguments.json)


def _measure(
    children: list["Child"], batch_size: int, own: dict[str, Any], ceilings: "Ceilings", repeats: int
) -> list[dict[str, Any]]:
    """Return a row for each contender, with its samples and its peak memory.

    Args:
        children: The contenders.
        batch_size: Pairs of an update.
        own: What only ours is told.
        ceilings: Sampled between updates.
        repeats: Updates measured.
    """
    from benchmarks.child import OURS
    from trencadis.progress import progress

    rows: list[dict[str, Any]] = [{"contender": child.name, "samples_s": []} for child in children]
    with progress("training", len(rows) * (repeats + 1)) as advance:
        for repeat in range(repeats + 1):
            for child, row in zip(children, rows, strict=True):
                ceilings.sample()
                told = own if child.name == OURS else {}
                elapsed_s = child.do("train_step", batch_size=batch_size, **told).elapsed_s
                if repeat:  # the first one allocates, and builds the optimizer
                    row["samples_s"].append(elapsed_s)
                advance()
    ceilings.sample()
    for child, row in zip(children, rows, strict=True):
        row["peak_bytes"] = child.peak_bytes()
        if child.name == OURS:
            row["share_in_products"] = child.do("product_share", batch_size=batch_size, **own).result
    return rows


def _complete(rows: list[dict[str, Any]], flops: float, ceilings: dict[str, Any]) -> None:
    """Add what follows from the samples."""
    from benchmarks.figures import median

    for row in rows:
        row["seconds"] = median(row["samples_s"])
    ours, *peers = rows
    ours["gflop_s"] = flops / ours["seconds"] / 1e9
    ours["share_of_matmul"] = ours["gflop_s"] / ceilings["matmul_gflop_s"]
    ours["share_of_fastest_matmul"] = ours["gflop_s"] / ceilings["fastest_matmul_gflop_s"]
    if "bfloat16_gflop_s" in ceilings:
        ours["share_of_bfloat16"] = ours["gflop_s"] / ceilings["bfloat16_gflop_s"]
    for peer in peers:
        ours["times_as_fast_as_peer"] = peer["seconds"] / ours["seconds"]
        ours["times_memory_of_peer"] = ours["peak_bytes"] / peer["peak_bytes"]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    return run_command("train_step", SENTENCE, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
