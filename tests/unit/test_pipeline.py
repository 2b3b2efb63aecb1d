import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import trencadis
from tests.shapes import draw_shape
from trencadis import generation, parts
from trencadis.drawn import read_record
from trencadis.errors import (
    ConfigError,
    FullMemoryError,
    ModelError,
    PictureError,
    PromptError,
    RankingError,
    UserError,
)
from trencadis.generation import GenerateOptions, Progress
from trencadis.pipeline import DALLE
from trencadis.ranking import CLIPRanker
from trencadis.sampling import ImagePromptWarning, Sampling, sample_image_tokens
from trencadis.text import CaptionTokenizer
from trencadis.transformer import KVCache, KVDecoder, Transformer, Weights


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
    torch.set_num_threads(2)  # as on most machines; tests/numerics has one
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
    with pytest.warns(ImagePromptWarning, match="keep_rows 4 keeps all of the image"):
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
    assert prompt is not None
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


def test_drawing_without_room_says_what_to_lower(model: DALLE, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Tensor:
        raise MemoryError

    monkeypatch.setattr(generation, "sample_image_tokens", refuse)
    with pytest.raises(FullMemoryError, match="while drawing 2 of 5 pictures at once; lower batch_size"):
        model.generate("a ring", candidates=5, keep=1, batch_size=2)


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
        ({"seed": 2**63 - 1, "candidates": 2}, ConfigError),
        ({"seed": 2**63, "candidates": 1}, ConfigError),
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
        model.generate("a ring", **options)  # type: ignore[call-overload]


def test_a_prompt_that_is_endless_is_refused(model: DALLE) -> None:
    for draw in (model.generate, model.check):
        with pytest.raises(PromptError, match="a prompt of 10,000 characters; expected at most 4,096"):
            draw("a" * 10_000)


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_drawn_without_a_caption(model: DALLE, prompt: str) -> None:
    drawn = model.generate(prompt, candidates=8, keep=2, seed=5)
    assert (drawn.seeds, drawn.scores, drawn.prompt) == ([5, 6], None, prompt)
    unguided = model.generate(prompt, candidates=2, keep=2, seed=5, guidance_scale=1.0)
    assert pixels(drawn.images) == pixels(unguided.images), "guidance has nothing to move towards"
    assert pixels([model.redraw(drawn.records[1])]) == pixels(drawn.images[1:])
    away = model.generate(prompt, candidates=2, keep=2, seed=5, negative_prompt="a red circle", guidance_scale=9.0)
    assert pixels(away.images) != pixels(drawn.images)


def test_prompts_of_a_list_are_drawn_as_each_is_alone(model: DALLE) -> None:
    prompts = ["a ring", "", "a red circle", "a ring"]
    options = GenerateOptions(candidates=5, keep=2, seed=3, temperature=2.0, negative_prompt="a square", batch_size=4)
    together = model.generate(prompts, **options)
    assert [drawn.prompt for drawn in together] == prompts
    for drawn in together:
        alone = model.generate(drawn.prompt, **options)
        assert pixels(drawn.images) == pixels(alone.images)
        assert (drawn.records, drawn.scores) == (alone.records, alone.scores)
    assert model.generate(("a ring",), **options)[0].records == together[0].records
    with pytest.raises(ConfigError):
        model.generate([])


def test_candidates_of_several_prompts_share_batches(model: DALLE, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    draw = sample_image_tokens

    def watched(decoder: KVDecoder, text_tokens: Tensor, *rest: Any, **options: Any) -> Tensor:
        batches.append(len(text_tokens))
        return draw(decoder, text_tokens, *rest, **options)

    monkeypatch.setattr(generation, "sample_image_tokens", watched)
    model.generate(["a ring", "a square", "a star"], candidates=4, keep=1, batch_size=6)
    assert batches == [6, 6]


def test_a_check_refuses_what_cannot_be_drawn_and_draws_nothing(model: DALLE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "sample_image_tokens", lambda *_, **__: pytest.fail("nothing is drawn"))
    model.check("a ring", candidates=4096, keep=4096, seed=0, negative_prompt="a square")
    with pytest.raises(RankingError):
        model.check("a ring", candidates=2, keep=4)
    with pytest.raises(ConfigError, match="temperature 0"):
        model.check("a ring", temperature=0.0)
    with pytest.raises(ConfigError, match="seed"):
        model.check("a ring", seed=2**63 - 1)
    with pytest.raises(ConfigError, match="without guidance"):
        model.check("a ring", negative_prompt="a square", guidance_scale=1.0)


def test_a_prompt_that_is_too_long_is_cut_with_a_warning_that_says_where(model: DALLE) -> None:
    with pytest.warns(UserWarning, match="cut after"):
        model.generate("a red circle on the left of a green ground " * 5, candidates=1, keep=1)


def test_a_png_remembers_how_it_was_drawn(model: DALLE, tmp_path: Path) -> None:
    options = {"guidance_schedule": "linear", "decoder": "jacobi", "temperature": 0.8, "jacobi_window": 4}
    drawn = model.generate("a ring / ☕", candidates=2, keep=1, seed=5, negative_prompt="a square", **options)  # type: ignore[call-overload]
    (path,) = drawn.save(tmp_path / "out")
    assert path.name == f"a-ring-hot-beverage-{drawn.seeds[0]}.png"
    with Image.open(path) as image:
        record = read_record(image)
        assert image.info["Description"] == "a ring / ☕"
    assert record == drawn.records[0]
    assert record.sampling == dataclasses.replace(model.sampling, **options)  # type: ignore[arg-type]
    assert (record.prompt, record.negative_prompt, record.seed) == ("a ring / ☕", "a square", drawn.seeds[0])
    assert (record.model, record.model_sha256, record.torch) == (model.name, model.digest(), torch.__version__)
    assert record.device == "cpu"


def test_a_record_says_what_stayed_of_an_image(model: DALLE) -> None:
    image, _ = draw_shape(3, 16)
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (4, 4, 12, 16))
    drawn = model.generate("a ring", candidates=1, seed=5, image=image, mask=mask)
    of_image = drawn.records[0].image
    assert of_image is not None
    tokens = model.image_tokenizer.encode(_tensor(image))[0].flatten().tolist()
    runs = [(0, 5), (7, 9), (11, 13), (15, 16)]
    assert of_image.kept_tokens == tuple((start, tuple(tokens[start:end])) for start, end in runs)
    assert of_image.sha256 == hashlib.sha256(image.tobytes()).hexdigest()
    by_rows = model.generate("a ring", candidates=1, seed=5, image=image, keep_rows=1).records[0].image
    assert by_rows is not None
    assert (by_rows.keep_rows, by_rows.kept_tokens) == (1, ((0, tuple(tokens[:4])),))


def test_another_picture_of_the_same_name_is_kept(model: DALLE, tmp_path: Path) -> None:
    one, other = (model.generate("a ring", candidates=1, seed=5, temperature=t) for t in (0.1, 5.0))
    names = [drawn.save(tmp_path)[0].name for drawn in (one, other, one, other)]
    assert names == ["a-ring-5.png", "a-ring-5-2.png"] * 2


def test_several_captions_are_drawn_at_once_as_each_is_alone(model: DALLE) -> None:
    captions, seeds = ["a ring", "a red circle", "a ring"], [3, 4, 2**63 - 1]
    together = model.draw(captions, seeds, Sampling(temperature=2.0), batch_size=2)
    assert together.shape == (3, 3, 16, 16)
    for picture, caption, seed in zip(together, captions, seeds, strict=True):
        assert torch.equal(picture, model.draw([caption], [seed], Sampling(temperature=2.0))[0])
    for wrong in ([3, 4], [3, 4, -1], [3, 4, 2**63]):
        with pytest.raises(ConfigError, match="one seed in"):
            model.draw(captions, wrong)


def test_the_last_seed_is_one_that_can_be_drawn(model: DALLE) -> None:
    assert model.generate("a ring", candidates=1, seed=2**63 - 1).seeds == [2**63 - 1]
    assert model.generate("a ring", candidates=2, keep=1, seed=2**63 - 2).seeds[0] >= 2**63 - 2


def test_the_digest_is_of_what_pictures_depend_on(model: DALLE, tiny_model: Path, tmp_path: Path) -> None:
    other = DALLE.from_pretrained(tiny_model)
    other.ranker, other.name, other.sampling = None, "other", Sampling(temperature=0.5)
    digest = other.digest()
    assert digest == model.digest()
    with torch.no_grad():
        other.transformer.image_head.weight[0, 0] += 1
    assert other.digest() != digest
    with torch.no_grad():
        other.transformer.image_head.weight[0, 0] -= 1
        next(other.image_tokenizer.parameters()).view(-1)[0].mul_(2)  # type: ignore[attr-defined]
    assert other.digest() != digest


def _loaded(transformer: Transformer, other: Transformer) -> None:
    transformer.load_state_dict(other.state_dict())


def _trained(transformer: Transformer, other: Transformer) -> None:
    optimizer = torch.optim.SGD(transformer.parameters(), lr=1.0)
    for own, target in zip(transformer.parameters(), other.parameters(), strict=True):
        own.grad = own.detach() - target
    optimizer.step()


def _replaced(transformer: Transformer, other: Transformer) -> None:
    for name, module in transformer.named_modules():
        for key in list(module._parameters):
            setattr(module, key, other.get_submodule(name)._parameters[key])


def _moved(transformer: Transformer, other: Transformer) -> None:
    transformer.double()
    _loaded(transformer, other)
    transformer.float()


@pytest.mark.parametrize("change", [_loaded, _trained, _replaced, _moved])
def test_a_model_whose_weights_change_draws_with_the_new_ones(
    tiny_model: Path, change: Callable[[Transformer, Transformer], None]
) -> None:
    model, fresh = DALLE.from_pretrained(tiny_model), DALLE.from_pretrained(tiny_model)
    before = model.draw(["a ring"] * 2, [1, 2])
    with torch.no_grad():
        fresh.transformer.image_head.weight.mul_(-1)
    change(model.transformer, fresh.transformer)
    now = model.draw(["a ring"] * 2, [1, 2])
    assert not torch.equal(now, before)
    assert torch.equal(now, fresh.draw(["a ring"] * 2, [1, 2]))


def test_weights_are_packed_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = DALLE.from_pretrained(tiny_model)
    made: list[str] = []
    make = KVDecoder.__init__

    def watched(self: KVDecoder, transformer: Transformer, weights: Weights = "float32", **options: bool) -> None:
        made.append(weights)
        make(self, transformer, weights, **options)

    monkeypatch.setattr(KVDecoder, "__init__", watched)
    for _ in range(2):
        model.to("cpu").digest()
        model.draw(["a ring"], [5])
        model.draw(["a square"], [6])
    assert made == ["float32"]


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

    def __init__(self, power: float) -> None:
        self.power, self.device = power, "cpu"

    def score(self, images: Tensor, prompt: str) -> Tensor:
        return images.mean(dim=(1, 2, 3)) ** self.power

    def to(self, device: str | torch.device) -> None:
        self.device = str(device)

    def save_pretrained(self, save_directory: Path) -> None:
        save_directory.mkdir()
        (save_directory / "config.json").write_text(json.dumps({"power": self.power}))

    @classmethod
    def from_pretrained(cls, name: Path) -> "Brightness":
        return cls(json.loads((name / "config.json").read_text())["power"])


def with_parts(model: DALLE, **parts: Any) -> DALLE:
    own = {name: getattr(model, name) for name in ("text_tokenizer", "image_tokenizer", "transformer", "ranker")}
    return DALLE(**(own | parts))


def test_a_part_of_somebody_else_is_used_moved_saved_and_loaded(
    model: DALLE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parts._CLASSES, "ranker", dict(parts._CLASSES["ranker"]))
    by_hand = with_parts(model, ranker=Brightness(0.5))
    drawn = by_hand.generate("a ring", candidates=5, keep=2, seed=1)
    brightness = [sum(image.tobytes()) for image in drawn.images]
    assert brightness == sorted(brightness, reverse=True)
    assert isinstance(by_hand.ranker, Brightness)
    by_hand.ranker.device = ""
    assert by_hand.to("cpu").ranker.device == "cpu"  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="ranker part, a Brightness, cannot be saved; expected a class"):
        by_hand.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    trencadis.register("ranker")(Brightness)
    by_hand.save_pretrained(tmp_path / "out")
    loaded = DALLE.from_pretrained(tmp_path / "out").ranker
    assert isinstance(loaded, Brightness)
    assert loaded.power == 0.5
    monkeypatch.setitem(parts._CLASSES, "ranker", {})
    with pytest.raises(ModelError, match="a part of the kind Brightness; expected one of the registered kinds"):
        DALLE.from_pretrained(tmp_path / "out")


