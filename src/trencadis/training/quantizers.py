"""Latents made codes while an image tokenizer is trained, and the health of its codebook."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.config import ImageStage
from trencadis.errors import ConfigError
from trencadis.image import (
    Categorical,
    Nearest,
    Quantized,
    code_perplexity,
    code_use,
    count_codes,
    gumbel_noise,
    relax,
)
from trencadis.randomness import derive_seed

COUNTED_EACH = 50
"""Tokens a code that codes are given up after, had all been used evenly: fewer say little about a rare one."""

REVIVED_UNTIL = 0.8
"""Share of the steps after which no code is given up any more: a new one needs time to be of use."""

PUBLISHED_DISTANCE = 4.0
"""Nats by which the logit of a code lies below 0 at the usual distance from it, when it was learnt by nearness."""

SPLIT_NOISE = 0.05
"""Deviation of what tells a split code from its other half, as a share of the weights' own."""


class Relaxation:
    """Makes logits codes by a relaxation. A `Quantizer` of one microbatch.

    Args:
        bottleneck: Whose vectors the codes have.
        generator: Of the Gumbel noise.
        relaxation: As in `ImageStage`.
        relaxation_temperature: τ.
    """

    def __init__(
        self, bottleneck: Categorical, generator: torch.Generator, relaxation: str, relaxation_temperature: float
    ) -> None:
        self._bottleneck, self._generator = bottleneck, generator
        self._relaxation, self._temperature = relaxation, relaxation_temperature

    def __call__(self, latents: Float[Tensor, "batch rows columns vocab"]) -> Quantized:
        """Return the mixtures of codes that the relaxed choice gives."""
        if self._relaxation == "ibq":
            codes = relax(latents, torch.zeros_like(latents), 1.0, straight_through=True)
        else:
            noise = gumbel_noise(latents.shape, generator=self._generator)
            codes = relax(latents, noise, self._temperature, self._relaxation == "straight_through")
        return Quantized(self._bottleneck.mix(codes), latents.detach().argmax(dim=-1), {})


class MovingCodebook:
    """Vectors of codes that follow, by moving averages, the vectors that were near them.

    The averages, their start by k-means, the revival of dead codes and the gradient's way past the choice (by rotation)
    are vector-quantize-pytorch's. What is random in them depends on `seed` alone, which is to be set for each call.

    Args:
        image_vocab_size: Number of codes.
        dim: Size of a vector.
        config: How they are trained.
        is_cosine: All vectors have length 1.
        device: Where they are.

    Source: van den Oord et al. 2017, appendix A.1; Fifty et al. 2024 for the rotation.
    """

    def __init__(
        self, image_vocab_size: int, dim: int, config: ImageStage, *, is_cosine: bool, device: torch.device
    ) -> None:
        from vector_quantize_pytorch import VectorQuantize

        self.seed = 0
        rows, columns = config.model.grid_size
        even_use = config.batch_size * rows * columns / (config.microbatches * image_vocab_size)
        self._quantize = VectorQuantize(
            dim=dim,
            codebook_size=image_vocab_size,
            decay=config.codebook_decay,
            kmeans_init=True,
            use_cosine_sim=is_cosine,
            threshold_ema_dead_code=config.revive_below * even_use,
        ).to(device)

    def choose(
        self, vectors: Float[Tensor, "batch rows columns dim"]
    ) -> tuple[Float[Tensor, "batch rows columns dim"], Int[Tensor, "batch rows columns"], Float[Tensor, ""]]:
        """Return the nearest codes' vectors, these codes, and the commitment term; and move the codes."""
        # One vector that is not finite would spoil the averages for good; the update is to be skipped anyway.
        spoilt = not bool(vectors.isfinite().all())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            chosen, tokens, commitment = self._quantize(vectors.flatten(1, 2), freeze_codebook=spoilt)
        return chosen.view(vectors.shape), tokens.view(vectors.shape[:-1]), commitment.sum()

    @property
    def vectors(self) -> Float[Tensor, "vocab dim"]:
        """The codes' vectors as they are now."""
        codebook: Tensor = self._quantize.codebook
        return codebook.detach()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages."""
        return {name: tensor.detach() for name, tensor in self._quantize.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        self._quantize.load_state_dict(dict(state))


class NearestCodes:
    """Makes vectors euclidean or cosine codes. A `Quantizer`.

    Args:
        bottleneck: Whose codebook is moved; `publish` writes it there.
        config: How it is trained.
    """

    def __init__(self, bottleneck: Nearest, config: ImageStage) -> None:
        self.bottleneck = bottleneck
        vocab, dim = bottleneck.codebook.shape
        device = bottleneck.codebook.device
        self.moving = MovingCodebook(vocab, dim, config, is_cosine=bottleneck.is_cosine, device=device)

    def __call__(self, latents: Float[Tensor, "batch rows columns code"]) -> Quantized:
        """Return the nearest codes, and move the codebook towards what they stand for."""
        vectors, tokens, commitment = self.moving.choose(latents)
        return Quantized(self.bottleneck.widen(vectors), tokens, {"commitment": commitment})

    @torch.no_grad()
    def publish(self) -> None:
        """Give the model the codebook as it is now."""
        self.bottleneck.codebook.copy_(self.moving.vectors)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages."""
        return self.moving.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        self.moving.load_state_dict(state)


