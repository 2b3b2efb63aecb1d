"""The discrete VAE: pictures to a grid of codes and back.

Source: Ramesh et al. 2021, section 2.1 and appendix A.
"""

from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.config import DiscreteVAEConfig
from trencadis.errors import ConfigError, PictureError
from trencadis.image.divergence import divergence_from_uniform, divergence_weight
from trencadis.image.likelihood import logit_laplace_log_prob, map_pixels, unmap_pixels
from trencadis.image.relaxation import relax
from trencadis.pretrained import Pretrained

BOTTLENECK = 4
"""A residual path is this many times narrower than its block's output."""


class DVAELoss(NamedTuple):
    """The discrete VAE's loss on a batch, and its parts.

    Attributes:
        total: What training minimises, in nats a sub-pixel.
        reconstruction: −ln f of the pictures, in nats a sub-pixel; below 0 where the density exceeds 1.
        kl: KL from the uniform distribution, in nats a token, unweighted.
        mse: Mean squared error of the shown pictures, of pixels in [0, 1]; PSNR is −10·log₁₀ of it.
    """

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    mse: Float[Tensor, ""]


class Convolution(nn.Conv2d):
    """A convolution that keeps height and width, with weights from N(0, 1/√(in·kernel²)) and biases at zero."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.normal_(self.weight, std=(self.in_channels * self.kernel_size[0] ** 2) ** -0.5)
        assert self.bias is not None
        nn.init.zeros_(self.bias)


class Float32Convolution(Convolution):
    """A convolution in float32 even under autocast: the codes' logits and their embedding are sensitive to rounding."""

    def forward(self, input: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ height width"]:
        """Convolve."""
        assert self.bias is not None
        with torch.autocast(input.device.type, enabled=False):
            output: Tensor = self._conv_forward(input.float(), self.weight.float(), self.bias.float())
        return output


class Block(nn.Module):
    """A bottleneck of four convolutions, each preceded by ReLU, beside the identity.

    Args:
        in_channels: Channels of the input; where they change, the identity is a 1×1 convolution.
        out_channels: Channels of the output.
        kernel_sizes: Of the four convolutions.
        gain: What the residual path is multiplied by, so that a deep stack starts as nearly the identity.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_sizes: tuple[int, int, int, int], gain: float
    ) -> None:
        super().__init__()
        hidden = out_channels // BOTTLENECK
        widths = (in_channels, hidden, hidden, hidden, out_channels)
        self.gain = gain
        self.convolutions = nn.ModuleList(
            Convolution(before, after, kernel_size)
            for (before, after), kernel_size in zip(pairwise(widths), kernel_sizes, strict=True)
        )
        self.identity = nn.Identity() if in_channels == out_channels else Convolution(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ height width"]:
        """Return the identity plus the scaled residual."""
        residual = x
        for convolution in self.convolutions:
            residual = convolution(F.relu(residual))
        return torch.add(self.identity(x), residual, alpha=self.gain)


class Encoder(nn.Module):
    """Pictures to logits: a 7×7 convolution, groups halved in size between them by max-pooling, a 1×1 convolution."""

    def __init__(self, config: DiscreteVAEConfig) -> None:
        super().__init__()
        widths = [config.hidden_dim * multiplier for multiplier in config.width_multipliers]
        self.input = Convolution(3, widths[0], 7)
        self.groups = _groups([widths[0], *widths], (3, 3, 3, 1), config)
        self.output = Float32Convolution(widths[-1], config.image_vocab_size, 1)

    def forward(
        self, pixels_mapped: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch rows columns image_vocab_size"]:
        """Return the logits of every token."""
        # The layout that keeps a pixel's channels together is the faster one for convolutions this narrow.
        pixels = pixels_mapped.to(self.input.weight.dtype, memory_format=torch.channels_last)
        x = self.input(pixels)
        for index, group in enumerate(self.groups):
            x = group(F.max_pool2d(x, 2) if index else x)
        logits: Tensor = self.output(F.relu(x))
        return rearrange(logits, "batch vocab rows columns -> batch rows columns vocab")


class Decoder(nn.Module):
    """Codes to the likelihood's six maps: the codebook, groups doubled in size between them, a 1×1 convolution.

    The first convolution is 1×1 over one-hot codes: its columns are the codebook.
    """

    def __init__(self, config: DiscreteVAEConfig) -> None:
        super().__init__()
        widths = [config.hidden_dim * multiplier for multiplier in reversed(config.width_multipliers)]
        self.input = Float32Convolution(config.image_vocab_size, config.decoder_input_dim, 1)
        self.groups = _groups([config.decoder_input_dim, *widths], (1, 3, 3, 3), config)
        self.output = Convolution(widths[-1], 6, 1)

    def forward(
        self, codes: Float[Tensor, "batch rows columns image_vocab_size"]
    ) -> Float[Tensor, "batch 6 height width"]:
        """Return the maps of codes that are points of the simplex; a corner is a hard code."""
        return self._upsample(self.input(rearrange(codes, "batch rows columns vocab -> batch vocab rows columns")))

    def look_up(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch 6 height width"]:
        """Return the maps of hard codes: their rows of the codebook, where `forward` would multiply by one-hots."""
        codebook = rearrange(self.input.weight, "channels vocab 1 1 -> vocab channels")
        assert self.input.bias is not None
        embedded = F.embedding(image_tokens, codebook) + self.input.bias
        return self._upsample(rearrange(embedded, "batch rows columns channels -> batch channels rows columns"))

    def _upsample(self, x: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch 6 height width"]:
        x = x.to(self.output.weight.dtype)
        for index, group in enumerate(self.groups):
            x = group(F.interpolate(x, scale_factor=2, mode="nearest") if index else x)
        maps: Tensor = self.output(F.relu(x))
        return maps


class DiscreteVAE(Pretrained, nn.Module):
    """A picture as a grid of codes. An `ImageTokenizer`.

    Pictures are RGB in [0, 1], of any height and width that are multiples of `down_factor`; they need not be square.

    Args:
        config: Sizes.

    Raises:
        ConfigError: A size is out of its range.
    """

    config_type: ClassVar[type[DiscreteVAEConfig]] = DiscreteVAEConfig
    config: DiscreteVAEConfig

    def __init__(self, config: DiscreteVAEConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that it was trained on, in pixels."""
        return self.config.image_size

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of tokens for a picture of `image_size`."""
        return self.config.grid_size

    @property
    def image_vocab_size(self) -> int:
        """Number of codes; tokens are in 0..image_vocab_size-1."""
        return self.config.image_vocab_size

    @property
    def down_factor(self) -> int:
        """Pixels a token stands for along each side."""
        return self.config.down_factor

    def logits(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch rows columns image_vocab_size"]:
        """Return the unnormalised log-probabilities of the codes, in float32.

        Raises:
            PictureError: Height or width is no multiple of `down_factor`.
        """
        height, width = images.shape[-2:]
        if height % self.down_factor or width % self.down_factor or not height or not width:
            raise PictureError(
                f"a picture of {height}×{width} pixels",
                expected=f"height and width in multiples of {self.down_factor}",
                remedy="resize or crop it",
            )
        logits: Tensor = self.encoder(map_pixels(images))
        return logits

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Int[Tensor, "batch rows columns"]:
        """Return the likeliest code of every place; never any noise, in training mode neither.

        Raises:
            PictureError: Height or width is no multiple of `down_factor`.
        """
        return self.logits(images).argmax(dim=-1)

    @torch.no_grad()
    def decode(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the pictures that the tokens stand for, RGB in [0, 1]: the median of the likelihood."""
        return _shown(self.decoder.look_up(image_tokens))

    def reconstruct(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the pictures as they are after encoding and decoding."""
        return self.decode(self.encode(images))

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        *,
        noise: Float[Tensor, "batch rows columns image_vocab_size"],
        relaxation_temperature: float,
        kl_weight: float,
        straight_through: bool = False,
    ) -> DVAELoss:
        """Return the negated evidence lower bound of pictures, with codes relaxed by Gumbel noise.

        Args:
            images: RGB in [0, 1].
            noise: Standard Gumbel noise, as `gumbel_noise` draws it.
            relaxation_temperature: τ, above 0.
            kl_weight: β, in the paper's unit: 6.6 there; `divergence_weight` says what the KL is multiplied by.
            straight_through: Decode hard codes; the paper does not.

        Raises:
            PictureError: Height or width is no multiple of `down_factor`.

        Source: Ramesh et al. 2021, section 2.1.
        """
        logits = self.logits(images)
        maps = self.decoder(relax(logits, noise, relaxation_temperature, straight_through))
        mu, log_b = maps.chunk(2, dim=1)
        reconstruction = -logit_laplace_log_prob(map_pixels(images), mu, log_b).mean()
        kl = divergence_from_uniform(logits)
        total = reconstruction + divergence_weight(kl_weight, down_factor=self.down_factor) * kl
        return DVAELoss(total, reconstruction, kl, F.mse_loss(_shown(maps.detach()), images.float()))


def _shown(maps: Float[Tensor, "batch 6 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Return the picture that the likelihood's maps are shown as: φ⁻¹ of the sigmoid of μ."""
    mu = maps[:, :3]
    return unmap_pixels(mu.float().sigmoid())


def _groups(widths: list[int], kernel_sizes: tuple[int, int, int, int], config: DiscreteVAEConfig) -> nn.ModuleList:
    """Return the groups of blocks; `widths` holds the input's channels and each group's."""
    gain = 1 / (len(config.width_multipliers) * config.blocks_per_group) ** 2
    groups = nn.ModuleList()
    for before, after in pairwise(widths):
        inputs = [before, *[after] * (config.blocks_per_group - 1)]
        groups.append(nn.Sequential(*(Block(channels, after, kernel_sizes, gain) for channels in inputs)))
    return groups


def _check(config: DiscreteVAEConfig) -> None:
    """Raise a `ConfigError` for sizes that no model can have."""
    if config.blocks_per_group < 1 or config.image_vocab_size < 1 or config.decoder_input_dim < 1:
        given = (
            f"{config.blocks_per_group} blocks, {config.image_vocab_size} codes, {config.decoder_input_dim} channels"
        )
        raise ConfigError(given, expected="1 or more of each", remedy="raise the one that is lower")
    widths = [config.hidden_dim * multiplier for multiplier in config.width_multipliers]
    if not widths or any(width < BOTTLENECK or width % BOTTLENECK for width in widths):
        expected = f"at least one group, with widths in multiples of {BOTTLENECK}"
        raise ConfigError(f"groups of widths {widths}", expected=expected, remedy="change hidden_dim")
    height, width = config.image_size
    if height < 1 or width < 1 or height % config.down_factor or width % config.down_factor:
        expected = f"height and width in multiples of {config.down_factor}, the down-sampling factor"
        raise ConfigError(f"image_size {height}×{width}", expected=expected, remedy="change image_size")
