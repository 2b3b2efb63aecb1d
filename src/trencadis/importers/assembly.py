"""A discrete VAE from weights under the publisher's names."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trencadis.config import DiscreteVAEConfig
from trencadis.image import DiscreteVAE
from trencadis.importers.refusal import refusal, shown
from trencadis.importers.tensors import StoredTensor

Tensors = Mapping[str, StoredTensor]

MAX_IN_A_ROW = 64  # groups, or blocks of one


def shape_of(tensors: Tensors, name: str, path: Path, *, dimensions: int) -> tuple[int, ...]:
    """Return the shape of a tensor that sizes are read from.

    Raises:
        ModelError: It is absent, has another number of dimensions, or is empty.
    """
    if name not in tensors:
        raise refusal(path, f"has no {shown(name)}", expected="the weights of this family", remedy="check the family")
    shape = tensors[name].shape
    if len(shape) != dimensions or not all(shape):
        raise refusal(path, f"has {shown(name)} of shape {list(shape)}", expected=f"{dimensions} dimensions")
    return shape


def counted(tensors: Iterable[str], name_at: Callable[[int], str], first: int = 0) -> int:
    """Return how many there are in a row, up to a limit: `name_at(first)`, `name_at(first + 1)` … begin a name."""
    names = list(tensors)
    count = 0
    while count < MAX_IN_A_ROW and any(name.startswith(name_at(first + count)) for name in names):
        count += 1
    return count


def check_names(tensors: Tensors, wanted: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Compare the names and shapes of a file with those of the model that its sizes make.

    Args:
        tensors: Of the file, by the publisher's names.
        wanted: The shapes that there should be, by the publisher's names.
        path: The file.

    Raises:
        ModelError: One is missing, has another shape, or is not known.
    """
    remedy = "check the family, and that the file is one of its publisher's"
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        given = f"has no {missing[0]}" + (f" (and {len(missing) - 1} more)" if missing[1:] else "")
        raise refusal(path, given, expected=f"{len(wanted)} tensors of this family", remedy=remedy)
    unknown = sorted(tensors.keys() - wanted.keys())
    if unknown:
        given = f"has {shown(unknown[0])}" + (f" (and {len(unknown) - 1} more)" if unknown[1:] else "")
        expected = f"nothing but the {len(wanted)} tensors of this family"
        raise refusal(path, given + ", of which nothing is known", expected=expected, remedy=remedy)
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            given = f"has {name} of shape {list(tensors[name].shape)}"
            raise refusal(path, given, expected=f"{list(shape)}, as its other tensors have it", remedy=remedy)


def shapes_of(config: DiscreteVAEConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights by our names; no memory is taken for them.

    Raises:
        ConfigError: No model can have these sizes.
    """
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in DiscreteVAE(config).state_dict().items()}


def assemble(config: DiscreteVAEConfig, weights: Mapping[str, Tensor]) -> DiscreteVAE:
    """Return the model with these weights, by our names, as its own; in evaluation mode."""
    with torch.device("meta"):
        model = DiscreteVAE(config)
    model.load_state_dict(dict(weights), assign=True)
    return model.eval()
