"""The discrete VAE: pictures to a grid of codes and back.

Source: Ramesh et al. 2021, section 2.1 and appendix A.
"""

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.config import DiscreteVAEConfig
from trencadis.errors import ConfigError, PictureError
from trencadis.image.architectures.attentive import AttentiveDecoder, AttentiveEncoder
from trencadis.image.architectures.lean import LeanDecoder, LeanEncoder
from trencadis.image.architectures.published import PublishedDecoder, PublishedEncoder
from trencadis.image.architectures.strided import StridedDecoder, StridedEncoder
from trencadis.image.bottleneck import Categorical, Nearest
from trencadis.image.likelihood import map_pixels, unmap_pixels
from trencadis.parts import register
from trencadis.pretrained import Pretrained

Encoder = PublishedEncoder | StridedEncoder | AttentiveEncoder | LeanEncoder
Decoder = PublishedDecoder | StridedDecoder | AttentiveDecoder | LeanDecoder

_ENCODERS: dict[str, type[Encoder]] = {
    "published": PublishedEncoder,
    "strided": StridedEncoder,
    "attentive": AttentiveEncoder,
    "lean": LeanEncoder,
}
_DECODERS: dict[str, type[Decoder]] = {
    "published": PublishedDecoder,
    "strided": StridedDecoder,
    "attentive": AttentiveDecoder,
    "lean": LeanDecoder,
}
_MAPS = {"logit_laplace": 6, "signed": 3}


class Quantized(NamedTuple):
    """Latents made codes in a way that gradients pass.

    Attributes:
        embedded: What the decoder takes.
        tokens: The codes that they stand for.
        terms: What the choice adds to the loss, by the names of `ImageLossConfig`, unweighted.
        logits: What the codes were chosen by, where it was a choice of probabilities.
    """

    embedded: Float[Tensor, "batch rows columns latent"]
    tokens: Int[Tensor, "batch rows columns"]
    terms: dict[str, Float[Tensor, ""]]
    logits: Float[Tensor, "batch rows columns vocab"] | None = None


@runtime_checkable
class Quantizer(Protocol):
    """Makes latents codes while a model is trained."""

    def __call__(self, latents: Float[Tensor, "batch rows columns _"]) -> Quantized:
        """Return the codes."""


@register("image")
class DiscreteVAE(Pretrained, nn.Module):
    """A picture as a grid of codes. An `ImageTokenizer`.

    Its config says which codes and which convolutions: the published discrete VAE, VQ-VAE, VQ-GAN, or another
    combination. Pictures are RGB in [0, 1], of any height and width that are multiples of `down_factor`; they need not
    be square.

    Args:
        config: Kind and sizes.

    Raises:
        ConfigError: A size is out of its range.
    """

    config_type: ClassVar[type[DiscreteVAEConfig]] = DiscreteVAEConfig
    config: DiscreteVAEConfig

    def __init__(self, config: DiscreteVAEConfig) -> None:
        super().__init__()
        check_sizes(config)
        self.config = config
        self.encoder: Encoder = _ENCODERS[config.architecture](config)
        bottleneck: type[Categorical | Nearest] = Categorical if config.codes == "categorical" else Nearest
        self.bottleneck: Categorical | Nearest = bottleneck(self.encoder.out_channels, config)
        self.decoder: Decoder = _DECODERS[config.architecture](config, _MAPS[config.pixels])

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

    def latents(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch rows columns _"]:
        """Return what the codes are chosen by, in float32.

        They are the unnormalised log-probabilities of categorical codes; of the others, the vectors that are to be
        near a code's.

        Raises:
            PictureError: Height or width is no multiple of `down_factor`.
        """
        return self.bottleneck.latents(self.features(images))

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch _ rows columns"]:
        """Return what the encoder sees.

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
        pixels = map_pixels(images) if self.config.pixels == "logit_laplace" else 2 * images - 1
        # The layout that keeps a pixel's channels together is faster, but PyTorch's group norm loses digits in it.
        has_groups = self.config.architecture in ("strided", "attentive")
        layout = torch.contiguous_format if has_groups else torch.channels_last
        pixels = pixels.to(self.encoder.input.weight.dtype, memory_format=layout)
        features: Tensor = self.encoder(pixels)
        return features

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Int[Tensor, "batch rows columns"]:
        """Return the likeliest or nearest code of every place; never any noise, in training mode neither.

        Raises:
            PictureError: Height or width is no multiple of `down_factor`.
        """
        return self.bottleneck.tokens(self.latents(images))

    @torch.no_grad()
    def decode(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the pictures that the tokens stand for, RGB in [0, 1]."""
        return self.picture(self.draw(self.bottleneck.look_up(image_tokens))).clamp(0, 1)

    def reconstruct(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the pictures as they are after encoding and decoding."""
        return self.decode(self.encode(images))

    def draw(self, embedded: Float[Tensor, "batch rows columns latent"]) -> Float[Tensor, "batch maps height width"]:
        """Return the decoder's maps: the likelihood's medians and ln of its scales, or signed pixels."""
        vectors = rearrange(embedded, "batch rows columns latent -> batch latent rows columns")
        maps: Tensor = self.decoder(vectors.to(self.decoder.output.weight.dtype))
        return maps

    def picture(self, maps: Float[Tensor, "batch maps height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Return what maps are shown as, in float32: RGB, in [0, 1] but for what the decoder overshoots.

        Of the likelihood it is the median: φ⁻¹ of the sigmoid of μ.
        """
        if self.config.pixels == "logit_laplace":
            return unmap_pixels(maps[:, :3].float().sigmoid())
        return (maps.float() + 1) / 2

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], quantizer: Quantizer
    ) -> tuple[Quantized, Float[Tensor, "batch maps height width"]]:
        """Return the codes that a quantizer gives pictures, and the maps that are drawn from them.

        Raises:
            PictureError: Height or width is no multiple of `down_factor`.
        """
        quantized = quantizer(self.latents(images))
        return quantized, self.draw(quantized.embedded)


def check_sizes(config: DiscreteVAEConfig) -> None:
    """Raise a `ConfigError` for sizes that no model can have."""
    sizes = {
        "hidden_dim": config.hidden_dim,
        "blocks_per_group": config.blocks_per_group,
        "image_vocab_size": config.image_vocab_size,
        "latent_dim": config.latent_dim,
        "codebook_dim": config.codebook_dim,
        "width_multipliers": min(config.width_multipliers, default=0),
    }
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} {size}", expected="1 or more", remedy=f"raise {name}")
    if config.architecture == "lean" and len(config.width_multipliers) < 2:
        expected = "2 or more for lean, which begins by halving pictures"
        remedy = "add one, or choose another architecture"
        raise ConfigError(f"{len(config.width_multipliers)} width_multipliers", expected=expected, remedy=remedy)
    height, width = config.image_size
    if height < 1 or width < 1 or height % config.down_factor or width % config.down_factor:
        expected = f"height and width in multiples of {config.down_factor}, the down-sampling factor"
        raise ConfigError(f"image_size {height}×{width}", expected=expected, remedy="change image_size")
