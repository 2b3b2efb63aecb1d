"""Full queues, deadlines, clients that leave, and the end."""

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from tests.serving.conftest import Running, Start

LIMIT_S = 60


def until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.02)


def ask(server: Running, answers: list[httpx2.Response], **body: object) -> threading.Thread:
    def post() -> None:
        answers.append(
            httpx2.post(f"{server.url}/v1/images/generations", json={"prompt": "x", **body}, timeout=LIMIT_S)
        )

    thread = threading.Thread(target=post)
    thread.start()
    return thread


def test_a_client_that_leaves_stops_its_drawing(start: Start, slow: Path) -> None:
    server = start("--model", str(slow))
    for stream in (False, True):
        before = server.metric("trencadis_cancelled_total")
        body = {"prompt": "x", "stream": stream, "partial_images": 3, "n": 4}
        try:
            timeout = httpx2.Timeout(LIMIT_S, read=0.3)
            with httpx2.stream("POST", f"{server.url}/v1/images/generations", json=body, timeout=timeout) as answer:
                next(answer.iter_raw())  # a stream is left at once, and what is not streamed when the time is over
        except httpx2.TimeoutException:
            pass
        until(lambda before=before: server.metric("trencadis_cancelled_total") == before + 1)  # type: ignore[misc]
        until(lambda: server.metric("trencadis_drawings") == 0)
    passes = server.metric("trencadis_pass_seconds_count")
    time.sleep(0.3)
    assert server.metric("trencadis_pass_seconds_count") == passes
    assert server.metric("trencadis_pictures_total") == 0


def test_what_is_too_late_or_too_much_says_when_to_try_again(start: Start, slow: Path) -> None:
    server = start("--model", str(slow), "--deadline-s", "1", "--max-waiting", "1")
    late: list[httpx2.Response] = []
    first = ask(server, late, n=10)
    until(lambda: server.metric("trencadis_drawings") > 0)
    answers: list[httpx2.Response] = []
    ask(server, answers).join()
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (429, "queue_full")
    first.join()
    assert (late[0].status_code, late[0].json()["error"]["code"]) == (503, "deadline_exceeded")
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers + late)
    with httpx2.stream(
        "POST", f"{server.url}/v1/images/generations", json={"prompt": "x", "n": 10, "stream": True}, timeout=LIMIT_S
    ) as answer:
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert answer.status_code == 200
    assert [event["error"]["code"] for event in events] == ["deadline_exceeded"]


def test_sigterm_ends_admitted_work_first(start: Start, slow: Path) -> None:
    server = start("--model", str(slow))
    answers: list[httpx2.Response] = []
    asked = [ask(server, answers, seed=seed) for seed in range(3)]
    until(lambda: server.metric("trencadis_drawings") == 3)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: httpx2.get(f"{server.url}/ready").status_code == 503)
    assert httpx2.get(f"{server.url}/health").status_code == 200
    refused: list[httpx2.Response] = []
    ask(server, refused).join()
    assert refused[0].status_code == 503
    assert refused[0].json()["error"]["code"] == "shutting_down"
    for thread in asked:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert server.process.wait(LIMIT_S) == 0


def test_what_is_not_drawn_by_the_end_of_grace_is_told_so(start: Start, slow: Path) -> None:
    server = start("--model", str(slow), "--grace-s", "0.2")
    answers: list[httpx2.Response] = []
    thread = ask(server, answers, n=10)
    until(lambda: server.metric("trencadis_drawings") > 0)
    assert server.stop() == 0
    thread.join()
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (503, "shutting_down")
