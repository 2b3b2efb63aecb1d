import pytest

from tests.corpus import jpeg, others, png, tiff
from tests.corpus.drawing import Odd
from trencadis.data import decode_picture, picture_size
from trencadis.errors import PictureError

LIMIT = 1_000_000
FILES = png.files() | jpeg.files() | tiff.files() | others.files()


@pytest.mark.parametrize("odd", FILES.values(), ids=FILES)
def test_an_odd_picture_is_what_a_viewer_shows_or_is_refused(odd: Odd) -> None:
    if odd.fault is not None:
        with pytest.raises(PictureError, match=odd.fault):
            decode_picture(odd.raw, max_image_pixels=LIMIT)
        return
    picture = decode_picture(odd.raw, max_image_pixels=LIMIT)
    assert (picture.mode, picture.size) == ("RGB", odd.size)
    assert picture_size(odd.raw) == odd.size[::-1]
    shown = {place: picture.getpixel(place) for place in odd.pixels}
    for place, colour in odd.pixels.items():
        pixel = shown[place]
        assert isinstance(pixel, tuple)
        assert max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) <= odd.within, (shown, odd.pixels)
