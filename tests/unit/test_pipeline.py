import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.shapes import draw_shape
from trencadis.drawn import read_record
from trencadis.errors import ConfigError, ModelError, PictureError, PromptError, RankingError, UserError
from trencadis.pipeline import DALLE, Progress
from trencadis.ranking import CLIPRanker
from trencadis.sampling import Sampling
from trencadis.transformer import Transformer
from trencadis.transformer.cache import KeyValueCache
from trencadis.transformer.decoding import Decoder
from trencadis.transformer.packing import Weights


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> DALLE:
    return DALLE.from_pretrained(tiny_model)


def pixels(images: list[Image.Image]) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_drawings_are_ranked_best_first_and_keep_their_seeds(model: DALLE) -> None:
    drawn = model.generate("a red circle", candidates=6, keep=3, seed=100)
    assert len(drawn.images) == len(drawn.seeds) == 3
    assert drawn.scores == sorted(drawn.scores or [], reverse=True)
    assert set(drawn.seeds) <= set(range(100, 106))
    every = model.generate("a red circle", candidates=6, keep=6, seed=100)
    assert every.seeds[:3] == drawn.seeds
    assert pixels(every.images[:3]) == pixels(drawn.images)


def test_a_seed_draws_its_picture_again_alone_and_in_batches_of_any_size(model: DALLE) -> None:
    together = model.generate("a blue square", candidates=8, keep=8, seed=7)
    by_seed = dict(zip(together.seeds, pixels(together.images), strict=True))
    assert len(set(by_seed.values())) > 1
    for seed in range(7, 15):
        assert pixels(model.generate("a blue square", candidates=1, keep=1, seed=seed).images) == [by_seed[seed]]
    in_threes = model.generate("a blue square", candidates=8, keep=8, seed=7, batch_size=3)
    assert dict(zip(in_threes.seeds, pixels(in_threes.images), strict=True)) == by_seed


def test_without_a_seed_each_call_draws_something_else(model: DALLE) -> None:
    one, other = (model.generate("a ring", candidates=4, keep=4) for _ in range(2))
    assert set(one.seeds) != set(other.seeds)


def test_kept_rows_keep_their_tokens_and_the_rest_is_drawn(model: DALLE) -> None:
    image, _ = draw_shape(3, 32)
    whole = model.image_tokenizer.encode(_tensor(image.resize((16, 16), Image.Resampling.LANCZOS)))[0]
    drawn = [
        model.generate("a ring", candidates=1, keep=1, seed=seed, image=image, keep_rows=2, temperature=3.0).images[0]
        for seed in range(4)
    ]
    bottoms = {picture.crop((0, 12, 16, 16)).tobytes() for picture in drawn}
    assert len(bottoms) > 1
    kept = model.generate("a ring", candidates=1, keep=1, seed=0, image=image, keep_rows=4).images[0]
    reconstructed = model.image_tokenizer.decode(whole[None])
    assert torch.equal(_tensor(kept), (reconstructed * 255).round() / 255)


@pytest.mark.parametrize("with_alpha", [True, False])
def test_a_mask_says_which_tokens_are_drawn_anew(model: DALLE, with_alpha: bool) -> None:
    from trencadis.sampling import image_prompt

    image, _ = draw_shape(3, 32)
    # The lower right quarter, and one pixel of the token in the first row and third column.
    if with_alpha:
        mask = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
        mask.paste((0, 0, 0, 0), (16, 16, 32, 32))
        mask.putpixel((17, 3), (0, 0, 0, 0))
    else:
        mask = Image.new("L", (32, 32), 0)
        mask.paste(255, (16, 16, 32, 32))
        mask.putpixel((17, 3), 255)
    prompt = image_prompt(model.image_tokenizer, image, mask=mask, keep_rows=None, device=torch.device("cpu"))
    anew = torch.zeros(4, 4, dtype=torch.bool)
    anew[2:, 2:] = True
    anew[0, 2] = True
    assert torch.equal(prompt.kept, ~anew)


def _tensor(image: Image.Image) -> Tensor:
    from trencadis.data.pixels import to_tensor

    return to_tensor(image)[None]


def test_progress_is_told_and_shows_pictures_that_grow(model: DALLE) -> None:
    told: list[Progress] = []
    model.generate("a ring", candidates=3, keep=1, seed=1, batch_size=2, callback=told.append)
    assert [state.total for state in told] == [48] * len(told)
    assert [state.drawn for state in told][-1] == 48
    assert [state.drawn for state in told] == sorted(state.drawn for state in told)
    early = told[3].partial_images()
    assert len(early) == 2
    assert early[0].getpixel((15, 15)) == (230, 230, 230)


