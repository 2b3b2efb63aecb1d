"""From a picture to what is in it."""

from PIL import Image

from mosaic.judge.areas import areas, decade_of, pixels_of
from mosaic.judge.forms import letter_of, thing_of
from mosaic.scene import Reading, Seen, Word


def read(picture: Image.Image) -> Reading:
    """Read a picture of any size.

    It is brought to 64×64 pixels. The ground tells the decade; pixels are sorted into the decade's colours and the
    fills; connected areas are compared with the form of each shape, or with letters where they have a letter's size.
    """
    pixels = pixels_of(picture)
    decade = decade_of(pixels)
    things, letters = [], []
    for area in areas(pixels, decade):
        letter = letter_of(area)
        if letter is None:
            things.append(Seen(thing_of(area, pixels), area.box))
        else:
            letters.append((area.box[0], letter, area.colour))
    things.sort(key=lambda seen: (seen.centre[1], seen.centre[0]))
    return Reading(tuple(things), _words(letters), decade)


def _words(letters: list[tuple[int, str, str]]) -> tuple[Word, ...]:
    """Return the letters of each colour as a word, from left to right."""
    colours = sorted({colour for _, _, colour in letters})
    ordered = sorted(letters)
    return tuple(Word("".join(letter for _, letter, own in ordered if own == colour), colour) for colour in colours)
