"""Several models in one server, pages of other origins, and the log of prompts."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.serving.conftest import Running, Start, save_model
from trencadis import DALLE

GENERATIONS = "/v1/images/generations"
PAGE = "https://page.example"
MOST = 8


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "larger", grid=8)


@pytest.fixture(scope="module")
def both(start: Start, tiny: Path, larger: Path, slow: Path) -> Iterator[Running]:
    models = [f"--model={name}={path}" for name, path in (("tiny", tiny), ("larger", larger), ("slow", slow))]
    running = start(*models, "--max-waiting", str(MOST), "--allow-origin", PAGE, "--log-prompts")
    yield running
    assert running.stop() == 0


def ask(server: Running, **body: Any) -> httpx2.Response:
    return httpx2.post(server.url + GENERATIONS, json={"prompt": "a red heart", **body}, timeout=120)


def picture(answer: httpx2.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))


def drawn(path: Path, seed: int) -> bytes:
    return DALLE.from_pretrained(path).generate("a red heart", candidates=1, keep=1, seed=seed).images[0].tobytes()


def test_a_request_is_drawn_by_the_model_that_it_names_and_else_by_the_first(
    both: Running, tiny: Path, larger: Path
) -> None:
    assert [card["id"] for card in httpx2.get(f"{both.url}/v1/models").json()["data"]] == ["tiny", "larger", "slow"]
    assert httpx2.get(f"{both.url}/v1/models/larger").json()["id"] == "larger"
    assert picture(ask(both, model="larger", seed=3)).tobytes() == drawn(larger, 3)
    assert picture(ask(both, seed=3)).tobytes() == drawn(tiny, 3)
    unknown = ask(both, model="another").json()["error"]
    assert unknown["code"] == "model_not_found"
    assert "tiny, larger, slow" in unknown["message"]


def test_two_models_that_draw_at_once_do_not_disturb_each_other(both: Running, tiny: Path, larger: Path) -> None:
    asked = [(name, seed) for seed in range(4) for name in ("tiny", "larger")]
    with ThreadPoolExecutor(len(asked)) as clients:
        answers = list(clients.map(lambda one: ask(both, model=one[0], seed=one[1]), asked))
    for (name, seed), answer in zip(asked, answers, strict=True):
        assert picture(answer).tobytes() == drawn({"tiny": tiny, "larger": larger}[name], seed)


def test_a_full_queue_of_one_model_does_not_refuse_requests_for_another(both: Running) -> None:
    with ExitStack() as streams, httpx2.Client(base_url=both.url, timeout=120) as client:
        for _ in range(MOST):
            body = {"prompt": "x", "model": "slow", "stream": True}
            assert streams.enter_context(client.stream("POST", GENERATIONS, json=body)).status_code == 200
        refused = ask(both, model="slow")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert ask(both, model="tiny").status_code == 200


def test_pages_of_allowed_origins_may_ask_and_no_others(both: Running, server: Running) -> None:
    def allowed(running: Running, origin: str, method: str = "OPTIONS") -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        path = GENERATIONS if method == "OPTIONS" else "/health"
        return httpx2.request(method, running.url + path, headers=headers).headers.get("access-control-allow-origin")

    for method in ("OPTIONS", "GET"):
        assert allowed(both, PAGE, method) == PAGE
        assert allowed(both, "https://other.example", method) is None
        assert allowed(server, PAGE, method) is None


def test_prompts_are_logged_where_that_is_asked_for_and_on_one_line(both: Running) -> None:
    prompt = "a heart\nof gold"
    identity = ask(both, prompt=prompt).headers["x-request-id"]
    lines = [line for line in both.log.read_text().splitlines() if identity in line and "prompt:" in line]
    assert len(lines) == 1
    assert "of gold" in lines[0]
