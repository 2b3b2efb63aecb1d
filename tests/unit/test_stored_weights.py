"""A model whose files are in bfloat16, and rankings, through the whole pipeline."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from trencadis.errors import ConfigError, RankingError
from trencadis.pipeline import DALLE
from trencadis.ranking import CLIPRanker
from trencadis.sampling import Ranking
from trencadis.transformer import Transformer


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> DALLE:
    return DALLE.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def rounded(model: DALLE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "rounded"
    model.save_pretrained(path, dtype="bfloat16")
    return path


def test_matrices_are_stored_rounded_and_computed_in_float32(model: DALLE, rounded: Path) -> None:
    stored = safetensors.torch.load_file(rounded / "transformer" / "model.safetensors")
    loaded = Transformer.from_pretrained(rounded / "transformer")
    assert loaded.stored_type == "bfloat16"
    for name, tensor in model.transformer.state_dict().items():
        assert stored[name].dtype == (torch.bfloat16 if tensor.ndim > 1 else torch.float32)
        assert torch.equal(loaded.state_dict()[name], stored[name].float())
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=2**-8, atol=0)


def test_the_image_tokenizer_is_not_rounded_and_clip_is(model: DALLE, rounded: Path) -> None:
    again = DALLE.from_pretrained(rounded)
    assert isinstance(model.image_tokenizer, torch.nn.Module)
    assert isinstance(again.image_tokenizer, torch.nn.Module)
    for name, tensor in model.image_tokenizer.state_dict().items():
        assert torch.equal(again.image_tokenizer.state_dict()[name], tensor)
    assert isinstance(again.ranker, CLIPRanker)
    assert again.ranker.clip.stored_type == "bfloat16"


def test_a_model_draws_with_the_type_that_it_is_stored_in(model: DALLE, rounded: Path, tmp_path: Path) -> None:
    again = DALLE.from_pretrained(rounded)
    assert (model.weights, again.weights) == ("float32", "bfloat16")
    drawn = again.generate("a ring", candidates=2, keep=2, seed=5)
    assert [record.weights for record in drawn.records] == ["bfloat16"] * 2
    given = again.generate("a ring", candidates=2, keep=2, seed=5, weights="bfloat16")
    assert drawn.records == given.records
    assert again.redraw(drawn.records[1]).tobytes() == drawn.images[1].tobytes()
    again.save_pretrained(tmp_path / "copy")
    copy = DALLE.from_pretrained(tmp_path / "copy")
    assert (copy.weights, copy.digest()) == ("bfloat16", again.digest())
    again.save_pretrained(tmp_path / "wide", dtype="float32")
    wide = DALLE.from_pretrained(tmp_path / "wide")
    assert (wide.weights, wide.digest()) == ("float32", again.digest()), "the values are the same"


def test_a_model_stored_in_bfloat16_can_be_trained_on(rounded: Path, tmp_path: Path) -> None:
    transformer = Transformer.from_pretrained(rounded / "transformer").train()
    text = transformer.stream.pad_captions([[1, 2]])
    losses = transformer.losses(text, torch.zeros(1, *transformer.stream.grid_size, dtype=torch.long))
    losses.image.backward()  # type: ignore[no-untyped-call]
    assert {parameter.grad.dtype for parameter in transformer.parameters() if parameter.grad is not None} == {
        torch.float32
    }
    transformer.save_pretrained(tmp_path / "trained")
    assert Transformer.from_pretrained(tmp_path / "trained").stored_type == "float32"


@pytest.mark.usefixtures("without_type_checks")
def test_an_unknown_type_is_refused_and_nothing_is_written(model: DALLE, tmp_path: Path) -> None:
    for part in (model, model.transformer):
        with pytest.raises(ConfigError, match="dtype 'int8'; expected one of float32, bfloat16"):
            part.save_pretrained(tmp_path / "out", dtype="int8")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ranking", ["clip", "likelihood", "both"])
def test_candidates_are_ranked_as_asked(model: DALLE, ranking: Ranking) -> None:
    drawn = model.generate("a ring", candidates=6, keep=3, seed=3, ranking=ranking, temperature=2.0)
    assert [record.sampling.ranking for record in drawn.records] == [ranking] * 3
    assert drawn.scores == sorted(drawn.scores or [], reverse=True)
    tokens = model.generate("a ring", candidates=6, keep=6, seed=3, ranking="none", temperature=2.0)
    assert (tokens.seeds, tokens.scores) == ([3, 4, 5, 6, 7, 8], None)
    if ranking != "both":
        alone = model.generate("a ring", candidates=1, seed=drawn.seeds[0], ranking=ranking, temperature=2.0)
        assert alone.scores == pytest.approx(drawn.scores[:1])


def test_without_a_ranker_the_likelihood_ranks(model: DALLE) -> None:
    unranked = DALLE(
        text_tokenizer=model.text_tokenizer, image_tokenizer=model.image_tokenizer, transformer=model.transformer
    )
    drawn = unranked.generate("a ring", candidates=4, keep=2, seed=3, ranking="likelihood")
    assert len(drawn.scores or []) == 2
    assert set(drawn.seeds) <= {3, 4, 5, 6}
    for draw in (unranked.generate, unranked.check):
        with pytest.raises(RankingError, match="ranking both without a ranker"):
            draw("a ring", ranking="both")
    assert unranked.generate("a ring", seed=3).scores is None
