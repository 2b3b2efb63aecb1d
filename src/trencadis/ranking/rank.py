"""Candidates ordered by how well they fit the prompt."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from trencadis.errors import RankingError
from trencadis.protocols import Ranker


@dataclass(frozen=True, eq=False)
class Ranked:
    """The best candidates, best first.

    Args:
        images: RGB in [0, 1].
        scores: The ranker's similarities, descending.
        order: Their indices among the candidates.
    """

    images: Float[Tensor, "keep 3 height width"]
    scores: Float[Tensor, " keep"]
    order: Int[Tensor, " keep"]


def rank(images: Float[Tensor, "candidates 3 height width"], prompt: str, *, ranker: Ranker, keep: int) -> Ranked:
    """Order candidates by how well they fit the prompt, best first; equals keep their order.

    Args:
        images: RGB in [0, 1].
        prompt: The prompt that they were drawn from.
        ranker: Returns one similarity for each image.
        keep: How many to return, 1..candidates.

    Raises:
        RankingError: `keep` is out of its range.

    Source: Ramesh et al. 2021, section 2.6.
    """
    if not 1 <= keep <= len(images):
        expected = f"1..{len(images)}, the number of candidates"
        raise RankingError(f"keep {keep}", expected=expected, remedy="change keep, or draw more candidates")
    scores = ranker.score(images, prompt)
    # A sort puts NaN first; an image that cannot be scored belongs last.
    order = scores.nan_to_num(nan=-float("inf")).argsort(descending=True, stable=True)[:keep]
    return Ranked(images[order], scores[order], order)
