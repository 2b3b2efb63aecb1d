"""Which ranker orders candidates."""

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.errors import RankingError
from trencadis.protocols import Ranker
from trencadis.sampling import Ranking


class JointRanker:
    """The sum of several rankers' scores, each with mean 0 and deviation 1 over the candidates. A `Ranker`.

    A score orders the candidates of one call: beside others, a picture has another one.
    """

    def __init__(self, *rankers: Ranker) -> None:
        self.rankers = rankers

    def score(self, images: Float[Tensor, "candidates 3 height width"], prompt: str) -> Float[Tensor, " candidates"]:
        """Return one score a picture; where a ranker gives no number, NaN."""
        scores = [standardised(ranker.score(images, prompt).cpu()) for ranker in self.rankers]
        return torch.stack(scores).sum(0)


def chosen_ranker(ranking: Ranking, clip: Ranker | None, likelihood: Ranker) -> Ranker:
    """Return the ranker of a ranking; raises a `RankingError` where there is none."""
    if ranking == "likelihood":
        return likelihood
    if ranking == "none":
        raise RankingError("ranking none", expected="clip, likelihood or both", remedy="choose one of them")
    if clip is None:
        raise no_ranker(ranking)
    return clip if ranking == "clip" else JointRanker(clip, likelihood)


def no_ranker(ranking: Ranking) -> RankingError:
    """Return the error of a ranking that needs the ranker of a model without one."""
    expected = "likelihood, none, or a model with a ranker"
    return RankingError(f"ranking {ranking} without a ranker", expected=expected, remedy="choose another ranking")


def standardised(scores: Float[Tensor, " candidates"]) -> Float[Tensor, " candidates"]:
    """Return scores with mean 0 and deviation 1 over those that are numbers; equal ones are 0."""
    known = scores[scores.isfinite()].double()
    centred = scores.double() - known.mean()
    deviation = known.std(correction=0)
    return (centred / deviation if deviation > 0 else centred).float()
