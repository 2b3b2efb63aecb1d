"""DALL·E's 12 billion parameters over many ranks, without the machines: memory of a rank, and what is communicated.

    python -m benchmarks.sharded
    python -m benchmarks.sharded --ranks 1024 --machine 1024
    python -m benchmarks.sharded --slice --layers 4

One process is rank 0 of `--ranks`: its process group moves nothing, and its tensors hold no numbers. The model is the
real one, each block and then the rest sharded by torch's `fully_shard` over the `--machine` ranks of a machine, and
copied from machine to machine; products and communication are in float16, weights and their optimizer in float32, and
each block is computed twice. Two updates of one sample are made, because the optimizer's state is there from the first
on. In place of the cross-entropy is the mean of all logits: which tokens count depends on numbers.

*Peak* is the most that rank 0 holds at once, by torch's own memory tracker. *Bytes* are those of the whole tensors that
a rank's collectives of one update fill or sum. *Seconds* are those of a ring without any overlap, over `--link` between
the ranks of a machine and over `--network` between machines, which all ranks of a machine share; those of products are
of `--device` at the utilisation that plans assume. *PowerSGD* is the share of the numbers of an all-reduce that factors
of `--rank-of-factors` leave out, from the shapes of the matrices.

`--slice` makes one real update of a slice of the model on this machine instead: `--layers` of the same widths, the
whole stream, float16 with a gradient scale for each branch, and AdamW. It takes about 18 bytes a parameter.

JSON: `benchmark`, `setting`, `shape`, `rows`.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jsonargparse

from benchmarks.options import run_command
from trencadis.cli.arguments import integer, one_of, real
from trencadis.config import TransformerConfig
from trencadis.training.accelerators import ACCELERATORS, UTILISATION

if TYPE_CHECKING:
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh

    from trencadis.transformer import Transformer

COLUMNS = {
    "what": "",
    "peak_bytes": "peak",
    "state_bytes": "weights, gradients, optimizer",
    "calls": "calls",
    "bytes_bytes": "bytes",
    "seconds": "seconds",
    "share_of_update": "share",
}
_COLLECTIVES = {"_allgather_base_": "all-gather", "_reduce_scatter_base_": "reduce-scatter", "allreduce_": "all-reduce"}


@contextmanager
def fake_ranks(ranks: int, machine: int) -> Iterator["DeviceMesh"]:
    """Be rank 0 of a process group that moves nothing; yield machines × ranks of one.

    torch's own test package has the only one there is; nothing else knows of it.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
    try:
        yield init_device_mesh("cpu", (ranks // machine, machine), mesh_dim_names=("replicate", "shard"))
    finally:
        dist.destroy_process_group()


def shard(whole: "nn.Module", blocks: "nn.ModuleList", mesh: "DeviceMesh") -> None:
    """Shard each block and then the rest over the machine, and copy the shards from machine to machine."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    used = mesh if mesh.shape[0] > 1 else mesh["shard"]
    policy = MixedPrecisionPolicy(torch.float16, torch.float16, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mesh=used, mp_policy=policy)
    fully_shard(whole, mesh=used, mp_policy=policy)


def measure(config: TransformerConfig, ranks: int, machine: int) -> dict[str, Any]:
    """Return the peak of a rank in an update, what it holds between updates, and calls and bytes of its collectives."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker

    from trencadis.transformer import Transformer

    with fake_ranks(ranks, machine) as mesh, FakeTensorMode():
        transformer = Transformer(config)
        transformer.checkpointed_blocks = config.num_layers
        whole = _whole(transformer)
        shard(whole, transformer.blocks, mesh)
        optimizer = torch.optim.AdamW(whole.parameters(), foreach=False)
        text = torch.zeros(1, config.text_len, dtype=torch.long)
        image = torch.zeros(1, *config.grid_size, dtype=torch.long)
        tracker, counter = FSDPMemTracker(whole, optimizer), _counter()
        tracker.track_inputs((text, image))
        with tracker:
            _update(whole, optimizer, text, image)
            tracker.reset_mod_stats()
            with counter:
                _update(whole, optimizer, text, image)
        peak, left = (tracker.get_tracker_snapshot(kind)[torch.device("cpu")] for kind in ("peak", "current"))
    kinds = {str(kind).rpartition(".")[2]: size for kind, size in left.items()}
    gradients = kinds["SHARDED_PARAM"]  # of which there are none between updates
    state = kinds["SHARDED_PARAM"] + gradients + kinds["OPT"]
    return {"peak": peak["Total"], "state": state, "calls": counter.calls, "bytes": counter.moved}


def _whole(transformer: "Transformer") -> "nn.Module":
    """Return a module whose forward pass is that of training: sharding hooks into it."""
    from torch import Tensor, nn

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, text: Tensor, image: Tensor) -> Tensor:
            logits = transformer.logits(text, image)
            return logits.text.float().mean() + logits.image.float().mean()

    return Whole()


def _update(whole: "nn.Module", optimizer: Any, text: Any, image: Any) -> None:
    import torch

    with torch.autocast("cpu", torch.float16):
        loss = whole(text, image)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _counter() -> Any:
    """Return a mode that counts collectives and the bytes of the larger of their tensors."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.calls: Counter[str] = Counter()
            self.moved: Counter[str] = Counter()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            space, _, name = func.name().partition("::")
            if space == "c10d":
                tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
                kind = _COLLECTIVES.get(name.partition(".")[0], name)
                self.calls[kind] += 1
                self.moved[kind] += max(tensor.numel() * tensor.element_size() for tensor in tensors)
            return func(*args, **(kwargs or {}))

    return Counting()


def left_out_by_factors(config: TransformerConfig, rank: int) -> float:
    """Return the share of a model's numbers that PowerSGD's factors save: n·m of a matrix become rank·(n + m).

    Source: Vogels et al. 2019; vectors, and matrices that factors would not make smaller, stay.
    """
    import torch

    from trencadis.transformer import Transformer

    with torch.device("meta"):
        shapes = [tuple(p.shape) for p in Transformer(config).parameters()]
    whole = sum(_count(shape) for shape in shapes)
    sent = sum(min(_count(shape), rank * sum(shape)) if len(shape) == 2 else _count(shape) for shape in shapes)
    return 1 - sent / whole


def _count(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def slice_update(config: TransformerConfig) -> dict[str, Any]:
    """Make one update in float16 and return its seconds, its loss before and after, and the gradient's norm."""
    import torch

    from trencadis.config import OptimizerConfig
    from trencadis.training.mixed_precision import GradientScales, autocast
    from trencadis.training.optimizers import clip_gradients, optimizers
    from trencadis.training.transformer import branches
    from trencadis.transformer import Transformer

    torch.manual_seed(0)
    model = Transformer(config)
    model.checkpointed_blocks = config.num_layers
    scales = GradientScales(branches(model))
    (optimizer,) = optimizers(model, OptimizerConfig(warmup_steps=0), "float16")
    text = torch.randint(config.text_vocab_size, (1, config.text_len))
    image = torch.randint(config.image_vocab_size, (1, *config.grid_size))

    def loss() -> torch.Tensor:
        with autocast(torch.device("cpu"), "float16"):
            found = model.losses(text, image)
        return found.text / 8 / found.text_count + 7 * found.image / 8 / found.image_count

    began_s = time.perf_counter()
    before = loss()
    torch.autograd.backward(before)
    finite = scales.unscale()
    scales.update(finite)
    norm = clip_gradients(model, 4.0)
    optimizer.step()
    seconds = time.perf_counter() - began_s
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        after = float(loss())
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "seconds": seconds, "loss": float(before.detach()), "loss_after": after} | {
        "gradient_norm": norm,
        "finite_branches": sum(finite),
        "branches": len(finite),
    }


