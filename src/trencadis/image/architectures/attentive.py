"""The convolutions of VQ-GAN, with attention where the grid is small. Source: Esser et al. 2021."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.config import AttentiveConfig
from trencadis.image.layers import ResidualBlock, SpatialAttention, group_norm


class Downsample(nn.Conv2d):
    """A 3×3 convolution of stride 2 over the picture with a row and a column of zeros at its lower and right ends."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, input: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ rows columns"]:
        return super().forward(F.pad(input, (0, 1, 0, 1)))


class Upsample(nn.Conv2d):
    """A 3×3 convolution over the picture with every pixel made four."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, input: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch _ height width"]:
        return super().forward(F.interpolate(input, scale_factor=2.0, mode="nearest"))


class Group(nn.Module):
    """Residual blocks, each followed by attention where it is asked for, and then a change of size."""

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int, *, attention: bool, resize: nn.Module | None
    ) -> None:
        super().__init__()
        inputs = [in_channels, *[out_channels] * (blocks - 1)]
        self.blocks = nn.ModuleList(ResidualBlock(channels, out_channels) for channels in inputs)
        self.attentions = nn.ModuleList(SpatialAttention(out_channels) for _ in inputs if attention)
        self.resize = resize

    def forward(self, x: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ rows columns"]:
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[index](x)
        return x if self.resize is None else self.resize(x)


class Middle(nn.Module):
    """Two residual blocks with attention between them, on the smallest grid."""

    def __init__(self, channels: int, *, attention: bool) -> None:
        super().__init__()
        self.before, self.after = ResidualBlock(channels, channels), ResidualBlock(channels, channels)
        self.attention = SpatialAttention(channels) if attention else None

    def forward(self, x: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch _ rows columns"]:
        x = self.before(x)
        output: Tensor = self.after(x if self.attention is None else self.attention(x))
        return output


class AttentiveEncoder(nn.Module):
    # PyTorch's group norm loses digits in channels_last.
    layout = torch.contiguous_format

    def __init__(self, config: AttentiveConfig, latent_dim: int) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.out_channels = latent_dim
        self.input = nn.Conv2d(3, widths[0], 3, padding=1)
        self.groups = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise((widths[0], *widths))):
            attention = config.attention == "last" and index == last
            resize = Downsample(after) if index < last else None
            self.groups.append(Group(before, after, config.blocks_per_group, attention=attention, resize=resize))
        self.middle = Middle(widths[-1], attention=config.attention != "none")
        self.norm = group_norm(widths[-1])
        self.output = nn.Conv2d(widths[-1], latent_dim, 3, padding=1)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch _ rows columns"]:
        x = self.input(pixels)
        for group in self.groups:
            x = group(x)
        features: Tensor = self.output(F.silu(self.norm(self.middle(x))))
        return features


class AttentiveDecoder(nn.Module):
    """A grid of vectors to maps; each group has one block more than the encoder's."""

    def __init__(self, config: AttentiveConfig, latent_dim: int, out_channels: int) -> None:
        super().__init__()
        widths, last = config.widths[::-1], len(config.widths) - 1
        self.input = nn.Conv2d(latent_dim, widths[0], 3, padding=1)
        self.middle = Middle(widths[0], attention=config.attention != "none")
        self.groups = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise((widths[0], *widths))):
            attention = config.attention == "last" and index == 0
            resize = Upsample(after) if index < last else None
            self.groups.append(Group(before, after, config.blocks_per_group + 1, attention=attention, resize=resize))
        self.norm = group_norm(widths[-1])
        self.output = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch _ height width"]:
        x = self.middle(self.input(x))
        for group in self.groups:
            x = group(x)
        maps: Tensor = self.output(F.silu(self.norm(x)))
        return maps
