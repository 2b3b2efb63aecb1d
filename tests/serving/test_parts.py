"""The parts of the server that need no server."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from trencadis import DALLE
from trencadis.drawn import Drawn
from trencadis.errors import ConfigError
from trencadis.sampling import Drawing
from trencadis.serving.faults import ApiError
from trencadis.serving.jobs import Event, Failed, Finished, Job, PartialPicture, Queued
from trencadis.serving.keys import Keys, digest
from trencadis.serving.links import Links
from trencadis.serving.metrics import Metrics
from trencadis.serving.rates import Rates
from trencadis.serving.scheduler import TURN, Scheduler
from trencadis.serving.settings import ServingConfig
from trencadis.serving.turns import Turns


@pytest.fixture(scope="module")
def model(tiny: Path) -> DALLE:
    return DALLE.from_pretrained(tiny)


def job(model: DALLE, client: str, count: int = 1, events: list[Event] | None = None, **options: Any) -> Job:
    prepared = model.prepare("a red heart", candidates=count, keep=count, seed=options.pop("seed", 0))
    publish = ([] if events is None else events).append
    return Job(prepared=prepared, client=client, deadline=time.monotonic() + 60, publish=publish, **options)


def drawn_until_done(scheduler: Scheduler) -> None:
    end = time.monotonic() + 60
    while scheduler.open_jobs:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_clients_take_turns(model: DALLE) -> None:
    turns = Turns[Job]()
    jobs = [job(model, "a", 3), job(model, "a"), job(model, "b", 2), job(model, "c")]
    for each in jobs:
        turns.add(each)
    order = []
    while (own := turns.next()) is not None:
        own.admitted += 1
        order.append(jobs.index(own))
        turns.took(own)
    assert order == [0, 2, 3, 0, 2, 0, 1]
    assert not len(turns)


def test_positions_are_in_the_order_of_turns_and_a_job_that_left_has_none(model: DALLE) -> None:
    turns = Turns[Job]()
    jobs = [job(model, "a"), job(model, "a"), job(model, "b"), job(model, "c")]
    for each in jobs:
        turns.add(each)
    turns.remove(jobs[2])
    turns.remove(jobs[2])
    assert [jobs.index(each) for each in turns.in_order()] == [0, 3, 1]


def test_a_full_batch_is_shared_and_pictures_do_not_depend_on_it(model: DALLE) -> None:
    scheduler = Scheduler("tiny", model, ServingConfig(batch_size=4), Metrics())
    events: list[list[Event]] = [[] for _ in range(5)]
    jobs = [job(model, f"{index % 2}", 6, own, seed=100 * index) for index, own in enumerate(events)]
    for each in jobs:
        scheduler.submit(each)
    scheduler.start()
    drawn_until_done(scheduler)
    scheduler.stop()
    for index, own in enumerate(events):
        finished = own[-1]
        assert isinstance(finished, Finished), own
        alone = model.generate("a red heart", candidates=6, keep=6, seed=100 * index)
        assert [image.tobytes() for image in finished.drawn.images] == [image.tobytes() for image in alone.images]
    assert TURN < 6
    assert isinstance(events[4][0], Queued)


def test_who_watches_leads_until_there_is_something_to_see(model: DALLE, monkeypatch: pytest.MonkeyPatch) -> None:
    from trencadis.sampling import Engine

    passes: list[tuple[int, ...]] = []  # seeds of each
    step = Engine.step

    def noted(self: Engine, drawings: list[Drawing] | None = None) -> list[Drawing]:
        passes.append(tuple(int(drawing.seeds[0]) for drawing in drawings or self.drawings))
        return step(self, drawings)

    monkeypatch.setattr(Engine, "step", noted)
    scheduler = Scheduler("tiny", model, ServingConfig(), Metrics())
    events: list[Event] = []
    for each in (job(model, "a"), job(model, "b", seed=1, events=events, partials=1), job(model, "c", seed=2)):
        scheduler.submit(each)
    scheduler.start()
    drawn_until_done(scheduler)
    scheduler.stop()
    # It enters with the first, and the third enters after one more pass. Of 16 tokens 8 are shown: 1 is there, 7 to go.
    assert passes[:6] == [(1,), (0, 1, 2), (1,), (0, 1, 2), (1,), (0, 1, 2)]
    assert (1,) not in passes[7:-1]
    partials = [event for event in events if isinstance(event, PartialPicture)]
    assert [(event.index, event.partial.drawn) for event in partials] == [(0, 8)]
    assert isinstance(events[-1], Finished)
    drawn = model.generate("a red heart", candidates=1, keep=1, seed=1)
    assert events[-1].drawn.images[0].tobytes() == drawn.images[0].tobytes()


def test_a_job_whose_client_leaves_during_a_pass_is_in_no_later_one(
    model: DALLE, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trencadis.sampling import Engine

    scheduler = Scheduler("tiny", model, ServingConfig(), Metrics())
    events: list[list[Event]] = [[], []]
    jobs = [job(model, f"{index}", 2, own, seed=10 * index) for index, own in enumerate(events)]
    passes: list[list[int]] = []
    step = Engine.step

    def noted(self: Engine, *chosen: Any) -> list[Drawing]:
        passes.append([int(drawing.seeds[0]) for drawing in self.drawings])
        if len(passes) == 3:
            scheduler.leave(jobs[0])
        return step(self, *chosen)

    monkeypatch.setattr(Engine, "step", noted)
    for each in jobs:
        scheduler.submit(each)
    scheduler.start()
    drawn_until_done(scheduler)
    scheduler.stop()
    assert passes == [[0, 10]] * 3 + [[10]] * 12
    assert [type(event) for event in events[0]] == []
    assert isinstance(events[1][-1], Finished)


def test_a_job_whose_client_left_is_not_finished(model: DALLE, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler("tiny", model, ServingConfig(), Metrics())
    events: list[list[Event]] = [[], []]
    jobs = [job(model, "a", 1, own) for own in events]
    is_held, goes_on, finish = threading.Event(), threading.Event(), model.finish

    def held(*arguments: Any) -> Drawn:
        is_held.set()
        assert goes_on.wait(60)
        return finish(*arguments)

    monkeypatch.setattr(model, "finish", held)
    scheduler.start()
    for each in jobs:
        scheduler.submit(each)
    assert is_held.wait(60)
    for each in jobs:
        scheduler.leave(each)
    drawn_until_done(scheduler)
    goes_on.set()
    scheduler.stop()
    assert not [event for own in events for event in own if not isinstance(event, Queued)]


def test_a_fault_while_drawing_fails_what_is_drawn_and_nothing_after_it(
    model: DALLE, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trencadis.sampling import Engine

    scheduler = Scheduler("tiny", model, ServingConfig(), Metrics())
    step = Engine.step

    def broken(self: Engine, *_: Any) -> Any:
        monkeypatch.setattr(Engine, "step", step)
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Engine, "step", broken)
    events: list[list[Event]] = [[], []]
    scheduler.start()
    for own in events:
        scheduler.submit(job(model, "a", 1, own))
        drawn_until_done(scheduler)
    scheduler.stop()
    assert isinstance(events[0][-1], Failed)
    assert isinstance(events[0][-1].error, ApiError)
    assert events[0][-1].error.status == 503
    assert isinstance(events[1][-1], Finished)
    with pytest.raises(ApiError, match="stop"):
        scheduler.submit(job(model, "a"))


def test_keys_are_digests(tmp_path: Path) -> None:
    keys = Keys.read(None, {"TRENCADIS_API_KEYS": "one,two"})
    assert keys.client("Bearer two", "address") == digest("two")
    assert "two" not in str(vars(keys))
    assert Keys([]).client(None, "address") == "address"
    for wrong in (None, "", "Bearer", "Bearer three", "Basic two"):
        with pytest.raises(ApiError):
            keys.client(wrong, "address")
    path = tmp_path / "keys"
    path.write_text("plain-key\n")
    with pytest.raises(ConfigError, match="line 1") as caught:
        Keys.read(str(path), {})
    assert "plain-key" not in str(caught.value)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="no keys"):
        Keys.read(str(path), {})
    with pytest.raises(ConfigError, match="cannot read"):
        Keys.read(str(tmp_path / "none"), {})


def test_a_rate_is_used_up_and_comes_back() -> None:
    now = [0.0]
    rates = Rates(2, clock=lambda: now[0])
    for _ in range(2):
        rates.count("a")
    with pytest.raises(ApiError) as caught:
        rates.count("a")
    assert caught.value.retry_after_s == 30
    rates.count("b")
    now[0] = 30
    rates.count("a")


def test_links_expire_and_the_oldest_make_room() -> None:
    now = [0.0]
    links = Links(10.0, 25, clock=lambda: now[0])
    names = [links.add(bytes(10), "png") for _ in range(3)]
    assert [links.get(name) is not None for name in names] == [False, True, True]
    now[0] = 10
    assert [links.get(name) for name in names] == [None] * 3
    assert len(set(names)) == 3
    assert all(len(name) >= 43 for name in names)


def test_prepared_and_finished_is_generated(model: DALLE) -> None:
    prepared = model.prepare("a red heart", candidates=3, keep=3, seed=5, temperature=0.7)
    engine = model.engine(prepared.request.num_slots)
    drawing = engine.admit(prepared.request)
    while not drawing.done:
        engine.step()
    drawn = model.finish(drawing.image_tokens, prepared)
    alone = model.generate("a red heart", candidates=3, keep=3, seed=5, temperature=0.7)
    assert drawn.records == alone.records
    assert torch.is_tensor(drawing.image_tokens)
    assert [image.tobytes() for image in drawn.images] == [image.tobytes() for image in alone.images]
