"""The claims: what is asked of a model, so that each can be measured alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mosaic.captions import caption
from mosaic.scene import DECADES, Beside, Group, Scene, Thing, Twice, Word
from mosaic.scenes import LAYOUTS, dice
from mosaic.splits import reasons
from trencadis.randomness import Key


@dataclass(frozen=True)
class Claim:
    """A question to a model.

    Attributes:
        title: What a table calls it.
        layout: Of its scenes, a key of `LAYOUTS`.
        held: Why its scenes are held out; None for scenes whose combinations are all known from training.
        ask: Returns what the caption says of a whole scene.
        is_kept: The upper half of the real picture is given.
    """

    title: str
    layout: str
    held: str | None
    ask: Callable[[Scene], Scene]
    is_kept: bool = False


@dataclass(frozen=True)
class Case:
    """One caption of a claim.

    Attributes:
        name: Such as `count-unseen-007`.
        scene: A whole scene that would be right.
        asked: What the caption says of it.
    """

    name: str
    claim: str
    scene: Scene
    asked: Scene
    caption: str


def _named(scene: Scene) -> Scene:
    """Say shape and colour of a single thing or of several, and how many there are."""
    assert isinstance(scene.layout, Group)
    thing = scene.layout.thing
    return Scene(Group(Thing(thing.shape, thing.colour), scene.layout.count))


def _described(scene: Scene) -> Scene:
    """Say all of a single thing."""
    return Scene(scene.layout)


def _dated(scene: Scene) -> Scene:
    """Say shape, colour and decade."""
    return replace(_named(scene), decade=scene.decade)


def _related(scene: Scene) -> Scene:
    """Say shapes, colours and relation of two things."""
    assert isinstance(scene.layout, Beside)
    first, second = (Thing(each.shape, each.colour) for each in scene.layout.things())
    return Scene(Beside(first, second, scene.layout.relation))


def _paired(scene: Scene) -> Scene:
    """Say shapes and colours of two things."""
    related = _related(scene)
    assert isinstance(related.layout, Beside)
    return Scene(replace(related.layout, relation=None))


def _changed(scene: Scene) -> Scene:
    """Say the change alone; the thing is in the picture that is given."""
    assert isinstance(scene.layout, Twice)
    return Scene(replace(scene.layout, thing=Thing()))


def _written(scene: Scene) -> Scene:
    """Say the letters."""
    assert isinstance(scene.layout, Word)
    return Scene(Word(scene.layout.letters))


def _shape_alone(scene: Scene) -> Scene:
    """Say the shape and nothing else."""
    assert isinstance(scene.layout, Group)
    return Scene(Group(Thing(scene.layout.thing.shape), scene.layout.count))


_QUESTIONS = {
    "composition": ("shape, colour, size, texture, place", "single", _described),
    "count": ("counting 2 to 6", "several", _named),
    "relation": ("relation of two things", "beside", _related),
    "binding": ("two things, two colours", "beside", _paired),
    "decade": ("style of a decade", "single", _dated),
    "change": ("image-to-image: below, changed", "twice", _changed),
    "word": ("a word of letters", "word", _written),
}
CLAIMS = {
    f"{name}-{side}": Claim(title, layout, name if side == "unseen" else None, ask, name == "change")
    for name, (title, layout, ask) in _QUESTIONS.items()
    for side in ("seen", "unseen")
} | {"detail": Claim("invented detail: the shape alone", "single", None, _shape_alone)}


TRIES = 40


def cases(claim: str, count: int) -> list[Case]:
    """Return the captions of a claim: no two alike, and the first 10 of 100 are those of 10.

    Fewer than `count` are returned where there are no more different ones, as of `detail`.
    """
    found: dict[str, Case] = {}
    asked_of = CLAIMS[claim]
    for index in range(TRIES * count):
        scene = scene_of(asked_of, claim, index)
        asked = asked_of.ask(scene)
        text = caption(asked, dice(claim, index, "words"))
        if text not in found:
            found[text] = Case(f"{claim}-{len(found):03}", claim, scene, asked, text)
        if len(found) == count:
            break
    return list(found.values())


def scene_of(claim: Claim, *key: Key) -> Scene:
    """Return a whole scene that is held out for the claim's reason alone, or for none."""
    wanted = frozenset({claim.held} if claim.held else ())
    chance = dice(*key, "scene")
    while True:
        scene = Scene(LAYOUTS[claim.layout](chance), chance.choice(DECADES))
        if reasons(scene) == wanted:
            return scene


def all_cases(count: int, claims: Sequence[str] = tuple(CLAIMS)) -> list[Case]:
    """Return `count` captions of each claim."""
    return [case for claim in claims for case in cases(claim, count)]
