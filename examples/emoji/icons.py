"""Icons that are named instead of numbered: which codepoints an icon's name means.

Iconify's packages name their icons after labels of Unicode's CLDR, of one version or another, or after shortcodes. A
name that means nothing here is left out: a picture with a wrong caption costs more than a missing one.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping

from packages import key_of

Names = dict[str, str]
"""The codepoints of each label and shortcode, which are spelled as `spelled` does."""

OLDER_LABELS = {
    "bride with veil": "person with veil",
    "cat face with tears of joy": "cat with tears of joy",
    "cat face with wry smile": "cat with wry smile",
    "smiling cat face with open mouth": "grinning cat",
    "grinning cat face with smiling eyes": "grinning cat with smiling eyes",
    "man with chinese cap": "person with skullcap",
    "man in tuxedo": "person in tuxedo",
    "crazy face": "zany face",
    "exclamation mark": "red exclamation mark",
    "question mark": "red question mark",
    "a button": "A button (blood type)",
    "b button": "B button (blood type)",
    "ab button": "AB button (blood type)",
    "o button": "O button (blood type)",
    "aubergine": "eggplant",
    "bouquet of flowers": "bouquet",
}
"""Labels of earlier versions of CLDR, and what they are called today; also with skin tones."""


def read_names(labels: Iterable[tuple[str, str]], shortcodes: Iterable[bytes]) -> Names:
    """Return the codepoints by every name of an emoji.

    Args:
        labels: CLDR's label and the codepoints of each emoji; a label wins over a shortcode.
        shortcodes: Files of emojibase: codepoints, and one shortcode or several. An earlier file wins over a later one.
    """
    names: Names = {}
    for label, key in labels:
        names.setdefault(spelled(label), key)
    for content in shortcodes:
        for code, given in json.loads(content).items():
            for shortcode in [given] if isinstance(given, str) else given:
                names.setdefault(spelled(shortcode), key_of(code))
    return names


def spelled(name: str) -> str:
    """Keep the letters a to z, the digits, # and *: "Piñata" and "pinata" are one name."""
    plain = unicodedata.normalize("NFKD", name.lower().replace("&", "and"))
    return re.sub(r"[^a-z0-9#*]", "", plain)


def keyed(icons: Mapping[str, bytes], names: Names) -> dict[str, bytes]:
    """Return the icons whose names mean something by their codepoints; of several the one that is named best.

    "bird-1" is "bird" where there is no plain one, "flag-for-japan" and "japan" are "flag: Japan".
    """
    found: dict[str, tuple[int, bytes]] = {}
    for name, icon in icons.items():
        for rank, spelling in enumerate(_spellings(name)):
            key = names.get(spelled(spelling))
            if key is not None:
                if key not in found or rank < found[key][0]:
                    found[key] = rank, icon
                break
    return {key: icon for key, (_, icon) in found.items()}


def _spellings(name: str) -> Iterable[str]:
    """Yield what an icon may be called, the likeliest first."""
    words = name.replace("-", " ")
    yield words
    yield re.sub(r"^flag for ", "flag ", words)
    for old, new in OLDER_LABELS.items():
        if words.startswith(old):
            yield words.replace(old, new, 1)
    yield re.sub(r" 1$", "", words)
    yield f"flag {words}"
