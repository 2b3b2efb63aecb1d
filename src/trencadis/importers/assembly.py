"""A discrete VAE from weights under the publisher's names."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trencadis.config import DiscreteVAEConfig
from trencadis.image import DiscreteVAE
from trencadis.importers.refusal import refusal, shown
from trencadis.importers.tensors import Tensors

MAX_COUNTED = 64  # groups, or blocks of a group
CHECK_FAMILY = "check the family"


def shape_of(tensors: Tensors, name: str, path: Path, *, dimensions: int) -> tuple[int, ...]:
    """Return the shape of a tensor that sizes are read from.

    Raises:
        ModelError: It is absent or empty, or has another number of dimensions.
    """
    if name not in tensors:
        raise refusal(path, f"has no {name}", expected="the weights of this family", remedy=CHECK_FAMILY)
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions or not all(shape):
        raise refusal(path, f"has {name} of shape {list(shape)}", expected=f"{dimensions} dimensions")
    return shape


def count_prefixes(names: Iterable[str], prefix: Callable[[int], str], first: int = 0) -> int:
    """Return how many of `prefix(first)`, `prefix(first + 1)`, … begin a name, up to the first that does not."""
    names = list(names)
    count = 0
    while count < MAX_COUNTED and any(name.startswith(prefix(first + count)) for name in names):
        count += 1
    return count


def check_names(tensors: Tensors, wanted: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Compare the names and shapes in a file with `wanted`, those of the model that its sizes make.

    Raises:
        ModelError: A tensor is missing, unknown, or of another shape.
    """
    for name in sorted(wanted.keys() ^ tensors.keys()):
        verb = "has no" if name in wanted else "has the unknown"
        expected = f"the {len(wanted)} tensors of this family"
        raise refusal(path, f"{verb} {shown(name)}", expected=expected, remedy=CHECK_FAMILY)
    for name, shape in wanted.items():
        found = tuple(tensors[name].shape)
        if found != shape:
            given = f"has {name} of shape {list(found)}"
            raise refusal(path, given, expected=f"{list(shape)}, as in its other tensors", remedy=CHECK_FAMILY)


def shapes_of(config: DiscreteVAEConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights by our names, without allocating them.

    Raises:
        ConfigError: No model can have these sizes.
    """
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in DiscreteVAE(config).state_dict().items()}


def assemble(config: DiscreteVAEConfig, weights: Mapping[str, Tensor]) -> DiscreteVAE:
    """Return the model with these weights, by our names, in evaluation mode."""
    with torch.device("meta"):
        model = DiscreteVAE(config)
    model.load_state_dict(dict(weights), assign=True)
    return model.eval()