def rows_of(found: dict[str, Any], flops: float, arguments: jsonargparse.Namespace) -> list[dict[str, Any]]:
    """Return the memory of a rank, and the seconds of each part of an update.

    Args:
        found: What `measure` returned.
        flops: Products of a rank's update.
        arguments: Of the command line.
    """
    machines, network = arguments.ranks // arguments.machine, arguments.network * 1e9 / arguments.machine
    within, between = (arguments.machine - 1) / arguments.machine, 2 * (machines - 1) / machines
    link = arguments.link * 1e9
    ring_s = {"all-gather": within / link, "reduce-scatter": within / link, "all-reduce": between / network}
    seconds = {"products": flops / (ACCELERATORS[arguments.device].peak_flops * UTILISATION)}
    seconds |= {kind: count * ring_s.get(kind, 0.0) for kind, count in found["bytes"].items()}
    rows: list[dict[str, Any]] = [{"what": "a rank", "peak_bytes": found["peak"], "state_bytes": found["state"]}]
    for kind, took_s in seconds.items():
        row = {"what": kind, "seconds": took_s, "share_of_update": took_s / sum(seconds.values())}
        if kind in found["calls"]:
            row |= {"calls": found["calls"][kind], "bytes_bytes": found["bytes"][kind]}
        rows.append(row)
    return rows