def test_a_callback_that_raises_stops_the_drawing(model: DALLE) -> None:
    calls = 0

    def leave(state: Progress) -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        model.generate("a ring", callback=leave)
    assert calls == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"candidates": 2, "keep": 4}, RankingError),
        ({"candidates": 0}, ConfigError),
        ({"keep": 0}, RankingError),
        ({"top_p": 1.5}, ConfigError),
        ({"top_k": 0}, ConfigError),
        ({"temperature": 0.0}, ConfigError),
        ({"negative_prompt": "a square", "guidance_scale": 1.0}, ConfigError),
        ({"negative_prompt": " "}, PromptError),
        ({"seed": -1}, ConfigError),
        ({"seed": 2**63 - 1}, ConfigError),
        ({"batch_size": 0}, ConfigError),
        ({"keep_rows": 1}, ConfigError),
        ({"image": Image.new("RGB", (16, 16))}, ConfigError),
        ({"image": Image.new("RGB", (16, 16)), "keep_rows": 5}, ConfigError),
        ({"image": Image.new("RGB", (16, 16)), "mask": Image.new("L", (8, 8))}, PictureError),
        ({"image": Image.new("RGB", (16, 16)), "mask": Image.new("L", (16, 16)), "keep_rows": 1}, ConfigError),
    ],
)
def test_what_cannot_be_drawn_is_refused(model: DALLE, options: dict[str, object], error: type[UserError]) -> None:
    with pytest.raises(error, match="; expected "):
        model.generate("a ring", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["", "  \n", "a" * 10_000])
def test_a_prompt_that_is_empty_or_endless_is_refused(model: DALLE, prompt: str) -> None:
    with pytest.raises(PromptError):
        model.generate(prompt)


def test_a_prompt_that_is_too_long_is_cut_with_a_warning_that_says_where(model: DALLE) -> None:
    with pytest.warns(UserWarning, match="cut after"):
        model.generate("a red circle on the left of a green ground " * 5, candidates=1, keep=1)


def test_a_png_remembers_how_it_was_drawn(model: DALLE, tmp_path: Path) -> None:
    drawn = model.generate("a ring / ☕", candidates=2, keep=1, seed=5, temperature=0.8)
    (path,) = drawn.save(tmp_path / "out")
    assert path.name == f"a-ring-{drawn.seeds[0]}.png"
    with Image.open(path) as image:
        record = read_record(image)
        assert image.info["Description"] == "a ring / ☕"
    assert record is not None
    assert (record["prompt"], record["seed"], record["temperature"]) == ("a ring / ☕", drawn.seeds[0], 0.8)
    settings = {name: record[name] for name in ("temperature", "top_k", "top_p", "guidance_scale")}
    again = model.generate(record["prompt"], candidates=1, keep=1, seed=record["seed"], **settings)
    assert pixels(again.images) == pixels(drawn.images)


def test_a_png_remembers_what_it_was_drawn_away_from_and_by(model: DALLE, tmp_path: Path) -> None:
    options = {"negative_prompt": "a square", "guidance_schedule": "linear", "decoder": "jacobi", "weights": "bfloat16"}
    drawn = model.generate("a ring", candidates=1, seed=5, **options)  # type: ignore[arg-type]
    (path,) = drawn.save(tmp_path)
    with Image.open(path) as image:
        record = read_record(image)
    assert record is not None
    assert {name: record[name] for name in options} == options
    assert record["jacobi_window"] == model.sampling.jacobi_window


