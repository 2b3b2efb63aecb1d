"""The convolutions of the discrete VAE as published. Source: Ramesh et al. 2021, appendix A.1."""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.config import PublishedConfig
from trencadis.config.image import BOTTLENECK
from trencadis.image.fused_convolution import add_convolved, convolve


class Convolution(nn.Conv2d):
    """A convolution that keeps height and width, with weights from N(0, 1/√(in·kernel²)) and biases at zero."""

    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=(self.in_channels * self.kernel_size[0] ** 2) ** -0.5)
        nn.init.zeros_(self.bias)


class Block(nn.Module):
    """A bottleneck of four convolutions, each preceded by ReLU, beside the identity.

    Where the number of channels changes, the identity is a 1×1 convolution.

    Args:
        gain: What the residual path is multiplied by, so that a deep stack starts as nearly the identity.
        doubled: The input stands for one of twice its height and width, with every pixel made four. The first
            convolution and the identity are 1×1 then: they give four equal pixels, and are computed once for all four.
        consumes: The input is needed by nothing else, and is written over where no gradient is recorded.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: tuple[int, int, int, int],
        gain: float,
        *,
        doubled: bool = False,
        consumes: bool = False,
    ) -> None:
        super().__init__()
        assert kernel_sizes[0] == 1 or not doubled
        hidden = out_channels // BOTTLENECK
        widths = (in_channels, hidden, hidden, hidden, out_channels)
        self.gain, self.doubled, self.consumes = gain, doubled, consumes
        self.convolutions = nn.ModuleList(
            Convolution(before, after, kernel_size)
            for (before, after), kernel_size in zip(pairwise(widths), kernel_sizes, strict=True)
        )
        self.identity: nn.Identity | Convolution
        self.identity = nn.Identity() if in_channels == out_channels else Convolution(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch _ height width"]:
        first, second, third, last = cast("list[Convolution]", list(self.convolutions))
        residual = convolve(first, F.relu(x), relu=True)
        total = x if isinstance(self.identity, nn.Identity) else convolve(self.identity, x)
        if self.doubled:
            residual, total = (F.interpolate(part, scale_factor=2.0, mode="nearest") for part in (residual, total))
        residual = convolve(third, convolve(second, residual, relu=True), relu=True)
        return add_convolved(total, last, residual, gain=self.gain, inplace=self.consumes or total is not x)


class PublishedEncoder(nn.Module):
    """Pictures to features: a 7×7 convolution, and groups with max-pooling between them."""

    layout = torch.channels_last

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.out_channels = config.widths[-1]
        self.input = Convolution(3, config.widths[0], 7)
        self.groups = _groups((config.widths[0], *config.widths), (3, 3, 3, 1), config)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch _ rows columns"]:
        x = self.input(pixels)
        for index, group in enumerate(self.groups):
            x = group(F.max_pool2d(x, 2) if index else x)
        return F.relu(x)


class PublishedDecoder(nn.Module):
    """A grid of vectors to maps: groups with nearest up-sampling between them, and a 1×1 convolution."""

    def __init__(self, config: PublishedConfig, latent_dim: int, out_channels: int) -> None:
        super().__init__()
        self.groups = _groups((latent_dim, *reversed(config.widths)), (1, 3, 3, 3), config, doubling=True)
        self.output = Convolution(config.widths[0], out_channels, 1)

    def forward(self, x: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch _ height width"]:
        for group in self.groups:
            x = group(x)
        return convolve(self.output, F.relu(x, inplace=True))


def _groups(
    widths: tuple[int, ...], kernel_sizes: tuple[int, int, int, int], config: PublishedConfig, *, doubling: bool = False
) -> nn.ModuleList:
    """Return groups of blocks, for the widths of the input and of each group.

    With `doubling`, every group but the first begins by doubling the grid.
    """
    gain = 1 / (len(config.width_multipliers) * config.blocks_per_group) ** 2
    groups = nn.ModuleList()
    for before, after in pairwise(widths):
        # The first block of a decoder has what the decoder was given, which is not to be written over.
        first = Block(before, after, kernel_sizes, gain, doubled=doubling and len(groups) > 0, consumes=not doubling)
        others = (Block(after, after, kernel_sizes, gain, consumes=True) for _ in range(config.blocks_per_group - 1))
        groups.append(nn.Sequential(first, *others))
    return groups
