"""How texts and numbers are spelled where they are shown, stored as JSON, or make the name of a file."""

import json
import re
import unicodedata
from typing import Any

MAX_STEM_BYTES = 60
_SURROGATES = "\ud800-\udfff"
# Control characters, line separators, and what changes the direction of the text behind it: a terminal obeys them.
_ORDERS = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_NOT_SHOWN = re.compile(f"[\x00-\x1f{_ORDERS}{_SURROGATES}]")
_NOT_IN_JSON = re.compile(f"[{_ORDERS}{_SURROGATES}]")
_BYTES = range(0xDC80, 0xDD00)  # what Python makes of bytes that are no UTF-8, in arguments and names of files
_INVISIBLE = range(0xFE00, 0xFE10)  # variation selectors


def printable(text: str) -> str:
    """Return text on one line that a terminal only shows; what it would obey is spelled with a backslash."""
    return _NOT_SHOWN.sub(lambda found: _spelled(found[0]), text)


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if code in _BYTES else repr(character)[1:-1]


def encodable(text: str) -> str:
    """Return text that UTF-8 can hold: a lone surrogate is spelled with a backslash."""
    return re.sub(f"[{_SURROGATES}]", lambda found: _spelled(found[0]), text)


def json_text(value: Any, *, encoding: str = "utf-8", indent: int | None = None) -> str:
    r"""Return JSON that the encoding can hold, and that a terminal only shows.

    Characters stay as they are where they can. The others become `\u…`, so that a reader of JSON gets back the exact
    text, lone surrogates included.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    escaped = _NOT_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        escaped.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
    return escaped


def number_text(value: float | int) -> str:
    """Return a number as people read it, such as 10,240 or 0.9512: four digits, or all those before the point."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if abs(value) < 999.95 and not value.is_integer() else f"{value:,.0f}"


def counted(count: int, thing: str) -> str:
    """Return how many there are of a thing, such as `1 pair` or `10,240 pairs`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def typed_number(value: float | int) -> str:
    """Return a number as it is typed, such as 10240 or 0.99999."""
    return str(value) if isinstance(value, int) else f"{value:.0f}" if value.is_integer() else f"{value:.12g}"


def file_stem(text: str, *, otherwise: str) -> str:
    """Return the name of a file, without its suffix, that the text can be read from.

    It has letters and digits of any script, joined by dashes, and emoji by their names in Unicode, in at most
    `MAX_STEM_BYTES` bytes of UTF-8. Different texts can have the same stem.

    Args:
        text: Any text.
        otherwise: The stem of a text without any of these.
    """
    lowered = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    words = "".join(_in_a_name(character) for character in lowered).split()
    # A mark belongs to the letter before it.
    whole = "-".join(word.lstrip("".join(filter(_is_mark, word))) for word in words)
    return whole.encode()[:MAX_STEM_BYTES].decode(errors="ignore").strip("-") or otherwise


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc")


def _in_a_name(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LN" or (_is_mark(character) and ord(character) not in _INVISIBLE):
        return character
    if category == "So":
        return f" {unicodedata.name(character, '').lower()} ".replace("-", " ")
    return "" if ord(character) in _INVISIBLE or category == "Cf" else " "
