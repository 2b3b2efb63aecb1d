"""Boxes of random crops against the paper's code, written out."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trencadis.data.crop_boxes import (
    CAPTIONED_CROPS,
    TOKENIZER_CROPS,
    Box,
    CropRule,
    centre_box,
    random_box,
    random_whole_box,
    whole_box,
)

Square = tuple[int, int, int]  # left and top in the picture, side


def papers_image_stage(height: int, width: int, target: int, draw: random.Random) -> tuple[Square, int, int, int]:
    """Ramesh et al. 2021, appendix A.2: the square, its resized side, and left and top of the crop in that."""
    shortest = min(height, width)
    left, top = draw.randint(0, width - shortest), draw.randint(0, height - shortest)
    resized = draw.randint(min(shortest, round(9 / 8 * target)), min(shortest, round(12 / 8 * target)))
    return (left, top, shortest), resized, draw.randint(0, resized - target), draw.randint(0, resized - target)


def papers_caption_stage(height: int, width: int, target: int, draw: random.Random) -> tuple[Square, int, int, int]:
    """The same, appendix B.2."""
    shortest = min(height, width)
    left, top = (draw.randint(3 * (edge - shortest) // 8, 5 * (edge - shortest) // 8) for edge in (width, height))
    resized = draw.randint(target, min(shortest, round(9 / 8 * target)))
    return (left, top, shortest), resized, draw.randint(0, resized - target), draw.randint(0, resized - target)


def papers_box(drawn: tuple[Square, int, int, int], target: int) -> Box:
    (left, top, side), resized, across, down = drawn
    unit = side / resized
    return (
        left + unit * across,
        top + unit * down,
        left + unit * (across + target),
        top + unit * (down + target),
    )


STAGES = [
    pytest.param(TOKENIZER_CROPS, papers_image_stage, id="image"),
    pytest.param(CAPTIONED_CROPS, papers_caption_stage, id="captions"),
]


@pytest.mark.parametrize(("rule", "paper"), STAGES)
@pytest.mark.parametrize("size", [(100, 64), (72, 72), (90, 300), (70, 70)])
def test_boxes_are_the_papers(
    rule: CropRule, paper: Callable[..., tuple[Square, int, int, int]], size: tuple[int, int]
) -> None:
    """Left, top, right and bottom have the same least, greatest and mean over many draws."""
    draw = random.Random(0)
    ours = [random_box(size, (64, 64), rule, (number,)) for number in range(1000)]
    theirs = [papers_box(paper(*size, 64, draw), 64) for _ in range(1000)]
    for edge in range(4):
        mine, right = [box[edge] for box in ours], [box[edge] for box in theirs]
        spread = max(right) - min(right)
        assert min(mine) == pytest.approx(min(right), abs=0.05 * spread + 1e-9)
        assert max(mine) == pytest.approx(max(right), abs=0.05 * spread + 1e-9)
        assert sum(mine) / 1000 == pytest.approx(sum(right) / 1000, abs=0.05 * spread + 1e-9)


SIDES = st.integers(1, 600)


@given(SIDES, SIDES, st.integers(1, 200), st.integers(1, 200), st.sampled_from([TOKENIZER_CROPS, CAPTIONED_CROPS]))
def test_random_boxes_keep_their_bounds(height: int, width: int, rows: int, columns: int, rule: CropRule) -> None:
    largest = min(height / rows, width / columns)
    left, top, right, bottom = random_box((height, width), (rows, columns), rule, (height, width))
    assert left >= 0
    assert top >= 0
    assert right <= width
    assert bottom <= height
    assert (right - left) / columns == pytest.approx((bottom - top) / rows), "crops keep the aspect"
    share = (right - left) / columns / largest
    # Resized by less than one pixel more or less than the bounds, as the paper rounds to pixels.
    side = min(rows, columns)
    assert share <= 1 + 1e-9
    assert share >= side / max(side, round(rule.most * side)) - 1e-9
    if largest < 1:
        assert share == pytest.approx(1), "a picture that is too small is enlarged, never cut"
    if largest >= rule.most:
        assert share <= side / round(rule.least * side) + 1e-9


@given(st.integers(64, 400), st.integers(64, 400), st.integers(0, 10**6))
def test_a_captioned_picture_loses_a_ninth_of_the_short_edge_at_most(height: int, width: int, key: int) -> None:
    left, top, right, bottom = random_box((height, width), (64, 64), CAPTIONED_CROPS, (key,))
    shortest = min(height, width)
    assert right - left >= shortest * 8 / 9 - 1e-9
    for near, far, edge in ((left, right, width), (top, bottom, height)):
        room = edge - shortest
        assert near >= int(3 / 8 * room)
        assert far <= int(5 / 8 * room) + shortest + 1e-9


@given(SIDES, SIDES, st.integers(1, 200), st.integers(1, 200))
def test_middle_and_whole_boxes(height: int, width: int, rows: int, columns: int) -> None:
    left, top, right, bottom = centre_box((height, width), (rows, columns))
    assert (right - left == pytest.approx(width)) or (bottom - top == pytest.approx(height))
    assert abs(left - (width - right)) < 2
    assert abs(top - (height - bottom)) < 2
    left, top, right, bottom = whole_box((height, width), (rows, columns))
    assert left <= 0
    assert top <= 0
    assert right >= width - 1e-6
    assert bottom >= height - 1e-6
    assert (right - left == pytest.approx(width)) or (bottom - top == pytest.approx(height))


@st.composite
def drawings(draw: st.DrawFn) -> tuple[tuple[int, int], Box]:
    """A picture's size and the box of what is drawn in it."""
    height, width = draw(st.integers(8, 300)), draw(st.integers(8, 300))
    left, right = sorted(draw(st.tuples(st.integers(0, width), st.integers(0, width))))
    top, bottom = sorted(draw(st.tuples(st.integers(0, height), st.integers(0, height))))
    return (height, width), (left, top, right, bottom)


@given(
    drawings(),
    st.sampled_from([(64, 64), (32, 96), (90, 30)]),
    st.sampled_from([TOKENIZER_CROPS, CAPTIONED_CROPS]),
    st.integers(0, 1000),
)
def test_a_drawing_is_never_cut(
    drawing: tuple[tuple[int, int], Box], image_size: tuple[int, int], rule: CropRule, key: int
) -> None:
    size, subject = drawing
    box = random_whole_box(size, image_size, subject, rule, (key,))
    assert box[0] <= subject[0] + 1e-6
    assert box[1] <= subject[1] + 1e-6
    assert box[2] >= subject[2] - 1e-6
    assert box[3] >= subject[3] - 1e-6
    whole = whole_box(size, image_size)
    zoom = (whole[2] - whole[0]) / (box[2] - box[0])
    assert 8 / 9 - 1e-9 <= zoom <= max(1, rule.most) + 1e-9
    assert (box[3] - box[1]) / image_size[0] == pytest.approx((box[2] - box[0]) / image_size[1])


def test_drawings_shrink_grow_and_move() -> None:
    boxes = [random_whole_box((96, 96), (64, 64), (30, 30, 50, 50), CAPTIONED_CROPS, (key,)) for key in range(500)]
    zooms = [96 / (box[2] - box[0]) for box in boxes]
    assert min(zooms) == pytest.approx(8 / 9, abs=0.01)
    assert max(zooms) == pytest.approx(9 / 8, abs=0.01)
    assert len({round(box[0], 3) for box in boxes}) > 200
    assert {math.copysign(1, box[0]) for box in boxes} == {-1, 1}
