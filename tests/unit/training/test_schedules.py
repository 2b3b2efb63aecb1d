from itertools import pairwise

import pytest

from trencadis.training.schedules import cosine_schedule


def test_the_way_from_start_to_end() -> None:
    values = [cosine_schedule(step, start=1.0, end=1 / 16, steps=100) for step in (0, 50, 100, 1000)]
    assert values == pytest.approx([1.0, (1 + 1 / 16) / 2, 1 / 16, 1 / 16])


@pytest.mark.parametrize(("start", "end"), [(0.0, 6.6), (1.0, 1 / 16)])
def test_it_never_turns_and_is_flat_at_both_ends(start: float, end: float) -> None:
    values = [cosine_schedule(step, start=start, end=end, steps=100) for step in range(102)]
    rises = [(after - before) * (1 if end > start else -1) for before, after in pairwise(values)]
    assert min(rises) >= 0
    assert rises[0] < rises[50] / 10
    assert rises[99] < rises[50] / 10


def test_no_steps_is_the_end_at_once() -> None:
    assert cosine_schedule(0, start=1.0, end=0.5, steps=0) == 0.5
