"""Portraits of codes, by a tokenizer whose codes are colours."""

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from trencadis.errors import ConfigError
from trencadis.image.code_portraits import Place, code_portraits, most_used, places_of

SIDE = 8  # pixels of a token
FIRST_ROW = 20 + 4 + 32  # middle of the uppermost portraits
COLUMNS = [4 + 70 + 32 + slot * 68 + (6 if slot else 0) for slot in range(5)]  # middles of a row's portraits
HALF = 70 + 6 + 5 * 68 + 20  # from one column of rows to the next
GREY = (240, 239, 236)


class Colours:
    """Code k is a square of the colour (k, 2k, 255 - k)."""

    image_size = (32, 32)
    grid_size = (4, 4)
    image_vocab_size = 100
    down_factor = SIDE

    def __init__(self) -> None:
        self.decoded: list[tuple[int, ...]] = []

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Int[Tensor, "batch rows columns"]:
        raise NotImplementedError

    def decode(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        self.decoded.append(tuple(image_tokens.shape))
        colours = torch.stack([image_tokens, 2 * image_tokens, 255 - image_tokens], dim=1) / 255
        return colours.repeat_interleave(SIDE, 2).repeat_interleave(SIDE, 3)


def colour(code: int) -> tuple[int, int, int]:
    return code, 2 * code, 255 - code


def seen(sheet: Image.Image, x: int, y: int) -> tuple[int, ...]:
    pixel = sheet.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel


def test_the_most_used_come_first_and_equals_in_their_order() -> None:
    counts = torch.tensor([3, 0, 7, 3, 1])
    assert most_used(counts, 9) == [2, 0, 3, 4]
    assert most_used(counts, 2) == [2, 0]


def test_places_are_in_as_many_pictures_as_there_are() -> None:
    grids = torch.zeros(40, 3, 5, dtype=torch.long)
    grids[7, 1, 4] = grids[7, 2, 2] = grids[31, 0, 0] = 9
    assert places_of(9, grids) == [Place(7, 1, 4), Place(7, 2, 2), Place(31, 0, 0)]
    # Everywhere else is code 0: a picture of each quarter, and there the middle one of its 15 places.
    assert places_of(0, grids) == [Place(number, 1, 2) for number in (5, 15, 25, 35)]
    assert places_of(3, grids) == []


@pytest.mark.parametrize("pictures", [1, 2, 3, 4, 5, 9])
def test_places_are_different_and_hold_the_code(pictures: int) -> None:
    grids = torch.randint(2, (pictures, 3, 2), generator=torch.Generator().manual_seed(pictures))
    for code in (0, 1):
        places = places_of(code, grids)
        assert len(set(places)) == len(places) == min(4, int((grids == code).sum()))
        assert all(grids[place.picture, place.row, place.column] == code for place in places)
        assert len({place.picture for place in places}) == min(4, int((grids == code).any(2).any(1).sum()))


def test_a_row_is_what_a_code_draws_alone_and_where_it_stands() -> None:
    grids = torch.full((2, 4, 4), 10)
    grids[0, 1:3, 1:3] = torch.tensor([[50, 60], [70, 80]])
    grids[1, 0, 0] = 90
    sheet = code_portraits(Colours(), grids, most=1)
    assert [seen(sheet, x, FIRST_ROW) for x in COLUMNS[:1]] == [colour(10)]
    # One row for each code, in two columns from the top down: 10, 50, 60 to the left and 70, 80, 90 to the right.
    sheet = code_portraits(Colours(), grids)
    assert seen(sheet, COLUMNS[0], FIRST_ROW + 68) == colour(50)
    middle = COLUMNS[1], FIRST_ROW + 68
    offsets = [(-22, -22), (0, 0), (22, 0), (0, 22), (22, 22)]
    assert [seen(sheet, middle[0] + x, middle[1] + y) for x, y in offsets] == [colour(c) for c in (10, 50, 60, 70, 80)]
    assert [seen(sheet, x, FIRST_ROW + 68) for x in COLUMNS[2:]] == [GREY] * 3, "it stands in one place only"


def test_the_square_of_the_token_is_outlined_where_it_is() -> None:
    grids = torch.full((1, 5, 5), 10)
    grids[0, 4, 0] = 90
    sheet = code_portraits(Colours(), grids)
    black = np.argwhere((np.asarray(sheet) == 0).all(-1)) - (FIRST_ROW - 32, HALF + COLUMNS[1] - 32)
    inside = black[black[:, 1] >= 0]
    assert (inside.min(0).tolist(), inside.max(0).tolist()) == ([42, 0], [63, 21])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 6), (2, 2), (7, 2), (3, 9)])
def test_any_grid_has_portraits(rows: int, columns: int) -> None:
    grids = torch.randint(40, (30, rows, columns), generator=torch.Generator().manual_seed(0))
    tokenizer = Colours()
    sheet = code_portraits(tokenizer, grids)
    again = code_portraits(Colours(), grids)
    assert sheet.tobytes() == again.tobytes()
    codes = len(most_used(torch.bincount(grids.flatten()), 32))
    assert sheet.height == 20 + -(-codes // 2) * 68 + 4
    assert max(shape[0] for shape in tokenizer.decoded) <= 16, "never many pictures at once"
    shape = (min(3, rows), min(3, columns))
    code = most_used(torch.bincount(grids.flatten()), 1)[0]
    box = np.asarray(sheet)[FIRST_ROW - 32 : FIRST_ROW + 32, COLUMNS[0] - 32 : COLUMNS[0] + 32]
    filled = (box == colour(code)).all(-1)
    sides = [round(64 * side / max(shape)) for side in shape]
    assert (int(filled.any(1).sum()), int(filled.any(0).sum())) == tuple(sides)


def test_int32_tokens_of_a_cache_are_taken_as_they_are() -> None:
    grids = torch.arange(24).reshape(2, 3, 4)
    assert code_portraits(Colours(), grids.int()).tobytes() == code_portraits(Colours(), grids).tobytes()


@pytest.mark.parametrize(("pictures", "most"), [(0, 4), (2, 0)])
def test_nothing_to_show_is_refused(pictures: int, most: int) -> None:
    with pytest.raises(ConfigError):
        code_portraits(Colours(), torch.zeros(pictures, 2, 2, dtype=torch.long), most=most)
