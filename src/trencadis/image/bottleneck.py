"""Between encoder and decoder: features to codes, and codes to the decoder's input."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.config import DiscreteVAEConfig, NearestCodes
from trencadis.image.fused_convolution import convolve
from trencadis.image.layers import Float32Convolution

VECTORS_AT_ONCE = 4096  # compared with every code at once, to bound the memory


class Categorical(nn.Module):
    """A logit for each code at every position, and a learnt vector for each code.

    The published decoder begins with a 1×1 convolution over one-hot codes: its columns are the rows of this codebook.
    """

    def __init__(self, feature_dim: int, config: DiscreteVAEConfig) -> None:
        super().__init__()
        self.to_logits = Float32Convolution(feature_dim, config.image_vocab_size)
        nn.init.normal_(self.to_logits.weight, std=feature_dim**-0.5)
        nn.init.zeros_(self.to_logits.bias)
        vectors = torch.randn(config.image_vocab_size, config.latent_dim)
        self.codebook = nn.Parameter(vectors * config.image_vocab_size**-0.5)

    def latents(self, features: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch rows columns vocab"]:
        """Return the logits, in float32."""
        logits = convolve(self.to_logits, features)
        return rearrange(logits, "batch vocab rows columns -> batch rows columns vocab")

    def logits(self, latents: Float[Tensor, "batch rows columns vocab"]) -> Float[Tensor, "batch rows columns vocab"]:
        return latents

    def tokens(self, latents: Float[Tensor, "batch rows columns vocab"]) -> Int[Tensor, "batch rows columns"]:
        return latents.argmax(dim=-1)

    def look_up(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch rows columns latent"]:
        return F.embedding(image_tokens, self.codebook)

    def mix(self, codes: Float[Tensor, "batch rows columns vocab"]) -> Float[Tensor, "batch rows columns latent"]:
        """Return the vectors of (soft) one-hot codes."""
        with torch.autocast(codes.device.type, enabled=False):
            return codes.float() @ self.codebook.float()


class Nearest(nn.Module):
    """A vector at every position, and the code whose vector is nearest; vectors of `cosine` codes have length 1.

    The codebook gets gradients if trained by a relaxation; otherwise it is an EMA of the vectors.
    """

    def __init__(self, feature_dim: int, config: DiscreteVAEConfig) -> None:
        super().__init__()
        codes = config.codes
        assert isinstance(codes, NearestCodes), codes
        self.is_cosine = codes.kind == "cosine"
        self.to_codes = Float32Convolution(feature_dim, codes.codebook_dim)
        nn.init.normal_(self.to_codes.weight, std=feature_dim**-0.5)
        nn.init.zeros_(self.to_codes.bias)
        self.codebook = nn.Parameter(torch.randn(config.image_vocab_size, codes.codebook_dim), requires_grad=False)
        self.from_codes = Float32Convolution(codes.codebook_dim, config.latent_dim)
        nn.init.orthogonal_(self.from_codes.weight)
        nn.init.zeros_(self.from_codes.bias)

    def latents(self, features: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch rows columns code"]:
        """Return the vectors, in float32."""
        projected: Tensor = self.to_codes(features)
        vectors = rearrange(projected, "batch code rows columns -> batch rows columns code")
        return F.normalize(vectors, dim=-1) if self.is_cosine else vectors

    def tokens(self, latents: Float[Tensor, "batch rows columns code"]) -> Int[Tensor, "batch rows columns"]:
        parts = torch.split(latents.flatten(0, 2), VECTORS_AT_ONCE)
        return torch.cat([self._nearness(vectors).argmax(dim=-1) for vectors in parts]).view(latents.shape[:-1])

    def logits(self, latents: Float[Tensor, "batch rows columns code"]) -> Float[Tensor, "batch rows columns vocab"]:
        """Return −|z − e|²/2 for each code, up to a constant.

        It is the unnormalised log-probability of the code, if the vector is the code's plus Gaussian noise of variance
        1. Source: Takida et al. 2022, who learn the variance.
        """
        with torch.autocast(latents.device.type, enabled=False):
            return self._nearness(latents.flatten(0, 2)).view(*latents.shape[:-1], -1)

    def mix(self, codes: Float[Tensor, "batch rows columns vocab"]) -> Float[Tensor, "batch rows columns latent"]:
        """Return the decoder's input for (soft) one-hot codes."""
        with torch.autocast(codes.device.type, enabled=False):
            return self.widen(codes.float() @ self.vectors())

    def look_up(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch rows columns latent"]:
        return self.widen(F.embedding(image_tokens, self.vectors()))

    def widen(self, vectors: Float[Tensor, "batch rows columns code"]) -> Float[Tensor, "batch rows columns latent"]:
        """Project vectors to the decoder's input."""
        widened: Tensor = self.from_codes(rearrange(vectors, "batch rows columns code -> batch code rows columns"))
        return rearrange(widened, "batch latent rows columns -> batch rows columns latent")

    def _nearness(self, vectors: Float[Tensor, "vectors code"]) -> Float[Tensor, "vectors vocab"]:
        codebook = self.vectors()
        # |z − e|² = |z|² − 2 (z·e − |e|²/2), and |z|² is the same for every code.
        return torch.addmm(-codebook.square().sum(-1) / 2, vectors, codebook.T)

    def vectors(self) -> Float[Tensor, "vocab code"]:
        """Return the codes' vectors in float32; of length 1 for cosine codes."""
        codebook = self.codebook.float()
        return F.normalize(codebook, dim=-1) if self.is_cosine else codebook
