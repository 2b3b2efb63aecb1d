"""The layers of a block: Linear, RMSNorm and MLP, computed by the kernels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.transformer.kernels.cpu import Activation, linear, mlp, rms_norm


class Linear(nn.Linear):
    """`nn.Linear` by the faster of torch's two libraries."""

    def forward(self, x: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        return linear(x, self.weight, self.bias)


class RMSNorm(nn.Module):
    """Divides by the root mean square and multiplies by gains. Source: Zhang and Sennrich 2019."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return rms_norm(x, self.weight)


class MLP(nn.Sequential):
    """Linear, activation, Linear. The activation has no module of its own: see `kernels.cpu.mlp`."""

    def __init__(self, dim: int, mlp_dim: int, activation: Activation, *, bias: bool) -> None:
        super().__init__(Linear(dim, mlp_dim, bias=bias), nn.Identity(), Linear(mlp_dim, dim, bias=bias))
        self.activation = activation

    @property
    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """The layer into the hidden width, and the one out of it."""
        up, down = self[0], self[2]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        return up, down

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        up, down = self.layers
        return mlp(x, up.weight, up.bias, down.weight, down.bias, self.activation)
