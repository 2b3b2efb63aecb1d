"""Portraits of codes, by a tokenizer whose codes are colours."""

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.errors import ConfigError
from trencadis.image.code_portraits import code_portraits, most_used, places_of

SIDE = 8  # pixels of a token
LEFT, TOP, STEP, COLUMN = 76, 24, 68, 76 + 5 * 68 + 20  # of the sheet


class Colours:
    """Code k is a square of the colour (k, 2k, 255 - k)."""

    image_size = drawn_size = (32, 32)
    grid_size = (4, 4)
    image_vocab_size = 100
    down_factor = SIDE

    def __init__(self) -> None:
        self.decoded: list[int] = []

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Int[Tensor, "batch rows columns"]:
        raise NotImplementedError

    def decode(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        self.decoded.append(len(image_tokens))
        colours = torch.stack([image_tokens, 2 * image_tokens, 255 - image_tokens], dim=1) / 255
        return colours.repeat_interleave(SIDE, 2).repeat_interleave(SIDE, 3)


def portraits(grids: Tensor, row: int, *, column: int = 0) -> np.ndarray:
    """Return the five portraits of a row, side by side."""
    sheet = np.asarray(code_portraits(Colours(), grids))
    top, left = TOP + row * STEP, column * COLUMN + LEFT
    return np.stack([sheet[top : top + 64, left + slot * STEP : left + slot * STEP + 64] for slot in range(5)])


def is_colour(pixels: np.ndarray, code: int) -> np.ndarray:
    return np.asarray((pixels == (code, 2 * code, 255 - code)).all(-1))


def test_the_most_used_come_first_and_equals_in_their_order() -> None:
    counts = torch.tensor([3, 0, 7, 3, 1])
    assert most_used(counts, 9) == [2, 0, 3, 4]
    assert most_used(counts, 2) == [2, 0]


def test_places_are_in_as_many_images_as_there_are() -> None:
    grids = torch.zeros(40, 3, 5, dtype=torch.long)
    grids[7, 1, 4] = grids[7, 2, 2] = grids[31, 0, 0] = 9
    assert places_of(9, grids) == [(7, 1, 4), (7, 2, 2), (31, 0, 0)]
    # Everywhere else is code 0: an image of each quarter, and in it the middle of its 15 places.
    assert places_of(0, grids) == [(number, 1, 2) for number in (5, 15, 25, 35)]
    assert places_of(3, grids) == []


@pytest.mark.parametrize("images", [1, 2, 3, 4, 5, 9])
def test_places_are_different_and_hold_the_code(images: int) -> None:
    grids = torch.randint(2, (images, 3, 2), generator=torch.Generator().manual_seed(images))
    for code in (0, 1):
        places = places_of(code, grids)
        assert len(set(places)) == len(places) == min(4, int((grids == code).sum()))
        assert all(grids[place] == code for place in places)
        assert len({place[0] for place in places}) == min(4, int((grids == code).any(2).any(1).sum()))


def test_a_row_is_a_code_alone_and_where_it_occurs() -> None:
    grids = torch.full((2, 4, 4), 10)
    grids[0, 1:3, 1:3] = torch.tensor([[50, 60], [70, 80]])
    grids[1, 0, 0] = 90
    # The codes are in two columns from the top down: 10, 50, 60 to the left and 70, 80, 90 to the right.
    alone, place, *others = portraits(grids, 1)
    assert is_colour(alone, 50).all()
    points = {10: (10, 10), 50: (32, 32), 60: (32, 54), 70: (54, 32), 80: (54, 54)}
    assert all(is_colour(place, code)[point] for code, point in points.items())
    assert (np.stack(others) == (240, 239, 236)).all(), "it occurs once"
    assert is_colour(portraits(grids, 2, column=1)[0], 90).all()


def test_the_square_of_the_token_is_outlined_where_it_is() -> None:
    grids = torch.full((1, 5, 5), 10)
    grids[0, 4, 0] = 90
    black = np.argwhere((portraits(grids, 0, column=1)[1] == 0).all(-1))
    assert (black.min(0).tolist(), black.max(0).tolist()) == ([43, 0], [63, 20])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 6), (2, 2), (7, 2), (3, 9)])
def test_any_grid_has_portraits_in_batches_and_the_same_again(rows: int, columns: int) -> None:
    grids = torch.randint(40, (30, rows, columns), generator=torch.Generator().manual_seed(0))
    tokenizer = Colours()
    sheet = code_portraits(tokenizer, grids)
    assert sheet.tobytes() == code_portraits(Colours(), grids.int()).tobytes()
    codes = most_used(torch.bincount(grids.flatten()), 32)
    assert sheet.height == TOP + -(-len(codes) // 2) * STEP
    assert max(tokenizer.decoded) <= 16
    shape = (min(3, rows), min(3, columns))
    filled = is_colour(portraits(grids, 0)[0], codes[0])
    sides = [round(64 * side / max(shape)) for side in shape]
    assert [int(filled.any(1).sum()), int(filled.any(0).sum())] == sides


@pytest.mark.parametrize(("images", "max_codes"), [(0, 4), (2, 0)])
def test_nothing_to_show_is_refused(images: int, max_codes: int) -> None:
    with pytest.raises(ConfigError):
        code_portraits(Colours(), torch.zeros(images, 2, 2, dtype=torch.long), max_codes=max_codes)
