"""Scene graphs: what is in a picture, or as much of it as a caption says.

One set of classes serves both. In a whole scene everything is set; in what is asked, None is left open.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZES = ("small", "big")
TEXTURES = ("plain", "striped", "spotted")
DECADES = ("1920s", "1950s", "1970s", "1980s", "2010s")
PLACES = (
    "top left", "top", "top right",
    "left", "middle", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below", "inside")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
CHANGES = {"colour": COLOURS, "texture": TEXTURES, "size": SIZES}
"""What may differ in the same thing drawn twice, and its values."""

LETTERS = "ACEFHILOPSTU"
WORD_LENGTHS = (3, 4)
MOST = 6
"""Things of one kind in a picture."""


@dataclass(frozen=True)
class Thing:
    """One drawn thing. Only big ones have a texture other than plain."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None

    def fits(self, whole: "Thing") -> bool:
        """Return whether nothing that is said here differs in another one."""
        return all(self.agreement(whole).values())

    def agreement(self, whole: "Thing") -> dict[str, bool]:
        """Return, for each attribute that is said here, whether another thing has it."""
        return {name: getattr(whole, name) == value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Group:
    """One thing, or equal ones.

    Attributes:
        cells: Where they are, as indices of `PLACES`.
    """

    thing: Thing
    count: int = 1
    cells: tuple[int, ...] | None = None

    @property
    def place(self) -> str | None:
        """Where a single thing is."""
        return PLACES[self.cells[0]] if self.cells and self.count == 1 else None


@dataclass(frozen=True)
class Beside:
    """Two things of different shapes and colours.

    Attributes:
        relation: That of the first to the second.
        cell: Of the outer one of `inside`; its row where they are side by side, else its column.
    """

    first: Thing
    second: Thing
    relation: str | None = None
    cell: int | None = None

    def things(self) -> tuple[Thing, Thing]:
        return self.first, self.second


@dataclass(frozen=True)
class Word:
    """Three or four of `LETTERS` in one colour."""

    letters: str
    colour: str | None = None


@dataclass(frozen=True)
class Twice:
    """A thing in the top half, and below it the same with one attribute changed."""

    thing: Thing
    attribute: str
    value: str

    @property
    def changed(self) -> Thing:
        """The lower one, as far as the upper one is known."""
        return replace(self.thing, **{self.attribute: self.value})


Layout = Group | Beside | Word | Twice


@dataclass(frozen=True)
class Scene:
    layout: Layout
    decade: str | None = None

    def things(self) -> tuple[Thing, ...]:
        """Return the different things in it."""
        match self.layout:
            case Group(thing=thing):
                return (thing,)
            case Beside():
                return self.layout.things()
            case Twice(thing=thing):
                return thing, self.layout.changed
            case Word():
                return ()

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, without what is not said."""
        layout = _said(asdict(self.layout))
        return {"layout": type(self.layout).__name__.lower(), **layout} | _said({"decade": self.decade})


def _said(values: dict[str, Any]) -> dict[str, Any]:
    said = {name: _said(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class Seen:
    """A thing that was read in a picture.

    Attributes:
        box: Left, top, right and bottom, in pixels of the world's pictures.
    """

    thing: Thing
    box: tuple[float, float, float, float]

    @property
    def centre(self) -> tuple[float, float]:
        """X and y in pixels of the world's pictures."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True)
class Reading:
    """What the judge read in a picture: its things, from top to bottom, its word and its decade."""

    things: tuple[Seen, ...] = ()
    words: tuple[Word, ...] = ()
    decade: str = DECADES[-1]
