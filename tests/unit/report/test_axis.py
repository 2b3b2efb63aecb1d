from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trencadis.report.axis import linear_ticks, logarithmic_ticks, number_text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, (0, 2, 4, 6, 8, 10)),
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (-0.31, 0.72, (-0.25, 0, 0.25, 0.5)),
        (3000, 3100, (3000, 3020, 3040, 3060, 3080, 3100)),
        (0, 0.0015, (0, 0.0005, 0.001, 0.0015)),
    ],
)
def test_linear_ticks_are_round(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert linear_ticks(low, high) == expected


@given(
    st.floats(-1e9, 1e9),
    st.floats(1e-3, 1e9),
    st.integers(2, 12),
)
def test_linear_ticks_are_few_even_and_within(low: float, span: float, count: int) -> None:
    high = low + max(span, abs(low) * 1e-6)
    ticks = linear_ticks(low, high, count)
    assert 1 <= len(ticks) <= count + 1
    slack = (high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    gaps = [b - a for a, b in pairwise(ticks)]
    assert gaps == pytest.approx([gaps[0]] * len(gaps), rel=1e-3) if gaps else True


@pytest.mark.parametrize("high", [1, 2, 3, 4, 6, 7, 12, 33])
def test_ticks_of_whole_things_are_whole(high: int) -> None:
    ticks = linear_ticks(0, high, 5, 1.0)
    assert all(tick == int(tick) for tick in ticks)
    assert len(ticks) >= 2


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1, 1000, (1, 10, 100, 1000)),
        (0.05, 1.2, (0.05, 0.1, 0.2, 0.5, 1)),
        (3.1, 3.9, (3.2, 3.4, 3.6, 3.8)),
        (1e-9, 1e9, (1e-9, 1e-6, 1e-3, 1, 1e3, 1e6, 1e9)),
    ],
)
def test_logarithmic_ticks_follow_the_range(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert logarithmic_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "ticks", "expected"),
    [
        (0, (), "0"),
        (0.5, (0, 0.25, 0.5), "0.50"),
        (0, (0, 0.25, 0.5), "0.00"),
        (2000, (0, 2000, 4000), "2000"),
        (20_000, (0, 20_000), "20k"),
        (0, (0, 20_000), "0"),
        (2_500_000, (), "2.5M"),
        (-0.274, (), "−0.274"),
        (0.00012, (), "1.2·10⁻⁴"),
        (-1e-5, (), "−1·10⁻⁵"),
        (3.14159, (), "3.14"),
        (1234.5, (), "1234"),
    ],
)
def test_numbers_are_written_short(value: float, ticks: tuple[float, ...], expected: str) -> None:
    assert number_text(value, ticks) == expected
