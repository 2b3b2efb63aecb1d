"""Random scenes: each is a pure function of its seed and index."""

from collections.abc import Callable
from random import Random

from mosaic.scene import (
    CHANGES,
    COLOURS,
    DECADES,
    LETTERS,
    MOST,
    RELATIONS,
    SHAPES,
    TEXTURES,
    WORD_LENGTHS,
    Beside,
    Group,
    Layout,
    Scene,
    Thing,
    Twice,
    Word,
)  # fmt: skip
from trencadis.randomness import Key, derive_seed

OUTER = ("circle", "square")
"""Shapes that hold a small thing."""


def dice(*key: Key) -> Random:
    """Return random choices that depend on a key alone."""
    return Random(derive_seed("mosaic", *key))


def scene(seed: int, index: int) -> Scene:
    """Return a whole scene of any layout."""
    chance = dice(seed, index, "scene")
    make = chance.choices(list(LAYOUTS.values()), [0.22, 0.24, 0.26, 0.14, 0.14])[0]
    return Scene(make(chance), chance.choice(DECADES))


def single(chance: Random) -> Group:
    """Return one thing."""
    return Group(thing(chance), 1, (chance.randrange(9),))


def several(chance: Random) -> Group:
    """Return two to six equal things."""
    count = chance.randint(2, MOST)
    return Group(thing(chance, "small"), count, tuple(sorted(chance.sample(range(9), count))))


def beside(chance: Random) -> Beside:
    """Return two things of different shapes and colours."""
    relation = chance.choice(RELATIONS)
    first_colour, second_colour = chance.sample(COLOURS, 2)
    if relation == "inside":
        outer = chance.choice(OUTER)
        inner = chance.choice([shape for shape in SHAPES if shape != outer])
        first, second = Thing(inner, first_colour, "small", "plain"), Thing(outer, second_colour, "big", "plain")
    else:
        one, other = chance.sample(SHAPES, 2)
        first, second = thing(chance, shape=one, colour=first_colour), thing(chance, shape=other, colour=second_colour)
    return Beside(first, second, relation, chance.randrange(9))


def word(chance: Random) -> Word:
    """Return three or four letters."""
    letters = "".join(chance.choice(LETTERS) for _ in range(chance.choice(WORD_LENGTHS)))
    return Word(letters, chance.choice(COLOURS))


def twice(chance: Random) -> Twice:
    """Return a thing and the same one changed."""
    attribute = chance.choice(list(CHANGES))
    before = thing(chance, "big" if attribute == "texture" else None)
    if attribute == "size":
        before = Thing(before.shape, before.colour, before.size, "plain")
    others = [value for value in CHANGES[attribute] if value != getattr(before, attribute)]
    return Twice(before, attribute, chance.choice(others))


LAYOUTS: dict[str, Callable[[Random], Layout]] = {
    "single": single, "several": several, "beside": beside, "word": word, "twice": twice
}  # fmt: skip


def thing(chance: Random, size: str | None = None, shape: str | None = None, colour: str | None = None) -> Thing:
    """Return a whole thing; what is not given is chosen."""
    size = size or chance.choice(("small", "big"))
    texture = chance.choice(TEXTURES) if size == "big" else "plain"
    return Thing(shape or chance.choice(SHAPES), colour or chance.choice(COLOURS), size, texture)
