"""A sheet that shows every attribute of the world."""

from collections.abc import Iterator

from PIL import Image

from mosaic.captions import caption
from mosaic.draw import draw
from mosaic.scene import (
    COLOURS,
    DECADES,
    MOST,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Beside,
    Group,
    Scene,
    Thing,
    Twice,
    Word,
)  # fmt: skip
from mosaic.scenes import dice
from trencadis.data.contact_sheet import contact_sheet

COLUMNS, TILE = 8, 128
STAR = Thing("star", "red", "big", "plain")


def scenes() -> Iterator[tuple[Scene, Scene]]:
    """Yield whole scenes, and what their captions on the sheet say."""
    wholes = [Scene(Group(Thing(shape, "blue", "big", "plain"), 1, (4,)), "2010s") for shape in SHAPES]
    wholes += [Scene(Group(Thing("circle", colour, "big", "plain"), 1, (4,)), "2010s") for colour in COLOURS]
    wholes += [Scene(Group(Thing("heart", "red", "big", texture), 1, (4,)), "1920s") for texture in TEXTURES]
    wholes += [Scene(Group(Thing("square", "orange", size, "plain"), 1, (4,)), "1980s") for size in SIZES]
    wholes += [Scene(Group(STAR, 1, (cell,)), DECADES[cell % 5]) for cell in range(len(PLACES))]
    cells = dice("sheet")
    small = Thing("cross", "yellow", "small", "plain")
    for count in range(2, MOST + 1):
        wholes.append(Scene(Group(small, count, tuple(cells.sample(range(9), count))), "1970s"))
    for number, relation in enumerate(RELATIONS):
        inner = Thing("heart", "green", "small", "plain")
        outer = Thing("circle", "orange", "big", "plain")
        wholes.append(Scene(Beside(inner, outer, relation, 4), DECADES[number]))
    wholes += [Scene(Word("CAT", "purple"), "1920s"), Scene(Word("SHIP", "purple"), "1950s")]
    wholes += [Scene(Group(Thing("triangle", "green", "big", "striped"), 1, (4,)), decade) for decade in DECADES]
    for attribute, value in (("colour", "blue"), ("texture", "spotted"), ("size", "small")):
        wholes.append(Scene(Twice(STAR, attribute, value), "1950s"))
    for whole in wholes:
        yield whole, whole if _is_dated(whole) else Scene(whole.layout)


def _is_dated(scene: Scene) -> bool:
    """Return whether a caption on the sheet names the decade: it does for one row of single things."""
    return isinstance(scene.layout, Group) and scene.layout.thing.texture == "striped"


def sheet() -> Image.Image:
    """Return the sheet."""
    pairs = list(scenes())
    labels = [caption(asked, dice("sheet", number)) for number, (_, asked) in enumerate(pairs)]
    tiles = [draw(whole).resize((TILE, TILE), Image.Resampling.NEAREST) for whole, _ in pairs]
    return contact_sheet(tiles, labels, COLUMNS, tile_size=TILE, label_lines=3)
