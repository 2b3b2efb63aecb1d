"""A discrete VAE from weights under the publisher's names."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trencadis.config import DiscreteVAEConfig
from trencadis.image import DiscreteVAE
from trencadis.importers.refusal import refusal, shown
from trencadis.importers.tensors import Tensors, read_tensors

MAX_COUNTED = 64  # groups, or blocks of a group
CHECK_FAMILY = "check the family"

Shapes = Mapping[str, tuple[int, ...]]


def shape_of(tensors: Tensors, name: str, path: Path, *, dimensions: int = 4) -> tuple[int, ...]:
    """Return the shape of a tensor that sizes are read from; it must be there, not empty, with these `dimensions`."""
    if name not in tensors:
        raise refusal(path, f"has no {name}", expected="the weights of this family", remedy=CHECK_FAMILY)
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions or not all(shape):
        raise refusal(path, f"has {name} of shape {list(shape)}", expected=f"{dimensions} dimensions")
    return shape


def count_prefixes(names: Iterable[str], prefix: Callable[[int], str], first: int = 0) -> int:
    """Return how many of `prefix(first)`, `prefix(first + 1)`, … begin a name, up to the first that does not."""
    names, count = list(names), 0
    while count < MAX_COUNTED and any(name.startswith(prefix(first + count)) for name in names):
        count += 1
    return count


def checked_weights(
    tensors: Tensors, path: Path, names: Iterable[tuple[str, str]], wanted: Shapes, more: Shapes | None = None
) -> dict[str, Tensor]:
    """Return the weights of a file by our names, in float32.

    Args:
        tensors: The file's, by the publisher's names.
        path: The file.
        names: Our name and the publisher's for each weight; those that are not `wanted` are left out.
        wanted: Shapes of a model of the file's sizes, by our names.
        more: Shapes of further tensors, which keep the publisher's names.

    Raises:
        ModelError: A tensor is missing, unknown, of another shape, or damaged.
    """
    published = {theirs: ours for ours, theirs in names if ours in wanted} | {name: name for name in more or {}}
    shapes = {**wanted, **(more or {})}
    for name in sorted(published.keys() ^ tensors.keys()):
        verb = "has no" if name in published else "has the unknown"
        expected = f"the {len(published):,} tensors of this family"
        raise refusal(path, f"{verb} {shown(name)}", expected=expected, remedy=CHECK_FAMILY)
    for name, ours in published.items():
        found = tuple(tensors[name].shape)
        if found != shapes[ours]:
            given, expected = f"has {name} of shape {list(found)}", f"{list(shapes[ours])}, as in its other tensors"
            raise refusal(path, given, expected=expected, remedy=CHECK_FAMILY)
    return {published[name]: weight for name, weight in read_tensors(tensors, path).items()}


def shapes_of(config: DiscreteVAEConfig) -> Shapes:
    """Return the shapes of a model's weights by our names, without allocating them."""
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in DiscreteVAE(config).state_dict().items()}


def assemble(config: DiscreteVAEConfig, weights: Mapping[str, Tensor]) -> DiscreteVAE:
    """Return the model with these weights, by our names, in evaluation mode."""
    with torch.device("meta"):
        model = DiscreteVAE(config)
    model.load_state_dict(dict(weights), assign=True)
    return model.eval()
