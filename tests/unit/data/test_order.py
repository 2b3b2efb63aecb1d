from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis.data import SampleOrder
from trencadis.errors import ConfigError


def taken(order: SampleOrder, steps: range) -> list[tuple[int, int]]:
    return [place for step in steps for place in order.positions(step)]


def names(count: int) -> list[str]:
    return [f"picture {number}.png" for number in range(count)]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 100), seed=st.integers(0, 2**63 - 1))
def test_every_sample_once_an_epoch(count: int, batch_size: int, seed: int) -> None:
    order = SampleOrder(names(count), [1.0] * count, batch_size, seed)
    epochs = 4
    places = taken(order, range(-(-epochs * count // batch_size)))
    assert all(len(order.positions(step)) == batch_size for step in range(3))
    assert [epoch for epoch, _ in places] == sorted(epoch for epoch, _ in places)
    for epoch in range(epochs):
        assert sorted(position for e, position in places if e == epoch) == list(range(count))


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=30).filter(lambda w: max(w) > 0.2),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 1000),
)
def test_weighted_samples_at_most_once_an_epoch(weights: list[float], batch_size: int, seed: int) -> None:
    order = SampleOrder(names(len(weights)), weights, batch_size, seed)
    places = taken(order, range(6))
    assert len(places) == 6 * batch_size
    assert max(Counter(places).values()) == 1
    whole_epochs = {epoch for epoch, _ in places} - {places[-1][0]}
    for epoch in whole_epochs:
        seen = [position for e, position in places if e == epoch]
        assert len(seen) == order.epoch_size(epoch)
        assert {position for position, weight in enumerate(weights) if weight == 1} <= set(seen)


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    weight=st.sampled_from([0.3, 1.0]),
    batch_size=st.integers(1, 20),
)
def test_a_step_depends_on_nothing_before_it(steps: list[int], weight: float, batch_size: int) -> None:
    weights = [weight] * 12 + [0.5]
    used = SampleOrder(names(13), weights, batch_size, 7)
    for step in steps:
        assert used.positions(step) == SampleOrder(names(13), weights, batch_size, 7).positions(step)


def test_share_of_epochs_is_the_weight() -> None:
    weights = [0.1, 0.5, 0.9] * 100
    order = SampleOrder(names(300), weights, 100, 3)
    counts: Counter[float] = Counter()
    epochs = 60
    for epoch, position in taken(order, range(150)):
        counts[weights[position]] += epoch < epochs
    for weight in (0.1, 0.5, 0.9):
        assert counts[weight] / (100 * epochs) == pytest.approx(weight, abs=0.03)


def test_order_hangs_on_ids_and_not_on_where_they_stand() -> None:
    ids = names(20)
    forwards = SampleOrder(ids, [1.0] * 20, 20, 5).positions(0)
    backwards = SampleOrder(ids[::-1], [1.0] * 20, 20, 5).positions(0)
    assert [ids[position] for _, position in forwards] == [ids[::-1][position] for _, position in backwards]


def test_order_is_shuffled_anew_for_seed_and_epoch() -> None:
    first, second = (SampleOrder(names(50), [1.0] * 50, 50, seed) for seed in (1, 2))
    orders = [[position for _, position in order.positions(step)] for order in (first, second) for step in (0, 1)]
    assert all(one != other for number, one in enumerate(orders) for other in orders[:number])
    assert all(order != sorted(order) for order in orders)


def test_order_is_the_same_on_every_machine() -> None:
    assert SampleOrder(names(8), [1.0] * 8, 8, 0).positions(0) == [(0, place) for place in [1, 4, 2, 5, 7, 3, 6, 0]]


@pytest.mark.parametrize(
    ("ids", "weights", "batch_size"),
    [([], [], 1), (["a"], [1.0, 1.0], 1), (["a"], [0.0], 1), (["a"], [1.5], 1), (["a"], [1.0], 0), (["a"], [1e-9], 1)],
)
def test_what_cannot_be_ordered_is_refused(ids: list[str], weights: list[float], batch_size: int) -> None:
    with pytest.raises(ConfigError):
        SampleOrder(ids, weights, batch_size, 0)
