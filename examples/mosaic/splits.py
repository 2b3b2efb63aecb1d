"""What is held out: a scene that has one of these combinations is never trained on.

Every shape, colour, count, decade, change and letter occurs in training, so each combination can be composed.
"""

from mosaic.scene import OPPOSITE, Beside, Group, Scene, Thing, Twice, Word
from trencadis.randomness import Key, derive_uniform

REASONS = ("composition", "count", "relation", "binding", "decade", "change", "word")

HELD_COLOURS = {
    "circle": "purple", "square": "yellow", "triangle": "green", "star": "blue", "heart": "orange", "cross": "red"
}  # fmt: skip
"""Composition: a shape that never has this colour."""
HELD_COUNTS = {"circle": 4, "square": 3, "triangle": 5, "star": 4, "heart": 3, "cross": 5}
"""Counts: a shape that never comes in this number."""
HELD_DECADES = {
    "circle": "1980s", "square": "1950s", "triangle": "2010s", "star": "1970s", "heart": "1920s", "cross": "1950s"
}  # fmt: skip
"""Decades: a shape that is never drawn in this one's style."""
SHARE = 0.2
"""Of relations between two shapes, of pairs of coloured shapes, of changes of a shape, and of words."""


def reasons(scene: Scene) -> frozenset[str]:
    """Return why a whole scene is held out; nothing if it is for training."""
    things = scene.things()
    held = {"composition"} if any(_is_held_colour(each) for each in things) else set()
    if any(HELD_DECADES[str(each.shape)] == scene.decade for each in things):
        held.add("decade")
    match scene.layout:
        case Group(thing, count):
            if HELD_COUNTS[str(thing.shape)] == count:
                held.add("count")
        case Beside():
            if _is_drawn("relation", *_relation(scene.layout)):
                held.add("relation")
            if _is_drawn("binding", *sorted(f"{each.colour} {each.shape}" for each in scene.layout.things())):
                held.add("binding")
        case Twice(thing, attribute, value):
            if _is_drawn("change", str(thing.shape), attribute, value):
                held.add("change")
        case Word(letters):
            if _is_drawn("word", letters):
                held.add("word")
    return frozenset(held)


def _is_held_colour(thing: Thing) -> bool:
    return HELD_COLOURS[str(thing.shape)] == thing.colour


def _relation(layout: Beside) -> tuple[str, str, str]:
    """Return shapes and relation, alike for a relation and its opposite: `a left of b` is `b right of a`."""
    first, second = str(layout.first.shape), str(layout.second.shape)
    relation = str(layout.relation)
    return (second, OPPOSITE[relation], first) if relation in ("right of", "below") else (first, relation, second)


def _is_drawn(*key: Key) -> bool:
    return derive_uniform("mosaic held out", *key) < SHARE
