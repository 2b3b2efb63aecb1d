"""Crops as training gets them: exact, whole where they must be, and pure functions of their keys."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.data.drawings import DRAWINGS, PHOTOS, Listed, disc, gradient, noise, photo
from trencadis.config.data import Fit
from trencadis.data import CAPTIONED_CROPS, TOKENIZER_CROPS, CropRule, Pictures
from trencadis.data.crop_boxes import random_box
from trencadis.data.pixels import to_tensor
from trencadis.errors import ConfigError, DataError

STAGES = pytest.mark.parametrize(
    "rule", [pytest.param(TOKENIZER_CROPS, id="image"), pytest.param(CAPTIONED_CROPS, id="captions")]
)
UNMIRRORED = replace(TOKENIZER_CROPS, mirror=False)


def pictures_of(
    *images: Image.Image | bytes, image_size: tuple[int, int] = (32, 32), fit: Fit = "auto", memory_bytes: int = 2**31
) -> Pictures:
    source = Listed(images)
    return Pictures(source, source.pairs(), image_size, fit=fit, memory_bytes=memory_bytes)


def test_middle_crop_is_exact_where_nothing_is_resized() -> None:
    image = noise(40, 32)
    crop = pictures_of(image).crop(0)
    assert crop.dtype == torch.float32
    expected = np.asarray(image)[:, 4:36].transpose(2, 0, 1).astype(np.float32) / 255
    assert crop.numpy().tolist() == expected.tolist()


@pytest.mark.parametrize(("size", "image_size"), [((200, 100), (50, 50)), ((100, 200), (50, 50)), ((90, 90), (20, 60))])
def test_middle_crop_is_the_largest_of_its_aspect(size: tuple[int, int], image_size: tuple[int, int]) -> None:
    crop = pictures_of(gradient(*size), image_size=image_size).crop(0)
    height, width = image_size
    assert crop.shape == (3, height, width)
    share = min(size[0] / width, size[1] / height)
    covered = share * width / size[0], share * height / size[1]
    assert float(crop[0, :, -1].mean() - crop[0, :, 0].mean()) == pytest.approx(covered[0] * (1 - 1 / width), abs=0.03)
    assert float(crop[1, -1].mean() - crop[1, 0].mean()) == pytest.approx(covered[1] * (1 - 1 / height), abs=0.03)
    assert float(crop[0].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(crop[1].mean()) == pytest.approx(0.5, abs=0.01)


def papers_crop(image: Image.Image, rule: CropRule, target: int, key: tuple[int, ...]) -> Image.Image:
    """Cut a square, resize it, and cut the crop out of that: the paper's order, for the box that the key stands for."""
    left, top, right, _ = random_box((image.height, image.width), (target, target), rule, key)
    shortest = min(image.size)
    unit = (right - left) / target
    resized = round(shortest / unit)
    # The box is a whole number of resized pixels into a square that is a whole number of pixels into the picture.
    places = [
        (square, inside)
        for square in range(max(image.size) - shortest + 1)
        for inside in range(resized - target + 1)
        if abs(square + inside * unit - (left if image.width >= image.height else top)) < 1e-6
    ]
    square, along = places[0]
    if image.width >= image.height:
        cut = image.crop((square, 0, square + shortest, shortest))
        corner = (along, round(top / unit))
    else:
        cut = image.crop((0, square, shortest, square + shortest))
        corner = (round(left / unit), along)
    whole = cut.resize((resized, resized), Image.Resampling.LANCZOS)
    return whole.crop((*corner, corner[0] + target, corner[1] + target))


@STAGES
@pytest.mark.parametrize(("width", "height"), [(120, 90), (90, 90), (70, 130)])
def test_random_crops_are_the_papers_operations(rule: CropRule, width: int, height: int) -> None:
    """One resize with a box is the paper's three operations, to two levels of 256.

    Within three pixels of an edge more is allowed: where it is the cut edge of the square, our filter sees what lies
    beyond it.
    """
    image, rule = photo(width, height), replace(rule, mirror=False)
    pictures = pictures_of(image, image_size=(64, 64))
    for number in range(12):
        crop = pictures.crop(0, rule, (number,))
        difference = 255 * (crop - to_tensor(papers_crop(image, rule, 64, (number,)))).abs()
        assert float(difference[:, 3:-3, 3:-3].max()) < 2.5
        assert float(difference.mean()) < 0.5
        assert float(difference.max()) < 40


