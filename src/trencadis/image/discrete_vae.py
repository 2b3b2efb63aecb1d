"""The discrete VAE: pictures to a grid of codes and back.

Source: Ramesh et al. 2021, section 2.1 and appendix A.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.config import DiscreteVAEConfig, NearestCodes
from trencadis.config.image import ArchitectureConfig
from trencadis.errors import PictureError
from trencadis.image.architectures import Decoder, Encoder, build_decoder, build_encoder
from trencadis.image.bottleneck import Categorical, Nearest
from trencadis.image.likelihood import map_pixels, unmap_pixels
from trencadis.parts import register
from trencadis.pretrained import Pretrained

Images = Float[Tensor, "batch 3 height width"]
Maps = Float[Tensor, "batch maps height width"]
_MAPS = {"logit_laplace": 6, "signed": 3}


class Quantized(NamedTuple):
    """Quantized latents that gradients pass."""

    embedded: Float[Tensor, "batch rows columns latent"]  # input of the decoder
    tokens: Int[Tensor, "batch rows columns"]
    latents: Float[Tensor, "batch rows columns _"]  # what the tokens were chosen for
    # Of euclidean and cosine codes; with a gradient where the optimizer trains them.
    vectors: Float[Tensor, "batch rows columns code"] | None = None
    # What the codes were chosen by, where it was a choice of probabilities.
    logits: Float[Tensor, "batch rows columns vocab"] | None = None


@runtime_checkable
class Quantizer(Protocol):
    def __call__(self, latents: Float[Tensor, "batch rows columns _"]) -> Quantized: ...


@register("image")
class DiscreteVAE(Pretrained, nn.Module):
    """An `ImageTokenizer`: the published discrete VAE, VQ-VAE, VQ-GAN, or another combination, by its config.

    Pictures are RGB in [0, 1]. Encoded ones have a height and width of any multiples of `down_factor`, else there is a
    `PictureError`. Decoded ones are `config.scale` times as high and wide.
    """

    config_type: ClassVar[type[DiscreteVAEConfig]] = DiscreteVAEConfig
    config: DiscreteVAEConfig

    def __init__(self, config: DiscreteVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Encoder = build_encoder(config)
        bottleneck: type[Categorical | Nearest] = Nearest if isinstance(config.codes, NearestCodes) else Categorical
        self.bottleneck: Categorical | Nearest = bottleneck(self.encoder.out_channels, config)
        self.decoder: Decoder = build_decoder(config, _MAPS[config.pixels])

    @property
    def image_size(self) -> tuple[int, int]:
        return self.config.image_size

    @property
    def drawn_size(self) -> tuple[int, int]:
        return self.config.drawn_size

    @property
    def grid_size(self) -> tuple[int, int]:
        return self.config.grid_size

    @property
    def image_vocab_size(self) -> int:
        return self.config.image_vocab_size

    @property
    def down_factor(self) -> int:
        return self.config.down_factor

    def latents(self, images: Images) -> Float[Tensor, "batch rows columns _"]:
        """Return the logits of categorical codes, or the vectors of the others, in float32."""
        return self.bottleneck.latents(self.features(images))

    def features(self, images: Images) -> Float[Tensor, "batch _ rows columns"]:
        """Return the encoder's output."""
        height, width = images.shape[-2:]
        if height % self.down_factor or width % self.down_factor or not height or not width:
            expected = f"height and width in multiples of {self.down_factor}"
            raise PictureError(f"a picture of {height}×{width} pixels", expected=expected, remedy="resize or crop it")
        pixels = map_pixels(images) if self.config.pixels == "logit_laplace" else 2 * images - 1
        pixels = pixels.to(self.encoder.input.weight.dtype, memory_format=self.encoder.layout)
        features: Tensor = self.encoder(pixels)
        return features

    @torch.no_grad()
    def encode(self, images: Images) -> Int[Tensor, "batch rows columns"]:
        """Return the likeliest or nearest code of every place, without noise, in training mode too."""
        return self.bottleneck.tokens(self.latents(images))

    @torch.no_grad()
    def decode(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Images:
        return self.picture(self.draw(self.bottleneck.look_up(image_tokens))).clamp(0, 1)

    def reconstruct(self, images: Images) -> Images:
        """Return pictures of the size of decoded ones, encoded and decoded."""
        return self.decode(self.encode(self.shrunk(images)))

    def shrunk(self, images: Images) -> Float[Tensor, "batch 3 _ _"]:
        """Return pictures of the size of decoded ones as they are encoded; a pixel is the mean of those it replaces."""
        scale = self.config.scale
        return F.avg_pool2d(images, scale) if scale > 1 else images

    def draw(self, embedded: Float[Tensor, "batch rows columns latent"]) -> Maps:
        """Return the decoder's maps: the likelihood's medians and ln of its scales, or signed pixels."""
        vectors = rearrange(embedded, "batch rows columns latent -> batch latent rows columns")
        maps: Tensor = self.decoder(vectors.to(self.decoder.output.weight.dtype))
        return maps

    def picture(self, maps: Maps) -> Images:
        """Return maps as RGB in float32, in [0, 1] except where the decoder overshoots; of a likelihood the median."""
        if self.config.pixels == "logit_laplace":
            return unmap_pixels(maps[:, :3].float().sigmoid())
        return (maps.float() + 1) / 2

    def forward(self, images: Images, quantizer: Quantizer) -> tuple[Quantized, Maps]:
        """Return pictures of the size of decoded ones quantized, and the decoder's maps."""
        quantized = quantizer(self.latents(self.shrunk(images)))
        return quantized, self.draw(quantized.embedded)

    def with_decoder(self, architecture: ArchitectureConfig | None) -> "DiscreteVAE":
        """Return a copy with the same codes and another decoder; None copies the decoder too.

        Weights of the same name and shape are taken over: a decoder that doubles the grid once more, with the same
        widths before, begins with all but the last two layers trained.
        """
        config = self.config if architecture is None else dataclasses.replace(self.config, decoder=architecture)
        copy = DiscreteVAE(config)
        new = copy.state_dict()
        known = {name: old for name, old in self.state_dict().items() if name in new and new[name].shape == old.shape}
        copy.load_state_dict(new | known)
        return copy.to(self.encoder.input.weight.device).eval()

    def _described(self) -> dict[str, Any]:
        """Leave out a decoder's config where there is none: the digests of older models stay."""
        return {name: value for name, value in super()._described().items() if name != "decoder" or value is not None}
