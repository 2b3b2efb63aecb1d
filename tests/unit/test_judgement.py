"""What a model says of pictures equals a plain forward pass, and drawing goes on from the tokens that stay."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.shapes import draw_shape
from trencadis import DALLE, CaptionTokenizer, DiscreteVAE, Transformer
from trencadis.config import DiscreteVAEConfig, LeanConfig, TransformerConfig
from trencadis.data import read_picture
from trencadis.data.pixels import to_tensor
from trencadis.drawn import read_record
from trencadis.errors import ConfigError, PictureError, PromptError
from trencadis.sampling import GuidanceSchedule, Sampling, picture_tokens

CAPTIONS = ["a red heart", "", "a blue circle"]
CODES = 32
GRIDS = torch.randint(CODES, (3, 4, 4), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> DALLE:
    """A random model whose distributions are far from even, and depend on the caption."""
    torch.manual_seed(0)
    image = DiscreteVAEConfig(
        image_size=(16, 16), image_vocab_size=CODES, latent_dim=8, architecture=LeanConfig(widths=(8, 8))
    )
    texts = CaptionTokenizer.train(["a red heart", "a blue circle"] * 4, vocab_size=300)
    config = TransformerConfig(
        text_len=8, text_vocab_size=texts.vocab_size, grid_size=image.grid_size, image_vocab_size=CODES, num_layers=2,
        num_heads=2, head_dim=8, kernel_size=3,
    )  # fmt: skip
    transformer = Transformer(config)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    return DALLE(text_tokenizer=texts, image_tokenizer=DiscreteVAE(image), transformer=transformer, name="random")


def logits(model: DALLE, grid: Tensor, caption: str) -> Tensor:
    """Return the logits of a plain forward pass, in float64."""
    text = model.transformer.stream.pad_captions([model.text_tokenizer.encode(caption) if caption else []])
    with torch.no_grad():
        return model.transformer.logits(text, grid[None]).image[0].double()


def bits(model: DALLE, grid: Tensor, caption: str) -> list[float]:
    rows = logits(model, grid, caption).tolist()
    sums = [math.fsum(map(math.exp, row)) for row in rows]
    return [
        -math.log2(math.exp(row[token]) / total) for row, token, total in zip(rows, grid.flatten(), sums, strict=True)
    ]


def test_scores_are_those_of_a_plain_forward_pass(model: DALLE) -> None:
    scores = model.score(list(GRIDS), CAPTIONS)
    expected = [[-math.log(2) * sum(bits(model, grid, caption)) for caption in CAPTIONS] for grid in GRIDS]
    torch.testing.assert_close(scores.log_probabilities, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)
    assert torch.equal(scores.without_caption, scores.log_probabilities[:, 1])
    assert torch.equal(scores.added[:, 1], torch.zeros(3, dtype=torch.float64))
    assert scores.added.abs().max() > 1
    odds = np.exp(np.array(expected) - np.max(expected, axis=1, keepdims=True))
    np.testing.assert_allclose(scores.shares.numpy(), odds / odds.sum(1, keepdims=True), rtol=1e-4)


def test_bits_add_up_to_the_log_probability(model: DALLE) -> None:
    surprise = model.surprise(GRIDS[0], "a red heart")
    assert surprise.bits.flatten().tolist() == pytest.approx(bits(model, GRIDS[0], "a red heart"), rel=1e-5)
    assert surprise.bits_without_caption.flatten().tolist() == pytest.approx(bits(model, GRIDS[0], ""), rel=1e-5)
    scores = model.score([GRIDS[0]], ["a red heart"])
    assert -float(surprise.bits.sum()) == pytest.approx(surprise.log_probability / math.log(2))
    assert surprise.log_probability == pytest.approx(float(scores.log_probabilities))
    assert surprise.likelihood == pytest.approx(float(scores.added) / 16)
    ranker = model.ranker_by("likelihood", GRIDS[:1])
    assert surprise.likelihood == pytest.approx(float(ranker.score(torch.zeros(1, 3, 16, 16), "a red heart")), rel=1e-6)


def test_a_figure_does_not_depend_on_what_else_is_judged(model: DALLE) -> None:
    together = model.score([*GRIDS, draw_shape(3, 40)[0]], CAPTIONS)
    for row, picture in enumerate([*GRIDS, draw_shape(3, 40)[0]]):
        for column, caption in enumerate(CAPTIONS):
            alone = model.score([picture], [caption])
            assert torch.equal(alone.log_probabilities[0, 0], together.log_probabilities[row, column])
            assert -model.surprise(picture, caption).bits.sum() * math.log(2) == pytest.approx(
                float(alone.log_probabilities), rel=1e-12
            )


def test_a_picture_is_read_as_an_image_prompt_is(model: DALLE) -> None:
    picture = draw_shape(3, 40)[0].resize((60, 40))
    expected = picture_tokens(model.image_tokenizer, picture, device=torch.device("cpu"))
    own = model.generate("x", candidates=1, seed=0, image=picture, keep_rows=2)
    assert own.image_tokens[0, :2].tolist() == expected[:2].tolist()
    surprise = model.surprise(picture, "a red heart")
    assert torch.equal(surprise.image_tokens, expected)
    assert torch.equal(surprise.bits, model.surprise(expected.tolist(), "a red heart").bits)


@pytest.mark.parametrize(
    ("scale", "schedule", "expected"), [(1.0, "constant", 1.0), (4.0, "constant", 4.0), (4.0, "linear", 1 + 3 * 6 / 15)]
)
def test_alternatives_have_the_probabilities_that_they_are_drawn_with(
    model: DALLE, monkeypatch: pytest.MonkeyPatch, scale: float, schedule: GuidanceSchedule, expected: float
) -> None:
    monkeypatch.setattr(model, "sampling", Sampling(guidance_schedule=schedule, guidance_scale=9.0))
    tiles = model.tiles(GRIDS[0], "a red heart", 1, 2, count=CODES, guidance_scale=scale)
    own, alone = (logits(model, GRIDS[0], caption)[6] for caption in ("a red heart", ""))
    odds = (alone + expected * (own - alone)).exp()
    by_token = {tile.token: tile.probability for tile in tiles.likeliest}
    assert [by_token[token] for token in range(CODES)] == pytest.approx((odds / odds.sum()).tolist(), rel=1e-4)
    assert math.fsum(by_token.values()) == pytest.approx(1, abs=1e-12)
    assert list(by_token.values()) == sorted(by_token.values(), reverse=True)
    assert (tiles.current.token, tiles.current.probability) == (int(GRIDS[0, 1, 2]), by_token[int(GRIDS[0, 1, 2])])
    few = model.tiles(GRIDS[0], "a red heart", 1, 2, count=3, guidance_scale=scale)
    assert [tile.token for tile in few.likeliest] == list(by_token)[:3]


def test_alternatives_show_the_picture_with_the_tile_in_place_and_see_nothing_behind_it(model: DALLE) -> None:
    tiles = model.tiles(GRIDS[0], "a red heart", 1, 2, count=2)
    for tile in (*tiles.likeliest, tiles.current):
        grid = GRIDS[0].clone()
        grid[1, 2] = tile.token
        decoded = model.image_tokenizer.decode(grid[None])
        assert torch.equal(to_tensor(tile.image), (decoded[0] * 255).round() / 255)
    other = GRIDS[0].clone()
    other.view(-1)[6:] = 0
    again = model.tiles(other, "a red heart", 1, 2, count=2)
    assert [tile.token for tile in again.likeliest] == [tile.token for tile in tiles.likeliest]
    assert again.likeliest[0].probability == pytest.approx(tiles.likeliest[0].probability, rel=1e-5)


@pytest.mark.parametrize("kept", [1, 6, 15, 16])
def test_the_kept_tokens_stay_and_the_same_seed_draws_the_same_rest(model: DALLE, kept: int, tmp_path: Path) -> None:
    drawn = model.generate("a red heart", candidates=4, seed=7, temperature=2.0)
    for seed, tokens, image in zip(drawn.seeds, drawn.image_tokens, drawn.images, strict=True):
        changed = tokens.flatten().clone()
        changed[kept:] = (changed[kept:] + 1) % CODES  # it is drawn anew, whatever was there
        own: dict[str, Any] = {"image_tokens": changed.view(4, 4), "kept_tokens": kept, "temperature": 2.0}
        again = model.generate("a red heart", candidates=1, seed=seed, **own)
        assert torch.equal(again.image_tokens[0], tokens)
        assert again.images[0].tobytes() == image.tobytes()
    prompt: dict[str, Any] = {"image_tokens": GRIDS[0].tolist(), "kept_tokens": kept}
    others = model.generate(
        "a red heart", candidates=4, keep=2, seed=1, temperature=5.0, ranking="likelihood", **prompt
    )
    assert others.image_tokens.flatten(1)[:, :kept].tolist() == [GRIDS[0].flatten()[:kept].tolist()] * 2
    assert torch.equal(others.image_tokens[0], others.image_tokens[1]) == (kept == 16)
    (path, _) = others.save(tmp_path)
    record = read_record(read_picture(path))
    assert record.image is not None
    assert (record.image.kept_tokens, record.image.sha256) == (((0, tuple(GRIDS[0].flatten()[:kept].tolist())),), None)
    assert model.redraw(record).tobytes() == others.images[0].tobytes()


def test_nothing_kept_is_a_drawing_like_any_other(model: DALLE) -> None:
    plain = model.generate("a red heart", candidates=1, seed=7)
    kept = model.generate("a red heart", candidates=1, seed=7, image_tokens=GRIDS[0], kept_tokens=0)
    assert kept.records == plain.records
    assert torch.equal(kept.image_tokens, plain.image_tokens)


def test_a_drawing_has_the_tokens_of_its_pictures_in_their_order(model: DALLE) -> None:
    drawn = model.generate("a red heart", candidates=6, keep=4, seed=3, ranking="likelihood")
    assert drawn.seeds != sorted(drawn.seeds)
    for seed, tokens, image in zip(drawn.seeds, drawn.image_tokens, drawn.images, strict=True):
        alone = model.generate("a red heart", candidates=1, seed=seed, ranking="none")
        assert torch.equal(alone.image_tokens[0], tokens)
        assert torch.equal(to_tensor(image), (model.image_tokenizer.decode(tokens[None])[0] * 255).round() / 255)


GRID = GRIDS[0].tolist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"image_tokens": GRID}, ConfigError, "image_tokens without kept_tokens"),
        ({"kept_tokens": 2}, ConfigError, "kept_tokens without image_tokens"),
        ({"image_tokens": GRID, "kept_tokens": 17}, ConfigError, r"kept_tokens 17; expected 0\.\.16"),
        ({"image_tokens": GRID, "kept_tokens": -1}, ConfigError, "kept_tokens -1"),
        (
            {"image_tokens": GRID[:3], "kept_tokens": 1},
            PictureError,
            "image_tokens in 3 rows of 4; expected 4 rows of 4",
        ),
        ({"image_tokens": [*GRID[:3], [1]], "kept_tokens": 1}, PictureError, "in 4 rows of 1 or 4"),
        ({"image_tokens": [], "kept_tokens": 1}, PictureError, "in 0 rows of 0"),
        ({"image_tokens": [[32] * 4] * 4, "kept_tokens": 1}, PictureError, r"the token 32; expected tokens in 0\.\.31"),
        ({"image_tokens": [[-1] * 4] * 4, "kept_tokens": 1}, PictureError, "the token -1"),
        (
            {"image_tokens": GRID, "kept_tokens": 1, "image": Image.new("RGB", (16, 16)), "keep_rows": 1},
            ConfigError,
            "image_tokens beside an image",
        ),
    ],
)
def test_tokens_that_cannot_stay_are_refused(
    model: DALLE, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.generate("a red heart", candidates=1, **options)
    with pytest.raises(error, match=message):
        model.prepare("a red heart", candidates=1, **options)


@pytest.mark.parametrize(
    ("place", "options", "message"),
    [
        ((4, 0), {}, r"row 4; expected 0\.\.3"),
        ((0, -1), {}, "column -1"),
        ((0, 0), {"count": 0}, r"count 0; expected 1\.\.32"),
        ((0, 0), {"guidance_scale": -1.0}, "guidance_scale"),
    ],
)
def test_a_place_that_is_not_there_is_refused(
    model: DALLE, place: tuple[int, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        model.tiles(GRIDS[0], "a red heart", *place, **options)


def test_what_cannot_be_judged_is_refused(model: DALLE) -> None:
    with pytest.raises(PromptError, match="no captions"):
        model.score([GRIDS[0]], [])
    with pytest.raises(PromptError, match="5,000 characters"):
        model.surprise(GRIDS[0], "x" * 5000)
    with pytest.raises(PictureError, match="image_tokens in 1 rows of 4"):
        model.surprise(GRID[:1], "x")
    assert model.score([], ["x"]).shares.shape == (0, 1)


@pytest.mark.usefixtures("without_type_checks")
def test_the_shipped_model_names_the_captions_of_its_own_drawings() -> None:
    shipped = DALLE.from_pretrained("emoji")
    captions = ["a red heart", "a yellow banana", "a green frog", "a blue car"]
    drawn = shipped.generate(captions, candidates=1, seed=5)
    scores = shipped.score([each.images[0] for each in drawn], captions)
    assert scores.shares.argmax(1).tolist() == [0, 1, 2, 3]
    assert scores.shares.diagonal().min() > 0.5
