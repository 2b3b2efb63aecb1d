"""Candidates ordered by how well they fit the prompt."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from trencadis.errors import RankingError
from trencadis.memory import in_memory
from trencadis.protocols import Ranker


@dataclass(frozen=True, eq=False)
class Ranked:
    """The best candidates, best first, RGB in [0, 1], with the ranker's similarities and their indices."""

    images: Float[Tensor, "keep 3 height width"]
    scores: Float[Tensor, " keep"]
    order: Int[Tensor, " keep"]


def rank(images: Float[Tensor, "candidates 3 height width"], prompt: str, *, ranker: Ranker, keep: int) -> Ranked:
    """Order candidates, RGB in [0, 1], by how well they fit the prompt, best first; equals keep their order.

    Raises:
        RankingError: `keep` is not in 1..candidates.

    Source: Ramesh et al. 2021, section 2.6.
    """
    if not 1 <= keep <= len(images):
        expected = f"1..{len(images)}, the number of candidates"
        raise RankingError(f"keep {keep}", expected=expected, remedy="change keep, or draw more candidates")
    with in_memory(f"ranking {len(images):,} pictures", remedy="rank fewer at once"):
        scores = ranker.score(images, prompt)
    # A sort puts NaN first; an image that cannot be scored belongs last.
    order = scores.nan_to_num(nan=-float("inf")).argsort(descending=True, stable=True)[:keep]
    return Ranked(images[order], scores[order], order)
