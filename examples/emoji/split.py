"""Which pictures are held out, so that composition can be measured on unseen combinations.

There are four kinds, tried in this order:

- `concept`: a whole concept, in every style, gender and tone.
- `colour_cell`: one colour of one concept (a purple car) in every style; its other colours are for training.
- `style_cell`: one concept in one family of styles; its other families are for training. Fluent's flat and 3D drawings
  are mostly the same drawing, so they are one family. Families whose drawings of a concept look alike (flags, arrows)
  count as one for that concept.
- `role_cell`: one gender and skin tone of a role (a woman astronaut with dark skin), in every style.

Four styles came later than the others (`LATER_STYLES`). What is held out of the first ones does not depend on them, so
that models and figures from before stay comparable. In a later style the same concepts, colours and roles are held out,
some style cells of its own, and every drawing that looks like a held-out one.

The choice is a hash of the cell's name, so it is the same in every build. Concepts or genders that share a drawing (a
person and a person with blond hair) are held out together or not at all.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
from catalog import FLAGS, Emoji
from numpy.typing import NDArray
from PIL import Image

Key = TypeVar("Key", bound=Hashable)

Split = Literal["train", "concept", "colour_cell", "style_cell", "role_cell"]

LATER_STYLES: Final = ("emojione", "fxemoji", "noto-v1", "streamline")
FAMILIES: Final = {"3d": "fluent", "flat": "fluent", "noto": "noto", "twemoji": "twemoji"} | dict(
    zip(LATER_STYLES, LATER_STYLES, strict=True)
)

CONCEPT_SHARE, COLOUR_SHARE, STYLE_SHARE, ROLE_SHARE = 0.03, 0.08, 0.03, 0.06

_SALT = "trencadis emoji 1"

# Mean squared differences of thumbnails in [0, 1]: re-encodings of one drawing, and drawings that look alike.
_SAME, _ALIKE = 5e-4, 1e-2

_THUMBNAIL = 24


@dataclass(frozen=True)
class Drawn:
    """A picture of an emoji, with a thumbnail to compare it with all others.

    Attributes:
        thumbnail: Its pixels at 24x24, flattened, in [0, 255].
    """

    emoji: Emoji
    style: str
    thumbnail: NDArray[np.uint8]


def thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    """Shrink a picture for comparison."""
    return np.asarray(picture.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX), dtype=np.uint8).reshape(-1)


class Groups:
    """Sets of names that must stay together (union-find); a set is named by its smallest member."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def join(self, one: str, other: str) -> None:
        """Merge the sets of two names."""
        low, high = sorted((self.name(one), self.name(other)))
        if low != high:
            self._above[high] = low

    def name(self, one: str) -> str:
        """The name of the set that a name is in."""
        while one in self._above:
            one = self._above[one]
        return one


def is_held(kind: str, cell: str, share: float) -> bool:
    """Whether a cell is among the held-out `share` of its kind."""
    return _rank(kind, cell) < share