def test_shrinking_a_large_picture_first_changes_little() -> None:
    """A picture is kept at 12/8 of a crop; the crop from it is near the one from the whole picture."""
    image = photo(600, 400)
    pictures = pictures_of(image, image_size=(64, 64))
    for number in range(8):
        box = random_box((400, 600), (64, 64), CAPTIONED_CROPS, (number,))
        shrunk = random_box((96, 144), (64, 64), CAPTIONED_CROPS, (number,))
        assert np.array(shrunk) * 400 / 96 == pytest.approx(np.array(box), abs=400 / 96)
        direct = image.resize((64, 64), Image.Resampling.LANCZOS, box=tuple(np.array(shrunk) * 400 / 96))
        difference = 255 * (pictures.crop(0, CAPTIONED_CROPS, (number,)) - to_tensor(direct))
        assert float(difference.square().mean().sqrt()) < 2


def test_only_the_image_tokenizers_crops_are_mirrored() -> None:
    pictures = pictures_of(gradient(100, 100))
    crops = [pictures.crop(0, rule, (key,)) for rule in (TOKENIZER_CROPS, CAPTIONED_CROPS) for key in range(100)]
    mirrored = [bool(crop[0, :, 0].mean() > crop[0, :, -1].mean()) for crop in crops]
    assert 30 < sum(mirrored[:100]) < 70
    assert not any(mirrored[100:])
    assert torch.equal(crops[mirrored.index(True)].flip(-1), pictures.crop(0, UNMIRRORED, (mirrored.index(True),)))


def shown(crop: torch.Tensor, ground: tuple[int, int, int]) -> torch.Tensor:
    """Return where a crop differs from a ground."""
    return ((crop * 255 - torch.tensor(ground)[:, None, None]).abs() > 24).any(0)


@STAGES
@pytest.mark.parametrize("name", ["touching all sides", "wide", "tall", "transparent", "jpeg", "small and off centre"])
@pytest.mark.parametrize("image_size", [(48, 48), (36, 54)])
def test_no_crop_cuts_a_drawing(rule: CropRule, name: str, image_size: tuple[int, int]) -> None:
    """An ellipse with a black outline: wherever it is cut, its red reaches the edge of the crop."""
    pictures = pictures_of(DRAWINGS[name](), image_size=image_size)
    for key in [None, *range(30)]:
        crop = pictures.crop(0) if key is None else pictures.crop(0, rule, (key,))
        red = (crop[0] > 0.6) & (crop[1] < 0.3) & (crop[2] < 0.3)
        assert red.any()
        edges = torch.cat([red[0], red[-1], red[:, 0], red[:, -1]])
        assert not edges.any()
        rows, columns = red.any(1).nonzero(), red.any(0).nonzero()
        height, width = len(rows), len(columns)
        aspect = {"wide": 112 / 52, "tall": 48 / 98}.get(name, 1.0)
        assert width / height == pytest.approx(aspect, rel=0.15), "nothing is cut or squeezed"


def test_the_middle_crop_of_a_drawing_is_all_of_it() -> None:
    crop = pictures_of(disc((120, 60), (0, 0, 119, 59)), image_size=(40, 40)).crop(0)
    assert crop[:, :9].min() > 0.95
    assert crop[:, 31:].min() > 0.95
    assert shown(crop, (255, 255, 255))[20].all()


@pytest.mark.parametrize("make", PHOTOS.values(), ids=PHOTOS)
def test_photographs_are_cropped_as_the_paper_does(make: Callable[[], Image.Image]) -> None:
    automatic, cropped = (pictures_of(make(), fit=fit) for fit in ("auto", "crop"))
    assert torch.equal(automatic.crop(0), cropped.crop(0))
    assert torch.equal(automatic.crop(0, TOKENIZER_CROPS, (1,)), cropped.crop(0, TOKENIZER_CROPS, (1,)))


