"""Whether a picture is what was asked, attribute by attribute."""

from collections import Counter
from dataclasses import replace

from mosaic.draw import SIDE
from mosaic.scene import PLACES, Beside, Group, Reading, Scene, Seen, Twice, Word

NEAR_MIDDLE = 0.09
"""Distance of two centres, over the picture's side, up to which one thing is inside the other."""


def verdict(asked: Scene, seen: Reading) -> dict[str, bool]:
    """Return, for each thing that was asked, whether a picture has it; the picture is right if all are true."""
    match asked.layout:
        case Group():
            found = _group(asked.layout, seen)
        case Beside():
            found = _beside(asked.layout, seen)
        case Twice():
            found = _twice(asked.layout, seen)
        case Word():
            found = _word(asked.layout, seen)
    return found if asked.decade is None else found | {"decade": seen.decade == asked.decade}


def is_right(asked: Scene, seen: Reading) -> bool:
    return all(verdict(asked, seen).values())


def _group(layout: Group, seen: Reading) -> dict[str, bool]:
    found = {"count": len(seen.things) == layout.count and not seen.words}
    for name in layout.thing.agreement(layout.thing):
        found[name] = bool(seen.things) and all(layout.thing.agreement(each.thing)[name] for each in seen.things)
    if layout.place is not None:
        found["place"] = len(seen.things) == 1 and place_of(seen.things[0]) == layout.place
    return found


def place_of(seen: Seen) -> str:
    """Return which ninth of the picture a thing's centre is in."""
    column, row = (min(2, int(3 * at / SIDE)) for at in seen.centre)
    return PLACES[3 * row + column]


def _beside(layout: Beside, seen: Reading) -> dict[str, bool]:
    """Judge the count, shapes and colours as sets, their binding, and the relation of the two bound things."""
    things = [each.thing for each in seen.things]
    found = {"count": len(things) == 2 and not seen.words}
    for name in ("shape", "colour"):
        wanted = [value for each in layout.things() if (value := getattr(each, name)) is not None]
        found[f"{name}s"] = not Counter(wanted) - Counter(getattr(each, name) for each in things)
    pairs = [seen.things, seen.things[::-1]] if found["count"] else []
    bound = [pair for pair in pairs if layout.first.fits(pair[0].thing) and layout.second.fits(pair[1].thing)]
    found["binding"] = bool(bound)
    if layout.relation is not None:
        found["relation"] = any(relation_of(first, second) == layout.relation for first, second in bound)
    return found


def relation_of(first: Seen, second: Seen) -> str:
    """Return the relation of one thing to another: `inside`, or the side on which it is farther away."""
    across, down = ((own - other) / SIDE for own, other in zip(first.centre, second.centre, strict=True))
    if max(abs(across), abs(down)) <= NEAR_MIDDLE:
        return "inside" if _extent(first) < _extent(second) else "around"
    if abs(across) >= abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def _extent(seen: Seen) -> float:
    left, top, right, bottom = seen.box
    return max(right - left, bottom - top)


def _twice(layout: Twice, seen: Reading) -> dict[str, bool]:
    """Judge two things, one in each half: the upper as named, the lower like the upper but for the change."""
    halves = [[each.thing for each in seen.things if (each.centre[1] > SIDE / 2) == is_low] for is_low in (False, True)]
    is_two = [len(half) for half in halves] == [1, 1] and not seen.words
    found = {"count": is_two, "thing": False, "change": False, "kept": False}
    if is_two:
        above, below = halves[0][0], halves[1][0]
        found["thing"] = layout.thing.fits(above)
        found["change"] = getattr(below, layout.attribute) == layout.value
        found["kept"] = replace(below, **{layout.attribute: getattr(above, layout.attribute)}) == above
    return found


def _word(layout: Word, seen: Reading) -> dict[str, bool]:
    letters = "".join(word.letters for word in seen.words)
    found = {"word": len(seen.words) == 1 and letters == layout.letters and not seen.things}
    if layout.colour is not None:
        found["colour"] = {word.colour for word in seen.words} == {layout.colour}
    return found