def test_the_transformer_is_made_ready_once_and_anew_where_it_is_moved_to(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = DALLE.from_pretrained(tiny_model)
    made: list[str] = []
    make = Decoder.__init__

    def watched(self: Decoder, transformer: Transformer, weights: Weights = "float32") -> None:
        made.append(weights)
        make(self, transformer, weights)

    monkeypatch.setattr(Decoder, "__init__", watched)
    for weights in ("float32", "bfloat16", "float32", "bfloat16"):
        model.generate("a ring", candidates=1, seed=5, weights=weights)
    assert made == ["float32", "bfloat16"]
    model.to("cpu").generate("a ring", candidates=1, seed=5)
    assert made == ["float32", "bfloat16", "float32"]


def test_a_model_saved_before_there_were_schedules_and_decoders_loads(tiny_model: Path, tmp_path: Path) -> None:
    settings = json.loads((tiny_model / "config.json").read_text())
    settings["sampling"] = {"temperature": 0.7, "top_k": None, "top_p": 0.9, "guidance_scale": 2.0}
    for part in ("text", "image", "transformer"):
        (tmp_path / part).symlink_to(tiny_model / part)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    old = DALLE.from_pretrained(tmp_path).sampling
    assert old == Sampling(temperature=0.7, top_p=0.9, guidance_scale=2.0)
    assert (old.guidance_schedule, old.decoder) == ("constant", "sequential")


def test_a_saved_model_draws_the_same(model: DALLE, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "copy")
    copy = DALLE.from_pretrained(tmp_path / "copy")
    ours, theirs = (each.generate("a ring", candidates=3, keep=2, seed=9) for each in (model, copy))
    assert pixels(ours.images) == pixels(theirs.images)
    assert ours.scores == theirs.scores
    assert "text-to-image" in (tmp_path / "copy" / "README.md").read_text()


class Letters:
    """A text tokenizer of somebody else: one id a letter."""

    vocab_size = 26

    def encode(self, caption: str, *, max_len: int | None = None, dropout: float = 0.0, seed: int = 0) -> list[int]:
        return [ord(letter) - 97 for letter in caption if letter.islower()][:max_len]

    def decode(self, text_tokens: object) -> str:
        raise NotImplementedError


class Brightness:
    """A ranker of somebody else."""

    def score(self, images: Tensor, prompt: str) -> Tensor:
        return images.mean(dim=(1, 2, 3))


def test_a_model_is_put_together_from_objects_of_the_protocols(model: DALLE, tmp_path: Path) -> None:
    by_hand = DALLE(
        text_tokenizer=Letters(),
        image_tokenizer=model.image_tokenizer,
        transformer=model.transformer,
        ranker=Brightness(),
        sampling=Sampling(temperature=2.0),
    )
    drawn = by_hand.generate("anything", candidates=5, keep=2, seed=1)
    brightness = [sum(image.tobytes()) for image in drawn.images]
    assert brightness == sorted(brightness, reverse=True)
    with pytest.raises(ModelError, match="cannot save itself"):
        by_hand.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_ranker_nothing_is_ranked(model: DALLE) -> None:
    plain = DALLE(
        text_tokenizer=model.text_tokenizer, image_tokenizer=model.image_tokenizer, transformer=model.transformer
    )
    drawn = plain.generate("a ring", candidates=3, seed=4)
    assert (drawn.scores, drawn.seeds) == (None, [4, 5, 6])
    with pytest.raises(RankingError, match="a model with a ranker"):
        plain.generate("a ring", candidates=3, keep=1)


def test_parts_that_do_not_belong_together_are_refused(model: DALLE) -> None:
    class Larger(Letters):
        vocab_size = 10**6

    with pytest.raises(ModelError, match="text ids"):
        DALLE(text_tokenizer=Larger(), image_tokenizer=model.image_tokenizer, transformer=model.transformer)


def test_an_unknown_or_damaged_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model 'nosuch'"):
        DALLE.from_pretrained("nosuch")
    with pytest.raises(ModelError, match=r"no config\.json"):
        DALLE.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a whole model"):
        DALLE.from_pretrained(tiny_model / "image")
    copy = tmp_path / "copy"
    copy.mkdir()
    settings = json.loads((tiny_model / "config.json").read_text())
    settings["sampling"]["top_p"] = 7
    (copy / "config.json").write_text(json.dumps(settings))
    for part in ("text", "image", "transformer"):
        (copy / part).symlink_to(tiny_model / part)
    with pytest.raises(ModelError):
        DALLE.from_pretrained(copy)


def test_guidance_leaves_the_caption_in_the_conditional_half(model: DALLE, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    begin = Decoder.begin

    def watched(self: Decoder, text_tokens: Tensor) -> tuple[KeyValueCache, Tensor]:
        seen.append(text_tokens)
        return begin(self, text_tokens)

    monkeypatch.setattr(Decoder, "begin", watched)
    model.generate("a ring", candidates=2, keep=1, seed=1, guidance_scale=4.0)
    conditional, unconditional = seen[0].chunk(2)
    stream = model.transformer.stream
    assert not stream.is_padding(conditional)[:, 0].any()
    assert stream.is_padding(unconditional).all()


def test_a_model_moves_as_a_whole(tiny_model: Path) -> None:
    moved = DALLE.from_pretrained(tiny_model).to("meta")
    assert moved.transformer.image_head.weight.is_meta
    assert isinstance(moved.image_tokenizer, torch.nn.Module)
    assert isinstance(moved.ranker, CLIPRanker)
    assert all(p.is_meta for module in (moved.image_tokenizer, moved.ranker.clip) for p in module.parameters())