def test_pad_shows_all_of_a_photograph() -> None:
    picture = Image.new("RGB", (60, 30), "#204060")
    picture.paste(photo(56, 26), (2, 2))
    pictures = pictures_of(picture, fit="pad", image_size=(30, 30))
    crop = pictures.crop(0)
    ground = torch.tensor([0x20, 0x40, 0x60])[:, None, None] / 255
    assert torch.allclose(crop[:, :7], ground.expand(3, 7, 30), atol=0.01)
    assert torch.allclose(crop[:, 23:], ground.expand(3, 7, 30), atol=0.01)
    assert shown(crop, (0x20, 0x40, 0x60))[15, 2:28].float().mean() > 0.8


@STAGES
@pytest.mark.parametrize("fit", ["crop", "auto"])
def test_a_picture_smaller_than_a_crop_is_enlarged(rule: CropRule, fit: Fit) -> None:
    for image in (disc((20, 20), (2, 2, 17, 17)), photo(20, 12)):
        crop = pictures_of(image, image_size=(64, 64), fit=fit).crop(0, rule, (1,))
        assert crop.shape == (3, 64, 64)


@STAGES
def test_random_crop_is_a_function_of_its_key(rule: CropRule) -> None:
    pictures = pictures_of(noise(100, 80), disc())
    for position in (0, 1):
        first = pictures.crop(position, rule, (0, 1, "0.png"))
        others = [pictures.crop(position, rule, key) for key in ((1, 1, "0.png"), (0, 2, "0.png"), (0, 1, "1.png"))]
        assert torch.equal(pictures.crop(position, rule, (0, 1, "0.png")), first)
        assert not any(torch.equal(other, first) for other in others)


def test_crop_is_the_same_in_memory_and_out_of_it() -> None:
    images = [noise(300, 200), noise(90, 120), noise(20, 20), disc()]
    source, read_again = Listed(images), Listed(images)
    kept = Pictures(source, source.pairs(), (32, 32))
    none_kept = Pictures(read_again, read_again.pairs(), (32, 32), memory_bytes=0)
    for rule, key in ((None, ()), (TOKENIZER_CROPS, (0, 1)), (CAPTIONED_CROPS, (0, 2))):
        for position in range(4):
            assert torch.equal(kept.crop(position, rule, key), none_kept.crop(position, rule, key))
    assert set(source.read.values()) == {1}
    assert set(read_again.read.values()) == {3}


def test_memory_stays_within_its_budget() -> None:
    source = Listed([noise(40, 40)] * 10)
    pictures = Pictures(source, source.pairs(), (32, 32), memory_bytes=3 * 40 * 40 * 3)
    for _ in range(2):
        for position in range(10):
            pictures.crop(position)
    assert [source.read[index] for index in range(10)] == [1] * 3 + [2] * 7


def test_large_pictures_are_kept_small() -> None:
    source = Listed([noise(1000, 500)])
    pictures = Pictures(source, source.pairs(), (32, 32), memory_bytes=48 * 96 * 3)
    pictures.crop(0)
    pictures.crop(0)
    assert source.read[0] == 1


def test_shrinking_does_not_alias() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (512, 256)))
    crop = pictures_of(stripes).crop(0, TOKENIZER_CROPS, (3,))
    assert float((crop - 0.5).abs().max()) < 0.05


def test_threads_share_the_pictures() -> None:
    pictures = pictures_of(*[noise(64, 64)] * 4)
    with ThreadPoolExecutor(4) as pool:
        crops = list(pool.map(lambda number: pictures.crop(number % 4, CAPTIONED_CROPS, (number % 4,)), range(64)))
    for number, crop in enumerate(crops):
        assert torch.equal(crop, crops[number % 4])


def test_position_is_among_the_pairs_and_not_in_the_source() -> None:
    source = Listed([Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")])
    pictures = Pictures(source, source.pairs()[1:], (4, 4))
    assert len(pictures.pairs) == 2
    assert pictures.crop(0)[:, 0, 0].tolist() == [0, 1, 0]


def test_picture_that_can_no_longer_be_read_is_named() -> None:
    with pytest.raises(DataError, match=r"the picture of 0\.png can no longer be read.*trencadis data check"):
        pictures_of(b"broken").crop(0)


def test_a_crop_without_pixels_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_size"):
        pictures_of(noise(8, 8), image_size=(0, 4))
