import json
import math
from itertools import pairwise

import pytest
import torch

from trencadis.training import schedules
from trencadis.training.schedules import (
    PLATEAU_GAIN,
    PLATEAU_PATIENCE,
    Course,
    Plateaus,
    Rewarming,
    cosine_schedule,
)


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


def test_a_learning_rate_joins_a_longer_schedule() -> None:
    """Here one that falls to its end, as does a shorter one whose last update had 5 % of the peak."""
    peak, scheduled = 2.0, [1.5 - 0.1 * step for step in range(10)]
    rewarming = Rewarming(step=100, share=0.05, steps=3)
    rates = [rewarming.rate(rate, 100 + step, peak=peak) for step, rate in enumerate(scheduled)]
    assert 0.1 < rates[0] < rates[1] < rates[2] < rates[3]
    assert rates[3:] == scheduled[3:]
    assert Rewarming(step=100, share=0.05, steps=0).rate(1.5, 100, peak=peak) == 1.5
    flat = [Rewarming(step=0, share=0.05, steps=2).rate(0.1, step, peak=peak) for step in range(5)]
    assert flat == pytest.approx([0.1] * 5), "a schedule that is as low there is not left"


def test_an_unchanged_course_is_the_plan() -> None:
    course = Course(1000, 1000)
    assert [course.position(step) for step in range(1000)] == list(range(1000))
    assert Course(1, 1).position(0) == 0


@pytest.mark.parametrize("steps", [301, 302, 450, 1000, 2500])
def test_a_changed_course_passes_through_the_rest_of_the_schedules_to_their_end(steps: int) -> None:
    course = Course(1000, 1000).changed(300, steps)
    positions = [course.position(step) for step in range(300, steps)]
    assert positions[-1] == 999
    assert positions == sorted(positions)
    evenly = (999 - 299) / (steps - 300)
    assert positions == pytest.approx([299 + evenly * (n + 1) for n in range(len(positions))], abs=0.51)
    again = course.changed(steps - 1, steps + 50)
    assert again.position(steps + 49) == 999
    assert again.position(steps - 1) >= course.position(steps - 2)


def test_a_course_may_end_where_it_is() -> None:
    ended = Course(1000, 1000).changed(400, 400)
    assert ended.steps == 400
    assert ended.position(399) == 399


def reference(losses: list[float]) -> list[float]:
    """Return the learning rates that torch's own scheduler has after each window of losses."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=PLATEAU_PATIENCE, threshold=PLATEAU_GAIN, min_lr=1 / 32, eps=0.0
    )
    rates = []
    for loss in losses:
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("steepness", [0.0, 0.3, 1.0])
def test_a_rate_is_halved_at_plateaus_as_by_torch(steepness: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "PLATEAU_WINDOW", 2)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(80, generator=generator, dtype=torch.float64).tolist()
    means = [3.0 + math.exp(-steepness * index / 4) + 0.002 * noise[index] for index in range(80)]
    plateaus, factors = Plateaus(1 / 32), []
    for mean in means:
        for loss in (mean - 0.5, mean + 0.5):
            plateaus.observe(torch.tensor(loss, dtype=torch.float64))
        factors.append(plateaus.factor)
        plateaus = Plateaus(1 / 32, json.loads(json.dumps(plateaus.state)))
    assert factors == reference(means)
    assert factors[-1] < 1
