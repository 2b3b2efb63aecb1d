import json

import pytest

from trencadis.training.loop import SAVING_SHARE, Means, SavingTimes


def test_saving_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("trencadis.training.loop.time.monotonic", lambda: now)
    saving, spent_s = SavingTimes(60.0), 0.0
    saves: list[float] = []
    while now < 10_000:
        now += 1.0
        if saving.is_due():
            saves.append(now)
            with saving:
                now += 16.0
                spent_s += 16.0
    assert saves[0] == 60.0  # what it takes is not known yet
    assert (spent_s - 16.0) / (now - saves[0] - 16.0) < SAVING_SHARE
    assert len(saves) > 10


def test_a_fast_save_waits_for_the_least_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("trencadis.training.loop.time.monotonic", lambda: now)
    saving = SavingTimes(60.0)
    with saving:
        now += 0.1
    now += 59.0
    assert not saving.is_due()
    now += 1.5
    assert saving.is_due()


def test_means_go_on_from_a_checkpoint() -> None:
    values = [0.1, 0.7, 1e-9, 3.3]
    whole, before = Means({}), Means({})
    for value in values:
        whole.add({"loss": value})
    for value in values[:2]:
        before.add({"loss": value})
    after = Means(json.loads(json.dumps(before.sums)))
    for value in values[2:]:
        after.add({"loss": value, "late": 2.0})
    assert after.take() == whole.take() | {"late": 2.0}
    after.add({"loss": 5.0})
    assert after.take() == {"loss": 5.0}