def _flops(layers: int) -> float:
    """Return the products of an update of one sample, with every block computed twice."""
    from trencadis.config.plain import overlay
    from trencadis.recipes import dalle_v1
    from trencadis.training.costs import training_flops

    run = overlay(dalle_v1(), {"transformer": {"model": {"num_layers": layers}}})
    return training_flops(run)["transformer"] * 4 / 3


def _add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--ranks", type=integer(2), default=1024, help="processes")
    add("--machine", type=integer(2), default=8, help="processes of a machine, which share one copy of the model")
    add("--layers", type=integer(1), default=64, help="residual layers")
    add("--device", type=one_of(*ACCELERATORS), default="v100", help="whose products are assumed")
    add(
        "--link", type=real(0, low_open=True, example=150), default=150.0, help="GB/s of a rank to those of its machine"
    )
    about = "GB/s of a machine to the others; 100 Gbit/s by default"
    add("--network", type=real(0, low_open=True, example=12.5), default=12.5, help=about)
    add("--rank-of-factors", type=integer(1), default=896, help="of PowerSGD")
    add("--slice", action="store_true", help="make a real update of a slice of the model here instead")


def _run(arguments: jsonargparse.Namespace) -> None:
    import torch

    from benchmarks.machine import setting
    from benchmarks.report import publish, table
    from trencadis.errors import ConfigError

    if arguments.ranks % arguments.machine:
        given = f"--ranks {arguments.ranks} and --machine {arguments.machine}"
        raise ConfigError(given, expected="whole machines", remedy="choose a multiple")
    torch.set_num_threads(arguments.threads)
    config = TransformerConfig(num_layers=arguments.layers)
    shape = {name: arguments[name] for name in ("layers", "ranks", "machine", "device", "link", "network")}
    report = {"benchmark": "sharded", "setting": setting(threads=arguments.threads, repeats=1), "shape": shape}
    if arguments.slice:
        rows = [slice_update(config)]
        columns = {name: name.replace("_", " ") for name in rows[0]}
    else:
        found, columns = measure(config, arguments.ranks, arguments.machine), COLUMNS
        rows = rows_of(found, _flops(arguments.layers), arguments)
        left_out = left_out_by_factors(config, arguments.rank_of_factors)
        rows.append({"what": "PowerSGD leaves out, of the all-reduce", "share_of_update": left_out})
    publish(report | {"rows": rows}, [table("DALL·E over many ranks", columns, rows)], arguments.json)


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    sentence = "Computes memory and communication of DALL·E's transformer over many ranks, without the machines."
    return run_command("sharded", sentence, _add_arguments, _run, argv)


if __name__ == "__main__":
    sys.exit(main())
