"""Low-rank updates of the blocks' matrices while they are trained. Source: Hu et al. 2021, "LoRA"."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trencadis.config.lora import LoRAConfig
from trencadis.transformer.model import Transformer

Matrix = Float[Tensor, "rows columns"]
_ORIGINAL = "parametrizations.weight.original"
_ADDED = "parametrizations.weight.0."


class LowRank(nn.Module):
    """Adds `scale` · B A to a matrix. At first B is zero, so that nothing is added."""

    def __init__(self, weight: Matrix, config: LoRAConfig) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = config.scale
        self.a = nn.Parameter(weight.new_empty(config.rank, columns))
        self.b = nn.Parameter(weight.new_zeros(rows, config.rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as the authors' code does

    def forward(self, weight: Matrix) -> Matrix:
        with torch.autocast(weight.device.type, enabled=False):  # else B A would be rounded to 16 bits
            return weight + update(self.a, self.b, self.scale)


def update(a: Float[Tensor, "rank columns"], b: Float[Tensor, "rows rank"], scale: float) -> Matrix:
    """Return what is added to a matrix, in training and where an adapter is merged alike, so that both are equal."""
    return scale * (b @ a)


def block_matrices(transformer: Transformer) -> dict[str, nn.Linear]:
    """Return the linear layers of attention and MLP, by their names, such as `blocks.0.attention.qkv`."""
    named = transformer.blocks.named_modules(prefix="blocks")
    return {name: layer for name, layer in named if isinstance(layer, nn.Linear)}


def add_updates(transformer: Transformer, config: LoRAConfig) -> None:
    """Give each of the blocks' matrices an update, and freeze all other weights."""
    transformer.requires_grad_(False)
    for layer in block_matrices(transformer).values():
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, config))


def take_updates(transformer: Transformer) -> dict[str, tuple[Tensor, Tensor]]:
    """Remove the updates, and return the A and B of each matrix. The matrices are again what they were before."""
    taken = {}
    for name, layer in block_matrices(transformer).items():
        assert isinstance(layer.parametrizations, nn.ModuleDict), "after add_updates"
        added = layer.parametrizations["weight"][0]  # type: ignore[index]
        taken[name] = added.a.detach(), added.b.detach()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    transformer.requires_grad_(True)
    return taken


def plain_name(name: str) -> str | None:
    """Return the name that a weight has in a model without updates; None for an update's own weights."""
    return None if _ADDED in name else name.replace(_ORIGINAL, "weight")
