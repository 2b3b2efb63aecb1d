"""The judge: it reads real and damaged pictures, and calls nothing right that is not."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mosaic.claims import CLAIMS, all_cases
from mosaic.draw import draw
from mosaic.evaluate import decibels
from mosaic.judge import read
from mosaic.measures import judge_itself
from mosaic.scene import (
    COLOURS,
    DECADES,
    RELATIONS,
    SHAPES,
    TEXTURES,
    Beside,
    Group,
    Reading,
    Scene,
    Seen,
    Thing,
    Twice,
    Word,
)  # fmt: skip
from mosaic.scenes import scene
from mosaic.verdict import is_right, verdict
from PIL import Image, ImageFilter

SCENES = [scene(7, index) for index in range(80)]
PICTURES = [draw(each) for each in SCENES]
STAR, HEART = Thing("star", "red", "big", "plain"), Thing("heart", "blue", "small", "plain")


def blurred(picture: Image.Image) -> Image.Image:
    """About 27.5 dB: as soft as a tokenizer's pictures."""
    return picture.filter(ImageFilter.GaussianBlur(0.8))


def squeezed(picture: Image.Image) -> Image.Image:
    """About 28.5 dB: ringing and wrong tones in blocks of a token's size."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=30, subsampling=0)
    return Image.open(buffer).convert("RGB")


def mottled(picture: Image.Image) -> Image.Image:
    """About 25.5 dB: soft, with errors of colour as wide as a part of a token."""
    noise = np.random.default_rng(3).normal(0, 10, (16, 16, 3)).astype(np.float32)
    wide = [Image.fromarray(noise[..., part]).resize((64, 64), Image.Resampling.BICUBIC) for part in range(3)]
    pixels = np.asarray(blurred(picture), np.float32) + np.stack([np.asarray(part) for part in wide], -1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_real_pictures_are_read_without_a_fault() -> None:
    share, confused = judge_itself(SCENES, PICTURES, read)
    assert share is not None
    assert share.value == 1
    assert all(was == now for _, was, now in confused)
    assert {name for name, _, _ in confused} == {
        "decade", "count", "shape", "colour", "size", "texture", "place", "letter"
    }  # fmt: skip


@pytest.mark.parametrize(("damage", "most"), [(blurred, 28.5), (squeezed, 30), (mottled, 27)])
def test_pictures_as_bad_as_those_of_a_tokenizer_are_read(
    damage: Callable[[Image.Image], Image.Image], most: float
) -> None:
    pictures = [damage(picture) for picture in PICTURES]
    assert decibels(pictures, PICTURES) < most
    share, _ = judge_itself(SCENES, pictures, read)
    assert share is not None
    assert share.value >= 0.98


def test_size_of_the_picture_does_not_matter() -> None:
    for picture, one in list(zip(PICTURES, SCENES, strict=True))[:12]:
        assert is_right(one, read(picture.resize((256, 256), Image.Resampling.BICUBIC)))


def others(values: tuple[str, ...], own: str | None) -> list[str]:
    return [value for value in values if value != own]


@pytest.mark.parametrize("name", ["shape", "colour", "texture", "size"])
def test_a_picture_of_another_thing_is_wrong_in_that_alone(name: str) -> None:
    values = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES, "size": ("small", "big")}[name]
    asked = Scene(Group(STAR, 1, (0,)))
    for value in others(values, getattr(STAR, name)):
        drawn = Scene(Group(replace(STAR, **{name: value}), 1, (0,)), "2010s")
        assert [part for part, has in verdict(asked, read(draw(drawn))).items() if not has] == [name]


def test_another_count_place_or_decade_is_wrong_in_that_alone() -> None:
    asked = Scene(Group(HEART, 2, (0, 4)), "1980s")
    wrong = {"count": Scene(Group(HEART, 3, (0, 4, 5)), "1980s"), "decade": replace(asked, decade="1970s")}
    for name, drawn in wrong.items():
        assert [part for part, has in verdict(asked, read(draw(drawn))).items() if not has] == [name]
    for cell in range(1, 9):
        found = verdict(Scene(Group(STAR, 1, (0,))), read(draw(Scene(Group(STAR, 1, (cell,)), "1920s"))))
        assert [part for part, has in found.items() if not has] == ["place"]


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_is_told_from_all_others(relation: str) -> None:
    outer = Thing("circle", "orange", "big", "plain")
    asked = Scene(Beside(HEART, outer, relation))
    for drawn in RELATIONS:
        found = verdict(asked, read(draw(Scene(Beside(HEART, outer, drawn, 4), "1950s"))))
        assert found["relation"] == (drawn == relation)
        assert found["binding"]


def test_swapped_colours_are_wrong_in_their_binding_alone() -> None:
    swapped = Beside(replace(STAR, colour="blue"), replace(HEART, colour="red"), "left of", 1)
    found = verdict(Scene(Beside(STAR, HEART)), read(draw(Scene(swapped, "1920s"))))
    assert [part for part, has in found.items() if not has] == ["binding"]


def test_every_letter_is_told_from_all_others() -> None:
    for letters in ("ACEF", "HILO", "PSTU", "UOA", "HAE"):
        for decade in DECADES:
            assert read(blurred(draw(Scene(Word(letters, "green"), decade)))).words == (Word(letters, "green"),)
    assert not is_right(Scene(Word("CAT")), read(draw(Scene(Word("CAF", "red"), "1950s"))))
    assert not is_right(Scene(Word("CAT")), read(draw(Scene(Word("CATS", "red"), "1950s"))))


def test_the_lower_of_two_must_be_the_upper_one_but_for_the_change() -> None:
    unnamed = Scene(Twice(Thing(), "colour", "blue"))
    assert is_right(unnamed, read(draw(Scene(Twice(STAR, "colour", "blue"), "1970s"))))
    unchanged = verdict(unnamed, read(draw(Scene(Twice(STAR, "texture", "striped"), "1970s"))))
    assert not unchanged["change"]
    another = Beside(STAR, replace(HEART, size="big"), "above", 4)
    found = verdict(unnamed, read(draw(Scene(another, "1970s"))))
    assert found == {"count": True, "thing": True, "change": True, "kept": False}


def test_an_empty_picture_and_noise_are_right_for_no_caption() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for picture in (Image.new("RGB", (64, 64), "white"), Image.new("L", (9, 31)), noise):
        seen = read(picture)
        assert not any(is_right(case.asked, seen) for case in all_cases(2))


def test_a_picture_of_one_claim_is_right_for_no_other_caption_of_it() -> None:
    for claim in CLAIMS:
        own = all_cases(3, [claim])
        for case in own:
            seen = read(draw(case.scene))
            assert is_right(case.asked, seen)
            for other in own:
                if other.asked != case.asked and not claim.startswith("change"):
                    assert not is_right(other.asked, seen), (case, other)


def test_words_and_things_do_not_pass_for_one_another() -> None:
    box = (8.0, 8.0, 24.0, 24.0)
    both = Reading((Seen(STAR, box),), (Word("CAT", "red"),), "1920s")
    assert not is_right(Scene(Group(STAR, 1)), both)
    assert not is_right(Scene(Word("CAT")), both)
