"""Quantizers used in training (relaxation, moving codebook), code counts, and the revival of dead codes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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

COUNTED_EACH = 50  # mean tokens a code, counted before dead codes are replaced: fewer say little about a rare code
REVIVED_UNTIL = 0.8  # share of the steps after which no code is replaced any more: a new one needs time to be of use
SPLIT_NOISE = 0.05  # deviation of the noise that separates the parts of a split code, as a share of the weights' own


@dataclass(frozen=True)
class Relaxation:
    """Chooses codes by a relaxation of the choice that their logits are. A `Quantizer` of one microbatch."""

    bottleneck: Categorical | Nearest
    noise_seeds: Sequence[int]  # of each image's Gumbel noise
    relaxation: str  # as in `ImageStage`
    relaxation_temperature: float  # τ

    def __call__(self, latents: Float[Tensor, "batch rows columns _"]) -> Quantized:
        bottleneck, relaxation = self.bottleneck, self.relaxation
        logits = bottleneck.logits(latents)
        if relaxation == "ibq":
            codes = relax(logits, None, 1.0, straight_through=True)
        else:
            codes = relax(logits, self._noise(logits), self.relaxation_temperature, relaxation == "straight_through")
        tokens = logits.detach().argmax(dim=-1)
        vectors = F.embedding(tokens, bottleneck.codebook) if isinstance(bottleneck, Nearest) else None
        return Quantized(bottleneck.mix(codes), tokens, latents, vectors, logits)

    def _noise(self, logits: Float[Tensor, "batch rows columns vocab"]) -> Float[Tensor, "batch rows columns vocab"]:
        generator = torch.Generator(logits.device)
        seeds = (derive_seed(seed, "codes") for seed in self.noise_seeds)
        return torch.stack([standard_gumbel(logits.shape[1:], generator=generator.manual_seed(seed)) for seed in seeds])


class MovingCodebook:
    """The codebook of euclidean and cosine codes as moving averages of the vectors they stand for. A `Quantizer`.

    The averages, their start by k-means over the first update's vectors, the replacement of dead codes, and the
    gradient past the choice (by rotation) are vector-quantize-pytorch's. The first update itself sees random codes.

    Source: van den Oord et al. 2017, appendix A.1; Fifty et al. 2024 for the rotation.
    """

    def __init__(self, bottleneck: Nearest, config: ImageStage, *, even_use: float) -> None:
        """Take the codebook of `bottleneck`; `even_use` is how often an update would use each code on average."""
        from vector_quantize_pytorch import VectorQuantize

        self.bottleneck = bottleneck
        vocab_size, codebook_dim = bottleneck.codebook.shape
        self._least_use = config.revive_below * even_use
        self._averages = VectorQuantize(
            dim=codebook_dim,
            codebook_size=vocab_size,
            decay=config.codebook_decay,
            kmeans_init=True,
            use_cosine_sim=bottleneck.is_cosine,
            threshold_ema_dead_code=self._least_use,
            sync_codebook=False,  # `learn` is given the vectors of all processes
        ).to(bottleneck.codebook.device)

    def __call__(self, latents: Float[Tensor, "batch rows columns code"]) -> Quantized:
        from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to  # type: ignore[import-untyped]

        tokens = self.bottleneck.tokens(latents.detach())
        vectors = F.embedding(tokens, self.bottleneck.vectors()).detach()
        return Quantized(self.bottleneck.widen(rotate_to(latents, vectors)), tokens, latents, vectors)

    @torch.no_grad()
    def learn(
        self, latents: Float[Tensor, "batch rows columns code"], tokens: Int[Tensor, "batch rows columns"], *, seed: int
    ) -> Int[Tensor, " replaced"]:
        """Move the codebook towards the vectors of a whole update, and return the codes that began anew."""
        is_first = not self._averages._codebook.initted
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if is_first:
                self._averages(latents.flatten(1, 2))
            else:
                self._averages.update_indices(latents.flatten(1, 2), tokens.flatten(1))
        self.bottleneck.codebook.copy_(self._averages.codebook)
        # A replaced code is given the least use that keeps a code; all others have more.
        is_new = self._averages._codebook.cluster_size[0] <= self._least_use
        rows: Tensor = (is_new | is_first).nonzero().flatten()
        return rows

    def state_dict(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._averages.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._averages.load_state_dict(dict(state))


class CodeCounts:
    """How often each code is used: in this epoch, in the last whole one, and since codes were last judged."""

    def __init__(self, image_vocab_size: int, epoch_tokens: int, device: torch.device) -> None:
        self._epoch_tokens = epoch_tokens
        names = ("epoch", "last_epoch", "since_revival")
        self._counts = {name: torch.zeros(image_vocab_size, dtype=torch.long, device=device) for name in names}
        self._sizes = dict.fromkeys(names, 0)  # sums, kept here so that the device is not waited for

    def add(self, tokens: Int[Tensor, "batch rows columns"]) -> None:
        """Count the tokens of an update."""
        counts = count_codes(tokens, image_vocab_size=len(self._counts["epoch"]))
        for name in ("epoch", "since_revival"):
            self._counts[name] = self._counts[name] + counts
            self._sizes[name] += tokens.numel()
        if self._sizes["epoch"] >= self._epoch_tokens:
            self._counts |= {"last_epoch": self._counts["epoch"], "epoch": torch.zeros_like(counts)}
            self._sizes["epoch"] = 0

    def measured(self) -> dict[str, float]:
        """Return use and perplexity over the last whole epoch, or over what there is of the first."""
        whole = self._counts["last_epoch"]
        counts = whole if whole.any() else self._counts["epoch"]
        return {"code_use": code_use(counts), "code_perplexity": code_perplexity(counts)}

    def window(self) -> Int[Tensor, " vocab"] | None:
        """Return the counts since the last call that returned some, once there are enough to judge a code by."""
        counts = self._counts["since_revival"]
        if self._sizes["since_revival"] < COUNTED_EACH * len(counts):
            return None
        self._counts["since_revival"], self._sizes["since_revival"] = torch.zeros_like(counts), 0
        return counts

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._counts)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._counts = {name: state[name].to(counts.device) for name, counts in self._counts.items()}
        self._sizes = {name: int(counts.sum()) for name, counts in self._counts.items()}


@torch.no_grad()
def revive(
    bottleneck: Categorical | Nearest, counts: Int[Tensor, " vocab"], *, below: float, seed: int
) -> dict[str, Int[Tensor, " replaced"]]:
    """Replace codes that are hardly used, each by a part of a much used one.

    The parts of a split code have its logit and its vector, a little apart, and share its places among them. The more a
    code is used, the likelier it is split.

    Args:
        bottleneck: With the codes; changed in place.
        counts: How often each code was used.
        below: A code is replaced if it has less than this share of an even use.
        seed: Of which codes are split, and of the noise.

    Returns:
        The rows that were replaced, by the name of the bottleneck's parameter; empty where there was none.
    """
    counts = counts.cpu()
    is_dead = counts < below * counts.sum() / len(counts)
    dead = is_dead.nonzero().flatten()
    if not len(dead):
        return {}
    generator = torch.Generator().manual_seed(derive_seed(seed, "revival"))
    donors = torch.where(is_dead, 0, counts).float().multinomial(len(dead), replacement=True, generator=generator)
    names = ["codebook"]
    if isinstance(bottleneck, Categorical):
        names = ["to_logits.weight", "codebook", "to_logits.bias"]
    for name in names:
        parameter = bottleneck.get_parameter(name)
        parts = parameter[donors.to(parameter.device)]
        if name != "to_logits.bias":
            noise = torch.randn(parts.shape, generator=generator).to(parts)
            parts = parts + SPLIT_NOISE * parameter.std() * noise
        parameter[dead.to(parameter.device)] = parts
    return dict.fromkeys(names, dead.to(bottleneck.codebook.device))


def codebook_of(bottleneck: Categorical | Nearest, config: ImageStage) -> MovingCodebook | None:
    """Return the moving codebook of `rotation`; for a relaxation let the optimizer train the codes and return None."""
    if config.relaxation != "rotation":
        bottleneck.codebook.requires_grad_(True)
        return None
    assert isinstance(bottleneck, Nearest)
    even_use = config.batch_size * config.model.image_len / config.model.image_vocab_size
    return MovingCodebook(bottleneck, config, even_use=even_use)