class NearestStart:
    """Makes features categorical codes by nearness, while a training begins. A `Quantizer` of features.

    The first channels of the features, as many as a code's vector has, are what is near. Nearness is a linear function
    of them, so the logits can say it: those of code e are (f·e − |e|²/2) / s. They are published with an s that puts
    the usual distance to a code at `PUBLISHED_DISTANCE` nats.

    Args:
        bottleneck: Whose logits and codebook are set; `publish` does so.
        config: How it is trained.

    Raises:
        ConfigError: The features have fewer channels than a code's vector.
    """

    def __init__(self, bottleneck: Categorical, config: ImageStage) -> None:
        vocab, dim = bottleneck.codebook.shape
        features = bottleneck.to_logits.in_channels
        if features < dim:
            expected = f"at most {features}, the encoder's features, where image.nearest_start is above 0"
            raise ConfigError(f"image.model.latent_dim {dim}", expected=expected, remedy="lower latent_dim")
        self.bottleneck = bottleneck
        device = bottleneck.codebook.device
        self.moving = MovingCodebook(vocab, dim, config, is_cosine=False, device=device)
        self._distance = torch.ones((), device=device)

    def __call__(self, latents: Float[Tensor, "batch rows columns features"]) -> Quantized:
        """Return the nearest codes, and move the codebook towards what they stand for."""
        dim = self.bottleneck.codebook.shape[1]
        vectors, tokens, commitment = self.moving.choose(latents[..., :dim].contiguous())
        squared = commitment.detach() * dim
        if bool(squared.isfinite()):
            self._distance = torch.lerp(self._distance, squared, 0.05)
        return Quantized(vectors, tokens, {"commitment": commitment})

    @torch.no_grad()
    def publish(self) -> None:
        """Give the model the logits and the codebook as they are now."""
        vectors, bottleneck = self.moving.vectors, self.bottleneck
        scale = (self._distance / (2 * PUBLISHED_DISTANCE)).clamp_min(1e-8)
        assert bottleneck.to_logits.bias is not None
        bottleneck.codebook.copy_(vectors)
        bottleneck.to_logits.weight.zero_()
        bottleneck.to_logits.weight[:, : vectors.shape[1], 0, 0] = vectors / scale
        bottleneck.to_logits.bias.copy_(-vectors.square().sum(dim=-1) / (2 * scale))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages."""
        return {**self.moving.state_dict(), "distance": self._distance}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        averages = dict(state)
        self._distance = averages.pop("distance").clone().to(self._distance.device)
        self.moving.load_state_dict(averages)


class CodeCounts:
    """How often each code is used: over the last whole epoch, and since codes were last given up.

    Args:
        image_vocab_size: Number of codes.
        epoch_tokens: Tokens of an epoch.
    """

    def __init__(self, image_vocab_size: int, epoch_tokens: int) -> None:
        self._epoch_tokens = epoch_tokens
        zeros = torch.zeros(image_vocab_size, dtype=torch.long)
        self._counts = {"epoch": zeros, "last_epoch": zeros.clone(), "since_revival": zeros.clone()}

    def add(self, tokens: Int[Tensor, "batch rows columns"]) -> None:
        """Count the tokens of a microbatch."""
        counts = count_codes(tokens, image_vocab_size=len(self._counts["epoch"])).cpu()
        self._counts["since_revival"] = self._counts["since_revival"] + counts
        self._counts["epoch"] = self._counts["epoch"] + counts
        if int(self._counts["epoch"].sum()) >= self._epoch_tokens:
            self._counts |= {"last_epoch": self._counts["epoch"], "epoch": torch.zeros_like(counts)}

    def measured(self) -> dict[str, float]:
        """Return use and perplexity over the last whole epoch; before its end, over what there was of the first."""
        whole = self._counts["last_epoch"]
        counts = whole if whole.any() else self._counts["epoch"]
        return {"code_use": code_use(counts), "code_perplexity": code_perplexity(counts)}

    def window(self) -> Int[Tensor, " vocab"] | None:
        """Return the counts since the last call that returned some, once there are enough to judge a code by."""
        counts = self._counts["since_revival"]
        if int(counts.sum()) < COUNTED_EACH * len(counts):
            return None
        self._counts["since_revival"] = torch.zeros_like(counts)
        return counts

    def state_dict(self) -> dict[str, Tensor]:
        """Return the counts."""
        return dict(self._counts)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        self._counts = dict(state)


@torch.no_grad()
def revive(bottleneck: Categorical, counts: Int[Tensor, " vocab"], *, below: float, seed: int) -> int:
    """Give up categorical codes that are hardly used, each for half of a much used one, and return how many.

    A split code's two halves have its logit and its vector, a little apart; each is likeliest for half of its places.

    Args:
        bottleneck: Whose codes they are; changed in place.
        counts: How often each was used.
        below: A code is given up where it has less than this share of an even use.
        seed: Of what tells the halves apart.
    """
    dead = (counts < below * counts.sum() / len(counts)).nonzero().flatten()
    donors = counts.argsort(descending=True)[: len(dead)]
    donors = donors[counts[donors] > 2 * counts.float().mean()]
    dead = dead[: len(donors)]
    generator = torch.Generator().manual_seed(derive_seed(seed, "revival"))
    for parameter in (bottleneck.to_logits.weight, bottleneck.codebook):
        halves = parameter[donors.to(parameter.device)]
        noise = torch.randn(halves.shape, generator=generator).to(halves)
        parameter[dead.to(parameter.device)] = halves + SPLIT_NOISE * halves.std() * noise
    assert bottleneck.to_logits.bias is not None
    bottleneck.to_logits.bias[dead] = bottleneck.to_logits.bias[donors]
    return len(dead)


def codebook_of(bottleneck: Categorical | Nearest, config: ImageStage) -> NearestCodes | NearestStart | None:
    """Return what moves the codes' vectors by averages: all along, for a while, or never."""
    if isinstance(bottleneck, Nearest):
        return NearestCodes(bottleneck, config)
    return NearestStart(bottleneck, config) if config.nearest_start else None