def test_a_kind_has_one_class() -> None:
    with pytest.raises(ConfigError, match="a second ranker kind 'CLIP'"):
        trencadis.register("ranker", kind="CLIP")(Brightness)


def test_a_part_that_cannot_be_saved_leaves_nothing(model: DALLE, tmp_path: Path) -> None:
    by_hand = with_parts(model, text_tokenizer=Letters(), ranker=None)
    assert by_hand.generate("anything", candidates=1, seed=1).records[0].model_sha256 is None
    with pytest.raises(ModelError, match="expected a save_pretrained method"):
        by_hand.save_pretrained(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_ranker_keeps_a_text_tokenizer_of_its_own(model: DALLE, tmp_path: Path) -> None:
    own = CaptionTokenizer.train(["a ring", "a ring"], vocab_size=258)
    assert isinstance(model.ranker, CLIPRanker)
    with_parts(model, ranker=CLIPRanker(model.ranker.clip, own)).save_pretrained(tmp_path / "out")
    loaded = DALLE.from_pretrained(tmp_path / "out")
    assert isinstance(loaded.ranker, CLIPRanker)
    assert (loaded.ranker.text_tokenizer.vocab_size, loaded.text_tokenizer.vocab_size) == (
        own.vocab_size,
        model.text_tokenizer.vocab_size,
    )


def test_without_a_ranker_nothing_is_ranked(model: DALLE) -> None:
    plain = DALLE(
        text_tokenizer=model.text_tokenizer, image_tokenizer=model.image_tokenizer, transformer=model.transformer
    )
    drawn = plain.generate("a ring", candidates=3, seed=4)
    assert (drawn.scores, drawn.seeds) == (None, [4, 5, 6])
    with pytest.raises(RankingError, match="expected a ranking, such as likelihood"):
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
    read_caption = KVDecoder.read_caption

    def watched(self: KVDecoder, text_tokens: Tensor, cache: KVCache, caption: int) -> Tensor:
        seen.append(text_tokens)
        return read_caption(self, text_tokens, cache, caption)

    monkeypatch.setattr(KVDecoder, "read_caption", watched)
    model.generate("a ring", candidates=2, keep=1, seed=1, guidance_scale=4.0)
    conditional, unconditional = seen  # each once for both candidates
    stream = model.transformer.stream
    assert not stream.is_padding(conditional[None])[:, 0].any()
    assert stream.is_padding(unconditional[None]).all()


def test_a_model_moves_as_a_whole(tiny_model: Path) -> None:
    moved = DALLE.from_pretrained(tiny_model).to("meta")
    assert moved.transformer.image_head.weight.is_meta
    assert isinstance(moved.image_tokenizer, torch.nn.Module)
    assert isinstance(moved.ranker, CLIPRanker)
    assert all(p.is_meta for module in (moved.image_tokenizer, moved.ranker.clip) for p in module.parameters())
