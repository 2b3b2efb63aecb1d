"""Sentences, keys and colours of emoji."""

import json

import captions
import numpy as np
import packages
import pytest
import shapes
from articles import with_article
from catalog import make_emoji, read_catalog
from PIL import Image


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("red heart", "a red heart"),
        ("orange heart", "an orange heart"),
        ("hourglass", "an hourglass"),
        ("unicorn", "a unicorn"),
        ("upside-down face", "an upside-down face"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
        ("8 ball", "an 8 ball"),
        ("ewe", "a ewe"),
        ("grapes", "grapes"),
        ("octopus", "an octopus"),
        ("wine glass", "a wine glass"),
        ("smiling face with hearts", "a smiling face with hearts"),
        ("the Moon", "the Moon"),
        ("cooked rice", "cooked rice"),
    ],
)
def test_articles(phrase: str, expected: str) -> None:
    assert with_article(phrase) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("red heart", "a red heart"),
        ("woman astronaut: dark skin tone", "a woman astronaut with dark skin"),
        ("man: medium-light skin tone, red hair", "a man with medium-light skin and red hair"),
        ("woman: dark skin tone, bald", "a bald woman with dark skin"),
        ("man: beard", "a man with a beard"),
        ("person with white cane: light skin tone", "a person with light skin and a white cane"),
        ("woman running: dark skin tone, facing right", "a woman with dark skin running facing right"),
        ("man taking bath: dark skin tone", "a man with dark skin taking a bath"),
        ("kiss: woman, man, light skin tone, dark skin tone", "a woman with light skin kissing a man with dark skin"),
        ("kiss: man, man", "two men kissing"),
        (
            "men holding hands: light skin tone, dark skin tone",
            "two men holding hands, one with light skin and one with dark skin",
        ),
        ("family: man, woman, girl, girl", "a family of a man, a woman and two girls"),
        ("flag: Japan", "the flag of Japan"),
        ("flag: United States", "the flag of the United States"),
        ("flag: Congo - Kinshasa", "the flag of the Democratic Republic of the Congo"),
        ("keycap: 5", "a key with the number 5"),
        ("two o’clock", "a clock at two o'clock"),
        ("two-thirty", "a clock at half past two"),
        ("automobile", "a car"),
    ],
)
def test_the_first_subject_is_the_sentence_of_its_label(label: str, expected: str) -> None:
    assert captions.subjects(label)[0] == expected


def test_subjects_vary() -> None:
    assert "a female astronaut with dark skin" in captions.subjects("woman astronaut: dark skin tone")
    assert "a dark-skinned woman astronaut" in captions.subjects("woman astronaut: dark skin tone")
    assert "the Canary Islands' flag" in captions.subjects("flag: Canary Islands")


@pytest.mark.parametrize("style", captions.STYLE_NAMES)
@pytest.mark.parametrize("label", ["red heart", "flag: Japan", "woman astronaut: dark skin tone", "T-Rex"])
def test_most_captions_name_the_style_and_one_does_not(label: str, style: str) -> None:
    written = captions.captions(label, ["love", "emotion"], style)
    assert written == captions.captions(label, ["love", "emotion"], style)
    assert len(set(written)) == len(written) >= 4
    assert sum(captions.STYLE_NAMES[style] in caption for caption in written) == len(written) - 1
    assert any("love" in caption for caption in written)


def test_keywords_that_repeat_the_label_are_left_out() -> None:
    assert captions.related_words("red heart", ["red", "heart", "love", "<3", "x"]) == ["love"]


def test_every_phrase_is_well_formed() -> None:
    for label, (_, phrases) in captions.phrase_table().items():
        assert phrases, label
        assert all(phrase and phrase == phrase.strip() for phrase in phrases), label


def test_gender_tone_and_direction_are_no_part_of_a_concept() -> None:
    running = [
        make_emoji("1F3C3", "person running"),
        make_emoji("1F3C3-1F3FF-200D-2640-FE0F", "woman running: dark skin tone"),
        make_emoji("1F3C3-200D-2642-FE0F-200D-27A1-FE0F", "man running: facing right"),
    ]
    assert {emoji.concept for emoji in running} == {"1f3c3"}
    assert [emoji.gender for emoji in running] == ["", "woman", "man"]
    assert [emoji.tones for emoji in running] == [(), ("dark",), ()]
    pair = make_emoji(
        "1F469-1F3FB-200D-2764-FE0F-200D-1F468-1F3FF", "couple with heart: woman, man, light skin tone, dark skin tone"
    )
    assert (pair.tones, pair.gender, pair.concept) == (
        ("light", "dark"),
        "",
        make_emoji("1F491", "couple with heart").concept,
    )
    assert (make_emoji("1F49A", "green heart").concept, make_emoji("1F49A", "green heart").colour) == ("heart", "green")


def test_keys_agree_between_packages() -> None:
    assert packages.key_of("0023-FE0F-20E3") == packages.key_of("23-20e3") == "23-20e3"
    assert packages.key_of("1f3f4-e0067_e0062_e0065_e006e_e0067").endswith("-e0067-e007f")
    assert packages.is_state_flag("1f1ef-1f1f5")
    assert not packages.is_state_flag("1f3f4-200d-2620")


def test_the_catalogue_leaves_out_letters_and_swatches() -> None:
    entry = {"label": "rocket", "hexcode": "1F680", "group": 5, "tags": ["space"]}
    letter = {"label": "regional indicator A", "hexcode": "1F1E6"}
    swatch = {"label": "red hair", "hexcode": "1F9B0", "group": 2}
    assert [emoji.label for emoji in read_catalog(json.dumps([entry, letter, swatch]).encode())] == ["rocket"]


def test_recolouring_moves_one_colour_and_keeps_white() -> None:
    drawing = Image.new("RGBA", (32, 32), (220, 40, 40, 255))
    drawing.paste((255, 255, 255, 255), (0, 0, 32, 8))
    own = shapes.one_colour(drawing)
    assert own is not None
    assert own.name == "red"
    blue = np.asarray(shapes.recolour(drawing, own, "blue"), dtype=int)
    assert abs(blue[20, 20, :3] - shapes.PALETTE["blue"]).max() <= 12
    assert blue[2, 2].tolist() == [255, 255, 255, 255]


def test_colours_go_before_the_noun() -> None:
    assert shapes.with_colour("a car", "orange") == "an orange car"
    assert shapes.with_colour("an umbrella", "purple") == "a purple umbrella"
    assert shapes.with_colour("a pair of glasses", "red") == "a pair of red glasses"
    assert shapes.with_colour("two paw prints", "blue") == "two blue paw prints"
    assert shapes.colour_captions("automobile", "purple", "flat")[0] == "a purple car, flat style"
    assert not shapes.can_recolour(make_emoji("1F41B", "polar bear", group=3))
