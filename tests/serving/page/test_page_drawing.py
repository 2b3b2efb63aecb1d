"""Drawing with the page: pictures fill in, can be cancelled, and say what is wrong."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, Route, expect

from tests.serving.conftest import Running, Start
from tests.serving.page.conftest import DESK, PHONE, Visit, stored_pictures

# The corner of a tile is empty until the picture is in its place.
PARTIAL_SHOWS = """() => {
    const canvas = document.querySelector("#stage canvas");
    return canvas && canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3] === 255;
}"""


def generate(server: Running, **body: object) -> list[bytes]:
    """Return pictures as the API draws them."""
    answer = httpx2.post(f"{server.url}/v1/images/generations", json=body)
    return [base64.b64decode(datum["b64_json"]) for datum in answer.json()["data"]]


def wait_until_cancelled(server: Running) -> None:
    """Wait until the server knows that a client has left."""
    end = time.monotonic() + 60
    while not server.metric("trencadis_cancelled_total"):
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.05)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_prompt_is_drawn_as_the_api_draws_it(visit: Visit, server: Running, width: int) -> None:
    page = visit(width=width)
    page.get_by_label("Prompt", exact=True).fill("a red heart")
    expect(page.locator("#tokens")).to_have_text(re.compile(r"^\d+ of 8 tokens$"))
    if width == PHONE:
        page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Pictures", exact=True).fill("3")
    page.get_by_label("Seed", exact=True).fill("41")
    page.get_by_label("Prompt", exact=True).press("Enter")
    expect(page.locator("#stage .picture img")).to_have_count(3)
    expect(page.locator("#stage")).to_contain_text("seed 41")
    expect(page.locator("#announce")).to_have_text("3 pictures are drawn.")
    expect(page.locator("#gallery-count")).to_have_text("3")
    assert stored_pictures(page) == generate(server, prompt="a red heart", n=3, seed=41)
    assert page.evaluate("document.scrollingElement.scrollWidth") == width, "it scrolls sideways"


def test_a_seed_changes_unless_it_is_kept(visit: Visit) -> None:
    page = visit()
    page.get_by_label("Prompt", exact=True).fill("a red heart")
    seed = page.get_by_label("Seed", exact=True)
    seeds = []
    for _ in range(2):
        page.get_by_role("button", name="Draw").click()
        expect(page.locator("#stage .picture")).to_have_count(4)
        seeds.append(seed.input_value())
    page.get_by_label("Keep this seed").check()
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#gallery-count")).to_have_text("12")
    assert seeds[0] != seeds[1] == seed.input_value()


def test_a_picture_fills_in_and_is_cancelled(visit: Visit, start: Start, slow: Path) -> None:
    server = start("--model", f"slow={slow}")
    page = visit(server)
    page.get_by_label("Prompt", exact=True).fill("a red heart")
    page.get_by_label("Pictures", exact=True).fill("2")
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#progress-said")).to_have_text(re.compile(r"^Drawing 2 pictures: [1-9]\d? %, .+ left$"))
    page.wait_for_function(PARTIAL_SHOWS)
    expect(page.locator("#announce")).to_have_text(re.compile(r"^(25|50|75) % drawn$"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#stage li")).to_have_count(0)
    expect(page.locator("#announce")).to_have_text("Cancelled.")
    wait_until_cancelled(server)
    # Escape does so too.
    page.get_by_label("Prompt", exact=True).press("Enter")
    expect(page.locator("#progress-said")).to_contain_text("%")
    page.keyboard.press("Escape")
    expect(page.locator("#progress")).to_be_hidden()
    server.stop()


def answering(**answer: object) -> Callable[[Route], None]:
    return lambda route: route.fulfill(**answer)  # type: ignore[arg-type]


def test_a_place_in_the_queue_is_told_and_a_failure_too(visit: Visit) -> None:
    page = visit()
    error = {
        "message": "This was not drawn in time.",
        "type": "server_error",
        "param": None,
        "code": "deadline_exceeded",
    }
    body = f": 3 requests before this one\n\n: 1 requests before this one\n\ndata: {json.dumps({'error': error})}\n\n"
    page.evaluate("""() => {
        window.told = [];
        const said = document.getElementById("progress-said");
        new MutationObserver(() => told.push(said.textContent)).observe(said, { childList: true });
    }""")
    stream = answering(body=body, headers={"Content-Type": "text/event-stream"})
    page.route("**/v1/images/generations", stream)
    page.get_by_label("Prompt", exact=True).fill("a red heart")
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("alert")).to_have_text("This was not drawn in time.")
    told = page.evaluate("told")
    assert "1 request is before this one." in told
    expect(page.locator("#stage li")).to_have_count(0)


def test_a_full_server_says_when_to_try_again(visit: Visit) -> None:
    page = visit()
    error = {"message": "64 requests are waiting already; try again later.", "param": None, "code": "queue_full"}
    full = answering(status=429, json={"error": error}, headers={"Retry-After": "1"})
    page.route("**/v1/images/generations", full)
    page.get_by_label("Prompt", exact=True).fill("a red heart")
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("alert")).to_contain_text("64 requests are waiting already")
    page.unroute("**/v1/images/generations")
    page.get_by_role("button", name="Try again", exact=True).click()
    expect(page.locator("#stage .picture")).to_have_count(4)
    expect(page.locator("#error")).to_be_empty()


def test_what_is_at_fault_is_marked(visit: Visit) -> None:
    page = visit(width=PHONE)
    prompt = page.get_by_label("Prompt", exact=True)
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("alert")).to_have_text("Describe a picture first.")
    expect(prompt).to_be_focused()
    prompt.fill("a red heart")
    expect(prompt).not_to_have_attribute("aria-invalid", "true")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Candidates").fill("100000")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_role("alert")).to_contain_text("candidates is 100000; expected")
    expect(page.get_by_label("Candidates")).to_be_focused()
    expect(page.get_by_label("Candidates")).to_have_attribute("aria-invalid", "true")


def test_a_prompt_that_is_too_long_is_shown_as_the_model_reads_it(visit: Visit) -> None:
    page = visit()
    page.get_by_label("Prompt", exact=True).fill("a red heart and a blue circle " * 4)
    expect(page.locator("#tokens")).to_have_text(re.compile(r"^\d+ tokens, but the model reads 8: “a red heart"))
    expect(page.locator("#tokens")).to_have_class(re.compile("warning"))


def test_it_draws_while_one_types(visit: Visit) -> None:
    page = visit()
    asked: list[dict[str, object]] = []
    page.on("request", lambda request: request.url.endswith("generations") and asked.append(request.post_data_json))
    page.get_by_label("Draw while typing").check()
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.press_sequentially("a red", delay=1)
    expect(page.locator("#stage .picture img")).to_have_attribute("alt", "a red")
    prompt.press_sequentially(" heart", delay=1)
    expect(page.locator("#stage .picture img")).to_have_attribute("alt", "a red heart")
    assert all((body["n"], body["candidates"]) == (1, 1) for body in asked)
    assert len({body["seed"] for body in asked}) == 1, "only the prompt changes"
    expect(page.locator("#gallery-count")).to_be_empty()
    page.get_by_role("button", name="Keep in the gallery").click()
    expect(page.locator("#gallery-count")).to_have_text("1")


def test_typing_stops_the_former_drawing(visit: Visit, start: Start, slow: Path) -> None:
    server = start("--model", f"slow={slow}")
    page = visit(server)
    page.get_by_label("Draw while typing").check()
    prompt = page.get_by_label("Prompt", exact=True)
    with page.expect_request("**/v1/images/generations"):
        prompt.press_sequentially("a", delay=1)
    with page.expect_request("**/v1/images/generations"):
        prompt.press_sequentially(" red", delay=1)
    wait_until_cancelled(server)
    server.stop()


def test_a_key_is_asked_for_and_kept_in_the_tab(visit: Visit, start: Start, tiny: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(hashlib.sha256(b"sesame").hexdigest() + "\n")
    server = start("--model", f"tiny={tiny}", "--keys-file", str(keys))

    def give(page: Page, key: str) -> None:
        page.get_by_label("API key", exact=True).fill(key)
        page.get_by_role("button", name="Continue").click()

    page = visit(server)
    give(page, "wrong")
    expect(page.locator("#key-fault")).to_contain_text("unknown")
    give(page, "sesame")
    page.get_by_label("Prompt", exact=True).fill("a red heart")
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#stage .picture")).to_have_count(4)
    page.reload()
    expect(page.locator("#gallery .picture")).to_have_count(4)
    expect(page.locator("#key")).to_be_hidden()
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    server.stop()


def test_a_server_that_does_not_answer_is_asked_again(visit: Visit) -> None:
    page = visit(before=lambda page: page.route("**/v1/models", lambda route: route.abort()))
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    page.unroute("**/v1/models")
    page.get_by_label("Prompt", exact=True).fill("a red heart")
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#stage .picture")).to_have_count(4)
