import math

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.config import CLIPConfig, TowerConfig
from trencadis.errors import ModelError, RankingError
from trencadis.protocols import Ranker
from trencadis.ranking import CLIP, CLIPRanker, rank
from trencadis.text import CaptionCutWarning, CaptionTokenizer

TOWER = TowerConfig(num_layers=1, num_heads=2, head_dim=8)


class _ByRed:
    """Scores a picture by its first red value."""

    def score(self, images: Float[Tensor, "candidates 3 height width"], prompt: str) -> Float[Tensor, " candidates"]:
        return images[:, 0, 0, 0]


def _images(reds: list[float]) -> Tensor:
    return torch.tensor(reds).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.train(["a red heart", "a blue star"] * 2, vocab_size=300)


@pytest.fixture(scope="module")
def ranker(tokenizer: CaptionTokenizer) -> CLIPRanker:
    torch.manual_seed(0)
    config = CLIPConfig(
        image_size=(8, 8), patch_size=4, text_len=6, text_vocab_size=300, embed_dim=8, text=TOWER, image=TOWER
    )
    return CLIPRanker(CLIP(config).eval(), tokenizer)


@pytest.mark.parametrize("keep", [1, 3, 4])
def test_the_best_come_first(keep: int) -> None:
    images = _images([0.2, 0.9, 0.1, 0.5])
    ranked = rank(images, "red", ranker=_ByRed(), keep=keep)
    order = [1, 3, 0, 2][:keep]
    assert ranked.order.tolist() == order
    assert torch.equal(ranked.scores, images[order, 0, 0, 0])
    assert torch.equal(ranked.images, images[order])


def test_equals_keep_their_order_and_what_is_no_number_comes_last() -> None:
    ranked = rank(_images([0.5, math.nan, 0.7, 0.5, 0.7]), "red", ranker=_ByRed(), keep=5)
    assert ranked.order.tolist() == [2, 4, 0, 3, 1]
    many = rank(_images([0.5, 0.7] * 300), "red", ranker=_ByRed(), keep=600)
    assert many.order.tolist() == [*range(1, 600, 2), *range(0, 600, 2)]


@pytest.mark.parametrize("keep", [-1, 0, 4])
def test_a_choice_that_cannot_be_made(keep: int) -> None:
    with pytest.raises(RankingError, match=rf"keep {keep}; expected 1\.\.3"):
        rank(_images([0.1, 0.2, 0.3]), "red", ranker=_ByRed(), keep=keep)


def test_clip_is_a_ranker_of_cosine_similarities(ranker: CLIPRanker, tokenizer: CaptionTokenizer) -> None:
    assert isinstance(ranker, Ranker)
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scores = ranker.score(images, "a red heart")
    tokens = ranker.clip.pad([tokenizer.encode("a red heart")])
    expected = _cosines(ranker.clip.image(images), ranker.clip.text(tokens))
    torch.testing.assert_close(scores, expected)
    assert not scores.requires_grad
    assert scores.abs().max() <= 1
    assert not torch.allclose(scores, ranker.score(images, "a blue star"))


def _cosines(images: Tensor, text: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(images, text)


def test_a_picture_s_score_is_its_own(ranker: CLIPRanker) -> None:
    images = torch.rand(70, 3, 8, 8, generator=torch.Generator().manual_seed(1))  # more than are encoded at once
    scores = ranker.score(images, "a red heart")
    assert scores.shape == (70,)
    for place in (0, 63, 64, 69):
        torch.testing.assert_close(scores[place], ranker.score(images[place : place + 1], "a red heart")[0])


def test_a_long_prompt_is_cut_and_said_so(ranker: CLIPRanker) -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with pytest.warns(CaptionCutWarning, match=r"\(5 of \d+ tokens\)"):
        assert ranker.score(images, "a red heart, a blue star, a red heart").isfinite().all()


def test_an_empty_prompt_has_scores_too(ranker: CLIPRanker) -> None:
    assert ranker.score(torch.zeros(1, 3, 8, 8), "").isfinite().all()


def test_a_tokenizer_of_another_model(ranker: CLIPRanker) -> None:
    larger = CaptionTokenizer.train(["abcdefghijklmnopqrstuvwxyz zyxwvutsrqponmlkjihgfedcba"] * 2, vocab_size=320)
    with pytest.raises(ModelError, match=r"a text tokenizer of 3\d\d ids; expected the 300 ids"):
        CLIPRanker(ranker.clip, larger)
