import math

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.config import TransformerConfig
from trencadis.errors import RankingError
from trencadis.protocols import Ranker
from trencadis.ranking import JointRanker, LikelihoodRanker, chosen_ranker, rank
from trencadis.transformer import Transformer

GRIDS = torch.randint(50, (5, 4, 4), generator=torch.Generator().manual_seed(1))
IMAGES = torch.zeros(5, 3, 8, 8)


class _Codes:
    """An image tokenizer whose tokens are the red values of every other pixel, in fiftieths."""

    image_size = drawn_size = (8, 8)
    grid_size, image_vocab_size, down_factor = (4, 4), 50, 2

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Tensor:
        return (images[:, 0, ::2, ::2] * 50).round().long()

    def decode(self, image_tokens: Tensor) -> Tensor:
        return (image_tokens / 50)[:, None].expand(-1, 3, -1, -1).repeat_interleave(2, 2).repeat_interleave(2, 3)


class _Fixed:
    def __init__(self, *scores: float) -> None:
        self.scores = torch.tensor(scores)

    def score(self, images: Float[Tensor, "candidates 3 height width"], prompt: str) -> Float[Tensor, " candidates"]:
        return self.scores


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        text_len=6, text_vocab_size=20, grid_size=(4, 4), image_vocab_size=50, num_layers=2, num_heads=2, head_dim=8,
        kernel_size=3,
    )  # fmt: skip
    transformer = Transformer(config).eval()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.15)
    return transformer


def ranker(model: Transformer, image_tokens: Tensor | None) -> LikelihoodRanker:
    return LikelihoodRanker(model, _Codes(), lambda prompt: model.stream.pad_captions([[3, 1, 4]]), image_tokens)


def test_a_score_is_what_the_caption_adds_to_the_log_likelihood(model: Transformer) -> None:
    scores = ranker(model, GRIDS).score(IMAGES, "a ring")
    assert not scores.requires_grad
    totals = []
    for caption in ([3, 1, 4], []):
        with torch.no_grad():
            logits = model.logits(model.stream.pad_captions([caption] * 5), GRIDS).image
        probabilities = logits.double().exp() / logits.double().exp().sum(-1, keepdim=True)
        chosen = probabilities.gather(-1, GRIDS.flatten(1)[..., None])[..., 0]
        totals.append([sum(map(math.log, row)) for row in chosen.tolist()])
    expected = [(given - alone) / 16 for given, alone in zip(*totals, strict=True)]
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert scores.std() > 1e-3


def test_a_score_does_not_depend_on_the_other_pictures(model: Transformer) -> None:
    together = ranker(model, GRIDS).score(IMAGES, "a ring")
    for index in range(5):
        assert torch.equal(ranker(model, GRIDS[index][None]).score(IMAGES[:1], "a ring")[0], together[index])


def test_pictures_without_tokens_are_encoded(model: Transformer) -> None:
    encoded = ranker(model, None).score(_Codes().decode(GRIDS), "a ring")
    assert torch.equal(encoded, ranker(model, GRIDS).score(IMAGES, "a ring"))


def test_pictures_of_twice_the_side_are_encoded_as_the_means_of_their_pixels(model: Transformer) -> None:
    images = torch.nn.functional.interpolate(_Codes().decode(GRIDS), scale_factor=2.0)
    assert torch.equal(ranker(model, None).score(images, "a ring"), ranker(model, GRIDS).score(IMAGES, "a ring"))


def test_a_ranking_has_its_ranker(model: Transformer) -> None:
    clip, likelihood = _Fixed(0.1, 0.2, 0.3, 0.4, 0.5), ranker(model, GRIDS)
    assert isinstance(likelihood, Ranker)
    assert chosen_ranker("clip", clip, likelihood) is clip
    assert chosen_ranker("likelihood", None, likelihood) is likelihood
    assert isinstance(chosen_ranker("both", clip, likelihood), JointRanker)
    for ranking in ("clip", "both"):
        with pytest.raises(RankingError, match=f"ranking {ranking} without a ranker; expected likelihood"):
            chosen_ranker(ranking, None, likelihood)
    with pytest.raises(RankingError, match="ranking none; expected clip"):
        chosen_ranker("none", clip, likelihood)


def test_both_adds_standardised_scores() -> None:
    joint = JointRanker(_Fixed(1.0, 2.0, 3.0), _Fixed(300.0, 100.0, 100.0))
    expected = [-(1.5**0.5) + 2**0.5, -(2**-0.5), 1.5**0.5 - 2**-0.5]
    assert joint.score(IMAGES[:3], "a ring").tolist() == pytest.approx(expected)
    assert rank(IMAGES[:3], "a ring", ranker=joint, keep=3).order.tolist() == [2, 0, 1]


def test_equal_scores_add_nothing_and_what_is_no_number_comes_last() -> None:
    equal = _Fixed(5.0, 5.0, 5.0)
    assert JointRanker(equal, equal).score(IMAGES[:3], "a ring").tolist() == [0, 0, 0]
    joint = JointRanker(equal, _Fixed(math.nan, 1.0, 2.0))
    assert rank(IMAGES[:3], "a ring", ranker=joint, keep=3).order.tolist() == [2, 1, 0]
