"""Labels, concepts, genders and skin tones of emoji."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from packages import key_of

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")

COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "light blue",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "grey",
    "white",
)

# CLDR has a codepoint for each colour of these nouns; here they are one concept with a colour.
_COLOURED = re.compile(
    rf"^(?:large |small )?({'|'.join(COLOURS)}) (?:(?:large|medium|medium-small|small) )?"
    "(heart|circle|square|diamond|apple|book)$"
)

_MAN, _WOMAN = {"1f468", "1f474", "1f466", "2642"}, {"1f469", "1f475", "1f467", "2640"}
_NEUTRAL = {"1f468": "1f9d1", "1f469": "1f9d1", "1f466": "1f9d2", "1f467": "1f9d2", "1f474": "1f9d3", "1f475": "1f9d3"}
_NOT_CONCEPT = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff", "200d", "2640", "2642", "27a1"}

# Concepts with a codepoint for each gender, pairs that have a short and a long spelling, and other names for things
# that CLDR colours.
_SAME_CONCEPT = {
    "1f934": "1fac5",
    "1f478": "1fac5",
    "1f385": "1f9d1-1f384",
    "1f936": "1f9d1-1f384",
    "1f57a": "1f483",
    "1f9d1-1fa70": "1f483",
    "1fac3": "1f930",
    "1fac4": "1f930",
    "1f46a": "1f9d1-1f9d1-1f9d2",
    "1f46b": "1f9d1-1f91d-1f9d1",
    "1f46c": "1f9d1-1f91d-1f9d1",
    "1f46d": "1f9d1-1f91d-1f9d1",
    "1f48f": "1f9d1-2764-1f48b-1f9d1",
    "1f491": "1f9d1-2764-1f9d1",
    "1f46f": "1f9d1-1f430-1f9d1",
    "1f93c": "1f9d1-1faef-1f9d1",
    "1faf1-1faf2": "1f91d",
    "2665": "heart",
    "2666": "diamond",
    "1f4d5": "book",
}
_GENDERED = {"1f934": "man", "1f478": "woman", "1f385": "man", "1f936": "woman", "1f57a": "man", "1f483": "woman"}

FLAGS = 9
_COMPONENTS = 2


@dataclass(frozen=True)
class Emoji:
    """One emoji, independent of its drawings.

    Attributes:
        key: Its codepoints, as `packages.key_of` spells them.
        label: CLDR's English short name.
        tags: CLDR's keywords.
        group: Its Unicode group: 0 smileys, 1 people, 3 animals, 4 food, 5 travel, 6 activities, 7 objects, 8 symbols,
            9 flags.
        tones: Its skin tones in order: none, one, or two for a pair that differs.
        concept: What it draws, whatever the gender, the tone or the direction; of coloured hearts and the like, the
            noun.
        colour: The colour of such a noun, or an empty string.
        gender: "man", "woman", or an empty string where neither or both are meant.
    """

    key: str
    label: str
    tags: tuple[str, ...] = ()
    group: int = 7
    tones: tuple[str, ...] = ()
    concept: str = ""
    colour: str = ""
    gender: str = ""

    @property
    def weight(self) -> float:
        """The share of epochs in which its picture appears.

        Variants are nearly half of the set. Together, the five tones of a drawing count about as much as the plain one,
        and so do the twenty pairs of tones.
        """
        share = {0: 1.0, 1: 0.25, 2: 0.1}[len(self.tones)]
        return share * (0.5 if self.group == FLAGS or "facing right" in self.label else 1.0)


def read_catalog(content: bytes) -> list[Emoji]:
    """Read emojibase's English data in Unicode order, without single letters and skin or hair components."""
    return list(_entries(json.loads(content)))


def _entries(data: list[dict[str, Any]]) -> Iterator[Emoji]:
    for entry in data:
        if entry.get("group") in (None, _COMPONENTS):
            continue
        tags, group = tuple(entry.get("tags", ())), int(entry["group"])
        for one in [entry, *entry.get("skins", [])]:
            yield make_emoji(one["hexcode"], one["label"], tags, group)


def make_emoji(code: str, label: str, tags: tuple[str, ...] = (), group: int = 7) -> Emoji:
    """Work out an emoji's concept, colour, gender and tones from its codepoints and its label."""
    key = key_of(code)
    coloured = _COLOURED.match(label)
    return Emoji(
        key=key,
        label=label,
        tags=tags,
        group=group,
        tones=tuple(re.findall(r"(?:^|[:,] )([a-z-]+) skin tone", label)),
        concept=coloured[2] if coloured else concept_of(key),
        colour=coloured[1] if coloured else "",
        gender=_gender_of(key),
    )


def concept_of(key: str) -> str:
    """The codepoints without gender, tone, joiners and direction."""
    parts = [_NEUTRAL.get(part, part) for part in key.split("-") if part not in _NOT_CONCEPT]
    bare = "-".join(parts) or key
    return _SAME_CONCEPT.get(bare, bare)


def _gender_of(key: str) -> str:
    parts = set(key.split("-"))
    first = next(iter(key.split("-")))
    if first in _GENDERED:
        return _GENDERED[first]
    man, woman = bool(parts & _MAN), bool(parts & _WOMAN)
    return "" if man == woman else "man" if man else "woman"