def _rank(kind: str, cell: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{_SALT}|{kind}|{cell}".encode()).digest()[:8]) / 2**64


@dataclass(frozen=True)
class Cells:
    """The groups of a split, and which of them are held out.

    Attributes:
        concepts: Concepts that share a drawing.
        held_concepts: Concept groups that are held out.
        held_styles: (family, concept group) that are held out.
        held_roles: (style, key) of pictures in held-out role cells.
        later: Why a picture of a later style is held out, by (style, key).
    """

    concepts: Groups
    held_concepts: frozenset[str]
    held_styles: frozenset[tuple[str, str]]
    held_roles: frozenset[tuple[str, str]]
    later: Mapping[tuple[str, str], Split] = field(default_factory=dict)

    def split_of(self, emoji: Emoji, style: str) -> Split:
        """Return `train`, or why the picture is held out."""
        if (style, emoji.key) in self.later:
            return self.later[style, emoji.key]
        group = self.concepts.name(emoji.concept)
        if group in self.held_concepts:
            return "concept"
        if emoji.colour and self.holds_colour(emoji.colour, emoji.concept):
            return "colour_cell"
        if (FAMILIES[style], group) in self.held_styles:
            return "style_cell"
        return "role_cell" if (style, emoji.key) in self.held_roles else "train"

    def holds_colour(self, colour: str, concept: str) -> bool:
        """Whether one colour of a concept is held out."""
        return is_held("colour", f"{colour}|{self.concepts.name(concept)}", COLOUR_SHARE)


def find_cells(drawn: Sequence[Drawn]) -> Cells:
    """Group the pictures and choose what is held out."""
    first = [one for one in drawn if one.style not in LATER_STYLES]
    concepts = Groups()
    for one, other in _same_drawings(first):
        concepts.join(one.emoji.concept, other.emoji.concept)
    held = frozenset(_held_concepts(first, concepts))
    cells = Cells(concepts, held, frozenset(_held_styles(first, concepts)), frozenset(_held_roles(first)))
    return replace(cells, later=_split_later(first, [one for one in drawn if one.style in LATER_STYLES], cells))


def _split_later(first: Sequence[Drawn], later: Sequence[Drawn], cells: Cells) -> dict[tuple[str, str], Split]:
    """Return the split of each picture of the later styles, by style and key."""
    splits = {(one.style, one.emoji.key): cells.split_of(one.emoji, one.style) for one in first}
    by_key = _by([*first, *later], lambda one: one.emoji.key)
    held_roles = {key for _, key in cells.held_roles}
    for one in later:
        reason = "role_cell" if one.emoji.key in held_roles else cells.split_of(one.emoji, one.style)
        alike = (splits[other.style, other.emoji.key] for other in _alike(one, by_key, LATER_STYLES))
        splits[one.style, one.emoji.key] = (
            reason if reason != "train" else next((s for s in alike if s != "train"), reason)
        )
    seen = {cells.concepts.name(one.emoji.concept) for one in first if splits[one.style, one.emoji.key] == "train"}
    for (style, group), members in _by(later, lambda one: (one.style, cells.concepts.name(one.emoji.concept))).items():
        is_new = not any(True for one in members for _ in _alike(one, by_key, (style,)))
        if group in seen and is_new and is_held("style", f"{style}|{group}", STYLE_SHARE):
            splits |= {
                (style, one.emoji.key): "style_cell" for one in members if splits[style, one.emoji.key] == "train"
            }
    for same in _by(later, lambda one: one.style).values():
        _hold_the_same(same, splits)
    return {(one.style, one.emoji.key): splits[one.style, one.emoji.key] for one in later}


def _alike(one: Drawn, by_key: Mapping[str, Sequence[Drawn]], but_of: Sequence[str]) -> Iterator[Drawn]:
    """Yield the pictures of the same emoji that look alike, but those of some styles."""
    others = (other for other in by_key[one.emoji.key] if other.style not in (*but_of, one.style))
    yield from (other for other in others if _difference(one, other) < _ALIKE)


def _hold_the_same(drawn: Sequence[Drawn], splits: dict[tuple[str, str], Split]) -> None:
    """Hold out what is drawn in one style just as something that is held out there."""
    pixels = np.stack([one.thumbnail for one in drawn]).astype(np.float32) / 255
    held = [at for at, one in enumerate(drawn) if splits[one.style, one.emoji.key] != "train"]
    for at in held:
        reason = splits[drawn[at].style, drawn[at].emoji.key]
        for near in np.flatnonzero(((pixels - pixels[at]) ** 2).mean(1) < _SAME):
            place = drawn[int(near)].style, drawn[int(near)].emoji.key
            splits[place] = reason if splits[place] == "train" else splits[place]


def _held_concepts(drawn: Iterable[Drawn], concepts: Groups) -> Iterator[str]:
    """Groups to hold out. Never what people try first, nor flags: nobody can draw one from its country's name."""
    everyday = set(Path(__file__).with_name("everyday.txt").read_text(encoding="utf-8").splitlines())
    for group, members in _by(drawn, lambda one: concepts.name(one.emoji.concept)).items():
        is_kept = any(one.emoji.group == FLAGS or one.emoji.label in everyday for one in members)
        if not is_kept and is_held("concept", group, CONCEPT_SHARE):
            yield group


def _same_drawings(drawn: Iterable[Drawn]) -> Iterator[tuple[Drawn, Drawn]]:
    """Pairs of one style whose thumbnails are equal, and pairs without tones that differ only by their encoding."""
    for group in _by(drawn, lambda one: (one.style, one.thumbnail.tobytes())).values():
        yield from ((group[0], other) for other in group[1:])
    plain = [one for one in drawn if not one.emoji.tones]
    for group in _by(plain, lambda one: one.style).values():
        pixels = np.stack([one.thumbnail for one in group]).astype(np.float32) / 255
        norms = (pixels**2).sum(1)
        for at, row in enumerate(pixels):
            distance = (norms[at] + norms[at + 1 :] - 2 * pixels[at + 1 :] @ row) / len(row)
            yield from ((group[at], group[at + 1 + near]) for near in np.flatnonzero(distance < _SAME))


def _held_styles(drawn: Sequence[Drawn], concepts: Groups) -> Iterator[tuple[str, str]]:
    for group, members in sorted(_by(drawn, lambda one: concepts.name(one.emoji.concept)).items()):
        families = Groups()
        for one, other in _drawn_twice(members):
            if _difference(one, other) < _ALIKE:
                families.join(FAMILIES[one.style], FAMILIES[other.style])
        clusters = sorted({families.name(FAMILIES[one.style]) for one in members})
        # One cluster always stays in training; otherwise this would be a held-out concept.
        for cluster in sorted(clusters, key=lambda name: _rank("style", f"{name}|{group}"))[: len(clusters) - 1]:
            if is_held("style", f"{cluster}|{group}", STYLE_SHARE):
                yield from ((name, group) for name in sorted(set(FAMILIES.values())) if families.name(name) == cluster)


def _drawn_twice(members: Iterable[Drawn]) -> Iterator[tuple[Drawn, Drawn]]:
    """Pairs of pictures of one emoji in two families."""
    for same in _by(members, lambda one: one.emoji.key).values():
        yield from (pair for pair in combinations(same, 2) if FAMILIES[pair[0].style] != FAMILIES[pair[1].style])


def _held_roles(drawn: Iterable[Drawn]) -> Iterator[tuple[str, str]]:
    toned = [one for one in drawn if len(one.emoji.tones) == 1]
    for members in _by(toned, lambda one: one.emoji.concept).values():
        if not {"man", "woman"} <= {one.emoji.gender for one in members}:
            continue
        cells = Groups()
        for same in _by(members, lambda one: (one.style, one.emoji.tones)).values():
            for one, other in combinations(same, 2):
                if _difference(one, other) < _SAME:
                    cells.join(_role_cell(one.emoji), _role_cell(other.emoji))
        for one in members:
            if is_held("role", cells.name(_role_cell(one.emoji)), ROLE_SHARE):
                yield one.style, one.emoji.key


def _role_cell(emoji: Emoji) -> str:
    return f"{emoji.concept}|{emoji.gender or 'person'}|{emoji.tones[0]}"


def _difference(one: Drawn, other: Drawn) -> float:
    apart = one.thumbnail.astype(np.float32) - other.thumbnail.astype(np.float32)
    return float((apart**2).mean()) / 255**2


def _by(items: Iterable[Drawn], key: Callable[[Drawn], Key]) -> dict[Key, list[Drawn]]:
    groups: dict[Key, list[Drawn]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
