import io
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from trencadis.data import KeptPair, Pictures
from trencadis.errors import ConfigError, DataError


class Listed:
    """A source of given pictures that counts how often each is read."""

    def __init__(self, images: Sequence[Image.Image | bytes]) -> None:
        self.read: Counter[int] = Counter()
        self.raws = [image if isinstance(image, bytes) else self.encoded(image) for image in images]

    @staticmethod
    def encoded(image: Image.Image) -> bytes:
        raw = io.BytesIO()
        image.save(raw, "PNG")
        return raw.getvalue()

    def __len__(self) -> int:
        return len(self.raws)

    def sample_id(self, index: int) -> str:
        return f"{index}.png"

    def captions(self, index: int) -> tuple[str, ...]:
        return ("a caption",)

    def weight(self, index: int) -> float:
        return 1.0

    def image_bytes(self, index: int) -> bytes:
        self.read[index] += 1
        return self.raws[index]


def pairs_of(source: Listed) -> list[KeptPair]:
    return [KeptPair(index, source.sample_id(index), ("a caption",), 1.0) for index in range(len(source))]


def gradient(width: int, height: int) -> Image.Image:
    """Return a picture whose red tells how far right, and whose green how far down."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.zeros_like(down)], -1).round().astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_middle_crop_is_exact_where_nothing_is_resized() -> None:
    image = noise(40, 32)
    source = Listed([image])
    crop = Pictures(source, pairs_of(source), (32, 32), headroom=4.0).crop(0)
    assert crop.dtype == torch.float32
    expected = np.asarray(image)[:, 4:36].transpose(2, 0, 1).astype(np.float32) / 255
    assert crop.numpy().tolist() == expected.tolist()


@pytest.mark.parametrize(("size", "image_size"), [((200, 100), (50, 50)), ((100, 200), (50, 50)), ((90, 90), (20, 60))])
def test_middle_crop_is_the_largest_of_its_aspect(size: tuple[int, int], image_size: tuple[int, int]) -> None:
    source = Listed([gradient(*size)])
    crop = Pictures(source, pairs_of(source), image_size).crop(0)
    height, width = image_size
    assert crop.shape == (3, height, width)
    share = min(size[0] / width, size[1] / height)
    covered = share * width / size[0], share * height / size[1]
    assert float(crop[0, :, -1].mean() - crop[0, :, 0].mean()) == pytest.approx(covered[0] * (1 - 1 / width), abs=0.03)
    assert float(crop[1, -1].mean() - crop[1, 0].mean()) == pytest.approx(covered[1] * (1 - 1 / height), abs=0.03)
    assert float(crop[0].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(crop[1].mean()) == pytest.approx(0.5, abs=0.01)


def test_random_crops_stay_within_their_range() -> None:
    source = Listed([gradient(256, 256)])
    pictures = Pictures(source, pairs_of(source), (64, 64))
    sides, lefts, flips = [], [], 0
    for epoch in range(200):
        crop = pictures.crop(0, min_crop=0.6, flip=True, key=(1, epoch, "0.png"))
        red = crop[0].mean(0)
        flipped = bool(red[0] > red[-1])
        flips += flipped
        sides.append(abs(float(red[-1] - red[0])) * 64 / 63)
        lefts.append(float(red.min()))
        assert abs(float(crop[1, -1].mean() - crop[1, 0].mean()) * 64 / 63 - sides[-1]) < 0.02, "crops keep the aspect"
    assert min(sides) == pytest.approx(0.6, abs=0.03)
    assert max(sides) == pytest.approx(1.0, abs=0.03)
    assert max(lefts) > 0.25
    assert 70 < flips < 130


def test_random_crop_is_a_function_of_its_key() -> None:
    source = Listed([noise(100, 80)])
    pictures = Pictures(source, pairs_of(source), (32, 32))

    def crop(*key: int | str) -> torch.Tensor:
        return pictures.crop(0, min_crop=0.5, flip=True, key=key)

    first = crop(0, 1, "0.png")
    others = [crop(1, 1, "0.png"), crop(0, 2, "0.png"), crop(0, 1, "1.png")]
    assert torch.equal(crop(0, 1, "0.png"), first)
    assert not any(torch.equal(other, first) for other in others)


def test_crop_is_the_same_in_memory_and_out_of_it() -> None:
    images = [noise(300, 200), noise(90, 120), noise(20, 20)]
    source, read_again = Listed(images), Listed(images)
    kept = Pictures(source, pairs_of(source), (32, 32))
    none_kept = Pictures(read_again, pairs_of(read_again), (32, 32), memory_bytes=0)
    for key in (None, (0, 1), (0, 2)):
        for position in range(3):
            one, other = (pictures.crop(position, min_crop=0.5, key=key) for pictures in (kept, none_kept))
            assert torch.equal(one, other)
    assert set(source.read.values()) == {1}
    assert set(read_again.read.values()) == {3}


def test_memory_stays_within_its_budget() -> None:
    source = Listed([noise(40, 40)] * 10)
    pictures = Pictures(source, pairs_of(source), (32, 32), memory_bytes=3 * 40 * 40 * 3)
    for _ in range(2):
        for position in range(10):
            pictures.crop(position)
    assert [source.read[index] for index in range(10)] == [1] * 3 + [2] * 7


def test_large_pictures_are_kept_small() -> None:
    source = Listed([noise(1000, 500)])
    pictures = Pictures(source, pairs_of(source), (32, 32), headroom=1.25, memory_bytes=40 * 80 * 3)
    pictures.crop(0)
    pictures.crop(0)
    assert source.read[0] == 1


def test_shrinking_does_not_alias() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (512, 256)))
    source = Listed([stripes])
    crop = Pictures(source, pairs_of(source), (32, 32)).crop(0, min_crop=0.7, key=(3,))
    assert float((crop - 0.5).abs().max()) < 0.05


def test_threads_share_the_pictures() -> None:
    source = Listed([noise(64, 64)] * 4)
    pictures = Pictures(source, pairs_of(source), (32, 32))
    with ThreadPoolExecutor(4) as pool:
        crops = list(pool.map(lambda number: pictures.crop(number % 4, key=(number % 4,)), range(64)))
    for number, crop in enumerate(crops):
        assert torch.equal(crop, crops[number % 4])


def test_position_is_among_the_pairs_and_not_in_the_source() -> None:
    source = Listed([Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")])
    pictures = Pictures(source, pairs_of(source)[1:], (4, 4))
    assert len(pictures) == 2
    assert pictures.crop(0)[:, 0, 0].tolist() == [0, 1, 0]


def test_picture_that_can_no_longer_be_read_is_named() -> None:
    source = Listed([b"broken"])
    with pytest.raises(DataError, match=r"the picture of 0\.png can no longer be read.*trencadis data check"):
        Pictures(source, pairs_of(source), (4, 4)).crop(0)


def test_what_cannot_be_cropped_is_refused() -> None:
    source = Listed([noise(8, 8)])
    for min_crop in (0.0, 1.1):
        with pytest.raises(ConfigError, match="min_crop"):
            Pictures(source, pairs_of(source), (4, 4)).crop(0, min_crop=min_crop, key=(1,))
    with pytest.raises(ConfigError, match="image_size"):
        Pictures(source, pairs_of(source), (0, 4))
    with pytest.raises(ConfigError, match="headroom"):
        Pictures(source, pairs_of(source), (4, 4), headroom=0.5)
