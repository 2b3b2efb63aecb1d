"""Latents made codes while an image tokenizer is trained, and the health of its codebook."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.config import ImageStage
from trencadis.image import (
    Categorical,
    Nearest,
    Quantized,
    code_perplexity,
    code_use,
    count_codes,
    relax,
    standard_gumbel,
)
from trencadis.randomness import derive_seed

COUNTED_EACH = 50
"""Tokens a code that codes are given up after, had all been used evenly: fewer say little about a rare one."""

REVIVED_UNTIL = 0.8
"""Share of the steps after which no code is given up any more: a new one needs time to be of use."""

SPLIT_NOISE = 0.05
"""Deviation of what tells the parts of a split code from each other, as a share of the weights' own."""


class Relaxation:
    """Makes latents codes by a relaxation of the choice that their logits are. A `Quantizer` of one microbatch.

    Euclidean codes have the two terms of VQ-VAE besides, which draw the vectors and their codes to each other.

    Args:
        bottleneck: Whose vectors the codes have.
        generator: Of the Gumbel noise.
        relaxation: As in `ImageStage`.
        relaxation_temperature: τ.
    """

    def __init__(
        self,
        bottleneck: Categorical | Nearest,
        generator: torch.Generator,
        relaxation: str,
        relaxation_temperature: float,
    ) -> None:
        self._bottleneck, self._generator = bottleneck, generator
        self._relaxation, self._temperature = relaxation, relaxation_temperature

    def __call__(self, latents: Float[Tensor, "batch rows columns _"]) -> Quantized:
        """Return the mixtures of codes that the relaxed choice gives."""
        bottleneck = self._bottleneck
        logits = bottleneck.logits(latents)
        if self._relaxation == "ibq":
            codes = relax(logits, None, 1.0, straight_through=True)
        else:
            noise = standard_gumbel(logits.shape, generator=self._generator)
            codes = relax(logits, noise, self._temperature, self._relaxation == "straight_through")
        tokens, terms = logits.detach().argmax(dim=-1), {}
        if isinstance(bottleneck, Nearest):
            vectors = F.embedding(tokens, bottleneck.codebook)
            terms = {
                "commitment": F.mse_loss(latents, vectors.detach()),
                "codebook": F.mse_loss(vectors, latents.detach()),
            }
        return Quantized(bottleneck.mix(codes), tokens, terms, logits)


class MovingCodebook:
    """The codebook of euclidean and cosine codes, which follows what they stand for by averages. A `Quantizer`.

    The averages, their start by k-means, the revival of dead codes and the gradient's way past the choice (by rotation)
    are vector-quantize-pytorch's. What is random in them depends on `seed` alone, which is to be set for each call.

    Args:
        bottleneck: Whose codebook it is; `publish` writes it there.
        config: How it is trained.
        even_use: How often a batch would use each code if it used all alike.

    Source: van den Oord et al. 2017, appendix A.1; Fifty et al. 2024 for the rotation.
    """

    def __init__(self, bottleneck: Nearest, config: ImageStage, *, even_use: float) -> None:
        from vector_quantize_pytorch import VectorQuantize

        self.bottleneck, self.seed = bottleneck, 0
        vocab_size, codebook_dim = bottleneck.codebook.shape
        self._quantize = VectorQuantize(
            dim=codebook_dim,
            codebook_size=vocab_size,
            decay=config.codebook_decay,
            kmeans_init=True,
            use_cosine_sim=bottleneck.is_cosine,
            threshold_ema_dead_code=config.revive_below * even_use,
        ).to(bottleneck.codebook.device)

    def __call__(self, latents: Float[Tensor, "batch rows columns code"]) -> Quantized:
        """Return the nearest codes, and move the codebook towards what they stand for."""
        # One vector that is not finite would spoil the averages for good; the update is to be skipped anyway.
        spoilt = not bool(latents.isfinite().all())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            vectors, tokens, commitment = self._quantize(latents.flatten(1, 2), freeze_codebook=spoilt)
        embedded = self.bottleneck.widen(vectors.view(latents.shape))
        return Quantized(embedded, tokens.view(latents.shape[:-1]), {"commitment": commitment.sum()})

    @torch.no_grad()
    def publish(self) -> None:
        """Give the model the codebook as it is now."""
        self.bottleneck.codebook.copy_(self._quantize.codebook)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages."""
        return {name: tensor.detach() for name, tensor in self._quantize.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        self._quantize.load_state_dict(dict(state))


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
def revive(bottleneck: Categorical | Nearest, counts: Int[Tensor, " vocab"], *, below: float, seed: int) -> int:
    """Give up codes that are hardly used, each for a part of a much used one, and return how many.

    A split code's parts have its logit and its vector, a little apart, and share its places among them. The more a code
    was used, the likelier it is split.

    Args:
        bottleneck: Whose codes they are; changed in place.
        counts: How often each was used.
        below: A code is given up where it has less than this share of an even use.
        seed: Of which codes are split, and of what tells the parts apart.
    """
    is_dead = counts < below * counts.sum() / len(counts)
    dead = is_dead.nonzero().flatten()
    if not len(dead):
        return 0
    generator = torch.Generator().manual_seed(derive_seed(seed, "revival"))
    donors = torch.where(is_dead, 0, counts).float().multinomial(len(dead), replacement=True, generator=generator)
    parameters: list[Tensor] = [bottleneck.codebook]
    if isinstance(bottleneck, Categorical):
        parameters = [bottleneck.to_logits.weight, bottleneck.codebook]
        assert bottleneck.to_logits.bias is not None
        bottleneck.to_logits.bias[dead] = bottleneck.to_logits.bias[donors]
    for parameter in parameters:
        parts = parameter[donors.to(parameter.device)]
        noise = torch.randn(parts.shape, generator=generator).to(parts)
        parameter[dead.to(parameter.device)] = parts + SPLIT_NOISE * parameter.std() * noise
    return len(dead)


def codebook_of(bottleneck: Categorical | Nearest, config: ImageStage) -> MovingCodebook | None:
    """Return what moves the codebook by averages, or have a relaxation's gradient move it and return None."""
    if config.relaxation != "rotation":
        bottleneck.codebook.requires_grad_(True)
        return None
    assert isinstance(bottleneck, Nearest)
    rows, columns = config.model.grid_size
    even_use = config.batch_size * rows * columns / (config.microbatches * config.model.image_vocab_size)
    return MovingCodebook(bottleneck, config, even_use=even_use)
