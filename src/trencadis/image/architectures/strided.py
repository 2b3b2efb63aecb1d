"""Residual blocks with strided convolutions between their groups.

It is the discrete VAE as most explanations of DALL·E draw it, and the convolutions of the first VQ-VAE with norms.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.config import StridedConfig
from trencadis.image.layers import ResidualBlock, group_norm


class StridedEncoder(nn.Module):
    """Pictures to features: a 3×3 stem, and groups of blocks with 4×4 convolutions of stride 2 between them."""

    # PyTorch's group norm loses digits in channels_last.
    layout = torch.contiguous_format

    def __init__(self, config: StridedConfig) -> None:
        super().__init__()
        self.out_channels = config.widths[-1]
        self.input = nn.Conv2d(3, config.widths[0], 3, padding=1)
        self.groups = nn.ModuleList(_group(width, config.blocks_per_group) for width in config.widths)
        self.resizes = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(config.widths)
        )
        self.norm = group_norm(self.out_channels)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch _ rows columns"]:
        x = self.groups[0](self.input(pixels))
        for resize, group in zip(self.resizes, self.groups[1:], strict=True):
            x = group(resize(x))
        return F.silu(self.norm(x))


class StridedDecoder(nn.Module):
    """A grid of vectors to maps: the encoder mirrored, with transposed 4×4 convolutions."""

    def __init__(self, config: StridedConfig, latent_dim: int, out_channels: int) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.input = nn.Conv2d(latent_dim, widths[0], 3, padding=1)
        self.groups = nn.ModuleList(_group(width, config.blocks_per_group) for width in widths)
        self.resizes = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.norm = group_norm(widths[-1])
        self.output = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch _ height width"]:
        x = self.groups[0](self.input(x))
        for resize, group in zip(self.resizes, self.groups[1:], strict=True):
            x = group(resize(x))
        maps: Tensor = self.output(F.silu(self.norm(x)))
        return maps


def _group(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width, width) for _ in range(blocks)))
