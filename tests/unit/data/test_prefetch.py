import threading
from collections.abc import Iterator

import pytest

from trencadis.data.prefetch import prefetch


@pytest.mark.parametrize("workers", [0, 1, 5])
def test_results_come_in_order(workers: int) -> None:
    assert list(prefetch(lambda number: number * 2, range(50), workers=workers)) == list(range(0, 100, 2))


def test_no_more_is_drawn_ahead_than_asked() -> None:
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = prefetch(lambda number: number, numbers(), workers=2, ahead=5)
    assert next(results) == 0
    assert len(drawn) == 5
    results.close()


def test_every_core_works_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis.data.prefetch.available_cores", lambda: 3)
    meeting = threading.Barrier(3, timeout=30)
    assert len(list(prefetch(lambda _: meeting.wait(), range(3)))) == 3


def test_workers_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=30)
    assert len(list(prefetch(lambda _: meeting.wait(), range(3), workers=3))) == 3
