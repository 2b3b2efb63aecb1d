"""Captions as people type them: what is said of a scene, and how."""

from dataclasses import replace
from random import Random

from mosaic.scene import Beside, Group, Scene, Thing, Twice, Word

NAMES = {
    "circle": ("circle", "disc"), "square": ("square", "box"), "triangle": ("triangle",), "star": ("star",),
    "heart": ("heart",), "cross": ("cross", "plus sign"),
}  # fmt: skip
PLURALS = {"box": "boxes", "cross": "crosses"}
SAID = {
    "small": ("small", "little", "tiny"), "big": ("big", "large"), "plain": ("plain",), "striped": ("striped",),
    "spotted": ("spotted", "dotted"),
}  # fmt: skip
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
RELATIONS = {
    "left of": ("left of", "to the left of"), "right of": ("right of", "to the right of"), "above": ("above", "over"),
    "below": ("below", "under"), "inside": ("inside", "in"),
}  # fmt: skip
CHANGED = {"small": ("but smaller", "made small"), "big": ("but bigger", "made big")}
OPEN = 0.4
"""Chance that an attribute is left open."""


def said(scene: Scene, chance: Random) -> Scene:
    """Return what a caption says of a whole scene: shapes, counts, changes and letters always, the rest at times."""
    match scene.layout:
        case Group(thing, count, cells):
            place = None if count > 1 or _is_open(chance) else cells
            layout: Group | Beside | Twice | Word = Group(said_thing(thing, chance), count, place)
        case Beside(first, second, relation):
            relation = None if relation != "inside" and chance.random() < 0.2 else relation
            layout = Beside(said_thing(first, chance, 0.1), said_thing(second, chance, 0.1), relation)
        case Twice(thing):
            layout = replace(scene.layout, thing=Thing() if _is_open(chance) else said_thing(thing, chance))
        case Word(letters, colour):
            layout = Word(letters, None if _is_open(chance) else colour)
    return Scene(layout, None if _is_open(chance) else scene.decade)


def said_thing(thing: Thing, chance: Random, colourless: float = 0.2) -> Thing:
    """Return a thing of which some attributes are left open.

    Args:
        colourless: Chance that its colour is.
    """
    colour = None if chance.random() < colourless else thing.colour
    size = None if _is_open(chance) else thing.size
    is_silent = chance.random() < (0.8 if thing.texture == "plain" else OPEN)
    return Thing(thing.shape, colour, size, None if is_silent else thing.texture)


def caption(asked: Scene, chance: Random) -> str:
    """Return one of the ways to say what is asked."""
    match asked.layout:
        case Group():
            text = _group(asked.layout, chance)
        case Beside():
            text = _beside(asked.layout, chance)
        case Twice():
            text = _twice(asked.layout, chance)
        case Word():
            text = _word(asked.layout, chance)
    if asked.decade is None:
        return text
    ways = (f"{text} from the {{}}", f"{text} in the style of the {{}}", f"{text}, {{}} style", f"{{}} style: {text}")
    return chance.choice(ways).format(asked.decade)


def captions(scene: Scene, count: int, chance: Random) -> list[str]:
    """Return different captions of a whole scene, `count` or fewer where they repeat."""
    return list(dict.fromkeys(caption(said(scene, chance), chance) for _ in range(count)))


def _is_open(chance: Random) -> bool:
    return chance.random() < OPEN


def _phrase(thing: Thing, chance: Random, number: int = 1) -> str:
    """Return a noun with its adjectives and, for one of it, its article; `thing` where no shape is said."""
    words = [chance.choice(SAID[word]) for word in (thing.size, thing.texture) if word]
    words += [thing.colour] if thing.colour else []
    noun = chance.choice(NAMES[thing.shape]) if thing.shape else "thing"
    words.append(noun if number == 1 else PLURALS.get(noun, f"{noun}s"))
    text = " ".join(words)
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}" if number == 1 else text


def _group(layout: Group, chance: Random) -> str:
    count = layout.count
    if count > 1:
        number = chance.choice((NUMBERS[count], str(count)))
        return chance.choice(("{}", "there are {}", "{}")).format(f"{number} {_phrase(layout.thing, chance, count)}")
    text, place = _phrase(layout.thing, chance), layout.place
    if place is None:
        return text
    if place == "middle":
        return f"{text} in the {chance.choice(('middle', 'centre'))}"
    if " " in place:
        return chance.choice((f"{text} in the {place} corner", f"{text} at the {place}", f"{place}: {text}"))
    return f"{text} {'on' if place in ('left', 'right') else 'at'} the {place}"


def _beside(layout: Beside, chance: Random) -> str:
    first, second = (_phrase(each, chance) for each in layout.things())
    if layout.relation is None:
        return chance.choice((f"{first} and {second}", f"{second} and {first}"))
    return f"{first} {chance.choice(RELATIONS[layout.relation])} {second}"


def _twice(layout: Twice, chance: Random) -> str:
    value = layout.value
    ways = (f"in {value}", f"but {value}") if layout.attribute == "colour" else (f"but {value}",)
    change = chance.choice(CHANGED.get(value, ways))
    if layout.thing.shape is None:
        ways = (f"the same thing twice, {change} below", f"something above and the same {change} below")
        return chance.choice(ways)
    noun = NAMES[layout.thing.shape][0]
    above = _phrase(layout.thing, chance)
    return chance.choice(
        (f"{above} above and the same {noun} {change} below", f"{above} on top, the same {change} at the bottom")
    )


def _word(layout: Word, chance: Random) -> str:
    letters, spaced, dashed = layout.letters, " ".join(layout.letters), "-".join(layout.letters)
    ways = [f'the word "{letters}"', f"a sign that says {letters}", f"the letters {spaced}", f"the word {dashed}"]
    text = chance.choice(ways)
    return text if layout.colour is None else chance.choice((f"{text} in {layout.colour}", f"{layout.colour}: {text}"))
