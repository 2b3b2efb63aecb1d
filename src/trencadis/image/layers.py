"""What the convolutional architectures are built of."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

NORM_GROUPS = 32
CHANNEL_NORM_EPS = 1e-3
"""Added to mean squares: flat grounds have features near zero, whose gradients a small one magnifies a thousandfold."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a normalization over 32 groups of channels, or as many as divide them."""
    return nn.GroupNorm(math.gcd(NORM_GROUPS, channels), channels, eps=1e-6)


class Float32Convolution(nn.Conv2d):
    """A 1×1 convolution in float32 even under autocast: the codes are sensitive to rounding."""

    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ height width"]:
        with torch.autocast(input.device.type, enabled=False):
            output: Tensor = self._conv_forward(input.float(), self.weight.float(), self.bias.float())
        return output


class ChannelNorm(nn.Module):
    """A place's channels divided by their root mean square, times gains, plus biases. Exact in any layout.

    Source: Zhang and Sennrich 2019.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ height width"]:
        scale = torch.rsqrt(x.float().square().mean(dim=1, keepdim=True) + CHANNEL_NORM_EPS).to(x.dtype)
        weight, bias = (parameter.to(x.dtype).view(-1, 1, 1) for parameter in (self.weight, self.bias))
        return x * scale * weight + bias


class ResidualBlock(nn.Module):
    """Twice norm, activation and a 3×3 convolution, beside the identity: a 1×1 convolution where channels change.

    Source: He et al. 2016; Esser et al. 2021 for the norm, over groups, and the activation, x·sigmoid(x).
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Callable[[int], nn.Module] = group_norm) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = norm(in_channels), norm(out_channels)
        self.convolution_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.convolution_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.identity = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ height width"]:
        residual = self.convolution_1(F.silu(self.norm_1(x)))
        residual = self.convolution_2(F.silu(self.norm_2(residual)))
        output: Tensor = self.identity(x) + residual
        return output


class SpatialAttention(nn.Module):
    """One head of attention among all places of the grid, beside the identity. Source: Esser et al. 2021."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module] = group_norm) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.query, self.key, self.value, self.output = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        normed = self.norm(x)
        layers = (self.query, self.key, self.value)
        query, key, value = (layer(normed).flatten(2).transpose(1, 2) for layer in layers)
        read = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = x + self.output(read.transpose(1, 2).reshape(x.shape))
        return output
