"""What a model makes of captions and pictures, and pictures that are drawn on from tokens, against a real server."""

import base64
import io
import json
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from PIL import Image

from tests.serving.conftest import Running, Start
from tests.serving.test_official_client import opened, png
from tests.serving.test_parts import job
from trencadis import DALLE
from trencadis.drawn import read_record
from trencadis.errors import ConfigError
from trencadis.serving.faults import ApiError
from trencadis.serving.jobs import Event, Finished
from trencadis.serving.metrics import Metrics
from trencadis.serving.questions import Question
from trencadis.serving.scheduler import Scheduler
from trencadis.serving.settings import ServingConfig

GRID = torch.randint(32, (4, 4), generator=torch.Generator().manual_seed(1)).tolist()
GENERATIONS = "/v1/images/generations"
JUDGED = "/v1/trencadis"


@pytest.fixture(scope="module")
def model(tiny: Path) -> DALLE:
    return DALLE.from_pretrained(tiny)


def ask(server: Running, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx2.post(server.url + path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def flat(rows: list[list[int]]) -> list[int]:
    return [token for row in rows for token in row]


def test_captions_say_what_is_read(server: Running, model: DALLE) -> None:
    short = ask(server, f"{JUDGED}/captions", prompt="A  red heart")
    tokens = model.text_tokenizer.encode("A  red heart")
    read = model.text_tokenizer.decode(tokens)
    assert short == {"tokens": len(tokens), "text_len": 8, "truncated": False, "read": read}
    long = ask(server, f"{JUDGED}/captions", prompt="a red heart " * 9)
    assert long["truncated"]
    assert long["tokens"] > 8
    assert long["read"] == model.text_tokenizer.decode(model.text_tokenizer.encode("a red heart " * 9)[:8])
    assert ask(server, f"{JUDGED}/captions", prompt="") == {"tokens": 0, "text_len": 8, "truncated": False, "read": ""}


def test_surprise_is_what_the_call_says_of_tokens_and_of_a_picture(server: Running, model: DALLE) -> None:
    picture = Image.open(io.BytesIO(png(size=(30, 20))))
    raw = base64.b64encode(png(size=(30, 20))).decode()
    for body, own in (({"tokens": GRID}, GRID), ({"image": raw}, picture)):
        found = ask(server, f"{JUDGED}/surprise", prompt="a red heart", **body)
        expected = model.surprise(own, "a red heart")
        assert found["tokens"] == expected.image_tokens.tolist()
        assert torch.equal(torch.tensor(found["bits"], dtype=torch.float64), expected.bits)
        alone = torch.tensor(found["bits_without_caption"], dtype=torch.float64)
        assert torch.equal(alone, expected.bits_without_caption)
        assert (found["log_probability"], found["likelihood"]) == (expected.log_probability, expected.likelihood)


def test_tiles_show_pictures_with_the_likeliest_tokens_in_place(server: Running, model: DALLE) -> None:
    place = {"row": 1, "column": 2, "count": 16, "guidance_scale": 2.0}
    found = ask(server, f"{JUDGED}/tiles", prompt="a red heart", tokens=GRID, **place)
    expected = model.tiles(GRID, "a red heart", 1, 2, count=16, guidance_scale=2.0)
    assert len(found["tiles"]) == 16
    for shown, tile in zip([*found["tiles"], found["current"]], [*expected.likeliest, expected.current], strict=True):
        assert (shown["token"], shown["probability"]) == (tile.token, tile.probability)
        assert opened(shown["b64_json"]).tobytes() == tile.image.tobytes()
    assert found["current"]["token"] == GRID[1][2]
    usual = ask(server, f"{JUDGED}/tiles", prompt="a red heart", tokens=GRID, row=0, column=0)
    assert len(usual["tiles"]) == 8


def test_drawing_goes_on_from_kept_tokens_and_answers_the_tokens(server: Running, model: DALLE) -> None:
    body = {"prompt": "a red heart", "seed": 7, "n": 2, "temperature": 2.0, "image_tokens": GRID, "kept_tokens": 6}
    data = ask(server, GENERATIONS, **body)["data"]
    alone = model.generate(
        "a red heart", candidates=2, seed=7, temperature=2.0, image_tokens=GRID, kept_tokens=6
    )  # fmt: skip
    assert [each["image_tokens"] for each in data] == alone.image_tokens.tolist()
    assert [flat(each["image_tokens"])[:6] for each in data] == [flat(GRID)[:6]] * 2
    assert data[0]["image_tokens"] != data[1]["image_tokens"]
    assert [opened(each["b64_json"]).tobytes() for each in data] == [image.tobytes() for image in alone.images]
    assert [read_record(opened(each["b64_json"])) for each in data] == alone.records
    streamed = httpx2.post(server.url + GENERATIONS, json={**body, "stream": True, "partial_images": 1}, timeout=60)
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: ")]
    completed = [event for event in events if event["type"] == "image_generation.completed"]
    assert [(event["image_tokens"], event["seed"]) for event in completed] == [
        (each["image_tokens"], each["seed"]) for each in data
    ]
    assert completed[0]["usage"]["input_tokens_details"]["image_tokens"] == 6


def test_a_picture_that_is_edited_answers_its_tokens_too(server: Running) -> None:
    answer = httpx2.post(
        f"{server.url}/v1/images/edits", data={"prompt": "x", "keep_rows": "2"}, files={"image": png()}, timeout=60
    )
    (edited,) = answer.json()["data"]
    assert opened(edited["b64_json"]).info["trencadis"]
    record = read_record(opened(edited["b64_json"]))
    assert record.image is not None
    assert flat(edited["image_tokens"])[:8] == list(record.image.kept_tokens[0][1])


def test_a_model_says_its_sizes_and_how_it_draws(server: Running) -> None:
    card = httpx2.get(f"{server.url}/v1/models/tiny").json()
    sizes = {"rows": 4, "columns": 4, "width": 16, "height": 16, "text_len": 8}
    assert {name: card[name] for name in sizes} == sizes
    assert (card["sampling"]["guidance_scale"], card["sampling"]["top_k"]) == (3.0, None)
    assert card["rankings"] == ["likelihood", "none"]
    assert httpx2.get(f"{server.url}/v1/models").json()["data"] == [card]


def test_a_ranking_is_chosen_by_the_request(server: Running, model: DALLE) -> None:
    body = {"prompt": "a red heart", "seed": 3, "n": 2, "candidates": 5}
    data = ask(server, GENERATIONS, **body, ranking="likelihood")["data"]
    alone = model.generate("a red heart", candidates=5, keep=2, seed=3, ranking="likelihood")
    assert [(each["seed"], each["score"]) for each in data] == list(zip(alone.seeds, alone.scores or [], strict=True))
    assert "clip_score" not in data[0]
    refused = httpx2.post(server.url + GENERATIONS, json={**body, "ranking": "clip"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "ranking")


SURPRISE: dict[str, Any] = {"prompt": "x", "tokens": GRID}
TILES: dict[str, Any] = {**SURPRISE, "row": 0, "column": 0}
DRAWN: dict[str, Any] = {"prompt": "x", "image_tokens": GRID, "kept_tokens": 3}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("captions", {}, "prompt"),
        ("captions", {"prompt": "x" * 5000}, "prompt"),
        ("captions", {"prompt": "x", "tokens": GRID}, "tokens"),
        ("surprise", {"prompt": "x"}, "image"),
        ("surprise", {**SURPRISE, "image": "eA=="}, "image"),
        ("surprise", {"prompt": "x", "image": "no base64"}, "image"),
        ("surprise", {"prompt": "x", "image": base64.b64encode(b"GIF89a").decode()}, "image"),
        ("surprise", {**SURPRISE, "prompt": "x" * 5000}, "prompt"),
        ("surprise", {**SURPRISE, "tokens": GRID[:3]}, "tokens"),
        ("surprise", {**SURPRISE, "tokens": [[]]}, "tokens"),
        ("surprise", {**SURPRISE, "tokens": [[32] * 4] * 4}, "tokens"),
        ("surprise", {**SURPRISE, "tokens": [[10**30] * 4] * 4}, "tokens"),
        ("surprise", {**SURPRISE, "tokens": [["1"] * 4] * 4}, "tokens"),
        ("tiles", {**TILES, "row": 4}, "row"),
        ("tiles", {**TILES, "column": -1}, "column"),
        ("tiles", {**TILES, "count": 17}, "count"),
        ("tiles", {**TILES, "count": 0}, "count"),
        ("tiles", {**TILES, "guidance_scale": 101}, "guidance_scale"),
        ("tiles", {**TILES, "tokens": [[-1] * 4] * 4}, "tokens"),
        ("generations", {**DRAWN, "kept_tokens": 17}, "kept_tokens"),
        ("generations", {"prompt": "x", "kept_tokens": 3}, "kept_tokens"),
        ("generations", {"prompt": "x", "image_tokens": GRID}, "image_tokens"),
        ("generations", {**DRAWN, "image_tokens": GRID[1:]}, "image_tokens"),
    ],
)
def test_what_cannot_be_judged_is_named(server: Running, path: str, body: dict[str, Any], param: str) -> None:
    route = GENERATIONS if path == "generations" else f"{JUDGED}/{path}"
    answer = httpx2.post(server.url + route, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_an_unknown_model_is_refused(server: Running) -> None:
    for path, body in (("captions", {"prompt": "x"}), ("surprise", SURPRISE), ("tiles", TILES)):
        answer = httpx2.post(f"{server.url}{JUDGED}/{path}", json={**body, "model": "dall-e-9"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_keys_limits_and_the_log(start: Start, tiny: Path) -> None:
    server = start("--model", str(tiny), "--rate-limit", "2", TRENCADIS_API_KEYS="own")
    own = {"Authorization": "Bearer own"}
    for path, body in (("captions", {"prompt": "x"}), ("surprise", SURPRISE), ("tiles", TILES)):
        assert httpx2.post(f"{server.url}{JUDGED}/{path}", json=body).status_code == 401
    typed = [httpx2.post(f"{server.url}{JUDGED}/captions", json={"prompt": "a secret"}, headers=own) for _ in range(9)]
    assert {each.status_code for each in typed} == {200}
    asked = [
        httpx2.post(f"{server.url}{JUDGED}/{path}", json={**body, "prompt": "a secret"}, headers=own)
        for path, body in (("surprise", SURPRISE), ("tiles", TILES), ("tiles", TILES))
    ]
    assert [each.status_code for each in asked] == [200, 200, 429]
    assert server.stop() == 0
    log = server.log.read_text()
    assert "secret" not in log
    assert "POST /v1/trencadis/tiles 429" in log


def wait_for(scheduler: Scheduler) -> None:
    end = time.monotonic() + 60
    while scheduler.open_jobs:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_questions_are_answered_by_the_thread_that_draws_and_change_no_picture(model: DALLE) -> None:
    scheduler = Scheduler("tiny", model, ServingConfig(batch_size=4), Metrics())
    events: list[Event] = []
    scheduler.submit(job(model, "a", 6, events, seed=5))
    order: list[str] = []

    def answer(name: str) -> tuple[str, list[list[float]]]:
        order.append(name)
        return threading.current_thread().name, model.surprise(GRID, "a red heart").bits.tolist()

    questions = [Question(lambda name=name: answer(name), name[0], 60.0) for name in ("a1", "a2", "a3", "b1")]  # type: ignore[misc]
    for question in questions:
        scheduler.ask(question)
    questions[1].answered.cancel()
    scheduler.start()
    wait_for(scheduler)
    scheduler.stop()
    bits = model.surprise(GRID, "a red heart").bits.tolist()
    assert [each.answered.result(60) for each in questions if each is not questions[1]] == [("draws tiny", bits)] * 3
    assert order == ["a1", "b1", "a3"]
    (finished,) = [event for event in events if isinstance(event, Finished)]
    alone = model.generate("a red heart", candidates=6, keep=6, seed=5)
    assert [image.tobytes() for image in finished.drawn.images] == [image.tobytes() for image in alone.images]


def test_a_question_that_fails_harms_no_other_and_none_waits_for_ever(model: DALLE) -> None:
    scheduler = Scheduler("tiny", model, ServingConfig(max_waiting=4), Metrics())

    def fail(error: Exception) -> None:
        raise error

    wrong = Question(lambda: fail(ConfigError("row 9", expected="less", remedy="choose it")), "a", 60.0)
    broken = Question(lambda: fail(ZeroDivisionError()), "a", 60.0)
    late = Question(lambda: 1, "a", -1.0)
    left = Question(lambda: 1, "a", 60.0)
    left.answered.cancel()
    questions = (wrong, broken, late, left)
    for question in questions:
        scheduler.ask(question)
    with pytest.raises(ApiError, match="4 requests are waiting already") as full:
        scheduler.ask(Question(lambda: 1, "b", 60.0))
    assert full.value.status == 429
    scheduler.start()
    wait_for(scheduler)
    statuses = []
    for question in questions[:3]:
        fault = question.answered.exception(60)
        assert isinstance(fault, ApiError)
        statuses.append((fault.status, fault.param))
    assert statuses == [(400, "row"), (500, None), (503, None)]
    with pytest.raises(CancelledError):
        left.answered.result(0)
    after = Question(lambda: 1, "a", 60.0)
    scheduler.ask(after)
    assert after.answered.result(60) == 1
    scheduler.drain()
    with pytest.raises(ApiError, match="about to stop"):
        scheduler.ask(Question(lambda: 1, "a", 60.0))
    scheduler.stop()


def test_questions_that_wait_when_the_server_stops_are_refused(model: DALLE) -> None:
    scheduler = Scheduler("tiny", model, ServingConfig(), Metrics())
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        inside.set()
        return int(go_on.wait(60))

    first, second = Question(slow, "a", 60.0), Question(lambda: 2, "a", 60.0)
    scheduler.ask(first)
    scheduler.ask(second)
    scheduler.start()
    assert inside.wait(60)
    stopping = threading.Thread(target=scheduler.stop)
    stopping.start()
    while not scheduler._is_stopped:
        time.sleep(0.01)
    go_on.set()
    stopping.join(60)
    assert first.answered.result(0) == 1
    fault = second.answered.exception(0)
    assert isinstance(fault, ApiError)
    assert (fault.status, fault.body["error"]["code"]) == (503, "shutting_down")
