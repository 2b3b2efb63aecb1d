"""Residual blocks on the grid of tokens only, and strided convolutions between the grid and the pixels.

It is made for many updates in little time: a block on a grid of an eighth of the size costs 1/64. The shape is that of
the first VQ-VAE (van den Oord et al. 2017), with norms, one block less in the encoder, and paths that begin as the
identity.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.config import LeanConfig
from trencadis.image.layers import ChannelNorm, ResidualBlock, SpatialAttention


class LeanEncoder(nn.Module):
    """Pictures to features: 4×4 convolutions of stride 2, and residual blocks."""

    layout = torch.channels_last

    def __init__(self, config: LeanConfig) -> None:
        super().__init__()
        widths = config.widths
        self.out_channels = widths[-1]
        self.input = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        self.resizes = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.blocks = _blocks(self.out_channels, config.blocks, config.attention_after)
        self.norm = ChannelNorm(self.out_channels)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch _ rows columns"]:
        x = self.input(pixels)
        for resize in self.resizes:
            x = resize(F.silu(x))
        return F.silu(self.norm(self.blocks(x)))


class LeanDecoder(nn.Module):
    """A grid of vectors to maps: residual blocks, one more than the encoder has, and transposed 4×4 convolutions."""

    def __init__(self, config: LeanConfig, latent_dim: int, out_channels: int) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.input = nn.Conv2d(latent_dim, widths[0], 3, padding=1)
        self.blocks = _blocks(widths[0], config.blocks + 1, config.attention_after)
        self.resizes = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.output = nn.ConvTranspose2d(widths[-1], out_channels, 4, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch _ height width"]:
        x = self.blocks(self.input(x))
        for resize in self.resizes:
            x = resize(F.silu(x))
        maps: Tensor = self.output(F.silu(x))
        return maps


def _blocks(width: int, count: int, attention_after: str) -> nn.Sequential:
    """Return residual blocks and their attention; all begin as the identity."""
    attentions = {"none": 0, "first": 1, "every": count}[attention_after]
    layers: list[nn.Module] = []
    for index in range(count):
        block = ResidualBlock(width, width, norm=ChannelNorm)
        layers.append(_zero_init(block, block.convolution_2))
        if index < attentions:
            attention_layer = SpatialAttention(width, norm=ChannelNorm)
            layers.append(_zero_init(attention_layer, attention_layer.output))
    return nn.Sequential(*layers)


def _zero_init(layer: nn.Module, last: nn.Conv2d) -> nn.Module:
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return layer
