from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.drawings import DRAWINGS, PHOTOS, disc, encoded, jpeg
from trencadis.data.image_files import decode_picture
from trencadis.data.plain_ground import border_colour, is_plain_ground, subject_box


def pixels_of(picture: Image.Image | bytes) -> np.ndarray:
    raw = picture if isinstance(picture, bytes) else encoded(picture)
    return np.asarray(decode_picture(raw, max_image_pixels=10**6))


@pytest.mark.parametrize("make", DRAWINGS.values(), ids=DRAWINGS)
def test_drawings_are_on_a_plain_ground(make: Callable[[], Image.Image | bytes]) -> None:
    assert is_plain_ground(pixels_of(make()))


@pytest.mark.parametrize("make", PHOTOS.values(), ids=PHOTOS)
def test_photographs_are_not(make: Callable[[], Image.Image]) -> None:
    assert not is_plain_ground(pixels_of(make()))


def test_ground_and_subject() -> None:
    pixels = pixels_of(disc(box=(10, 20, 40, 60), ground="#f0e0d0"))
    assert border_colour(pixels) == (0xF0, 0xE0, 0xD0)
    assert subject_box(pixels, (0xF0, 0xE0, 0xD0)) == (9, 19, 42, 62)
    left, top, right, bottom = subject_box(pixels_of(jpeg(disc(box=(10, 20, 40, 60)))), (255, 255, 255))
    assert left <= 10
    assert top <= 20
    assert right >= 41
    assert bottom >= 61


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 5)])
def test_the_smallest_pictures_have_a_border_too(size: tuple[int, int]) -> None:
    pixels = pixels_of(Image.new("RGB", size, "red"))
    assert is_plain_ground(pixels)
    left, top, right, bottom = subject_box(pixels, border_colour(pixels))
    assert (right - left, bottom - top) == (0, 0)
