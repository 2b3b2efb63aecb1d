"""The mosaic editor: other tiles in their places, what follows drawn again, and how surprising each tile is."""

import re

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.serving.conftest import Running
from tests.serving.page.conftest import DESK, PHONE, Visit, stored_pictures

PLACE = 6  # row 2, column 3 of 4 × 4


def open_picture(page: Page, seed: int = 41) -> None:
    if page.viewport_size and page.viewport_size["width"] == PHONE:
        page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Seed", exact=True).fill(str(seed))
    page.get_by_label("Pictures", exact=True).fill("1")
    page.get_by_label("Prompt", exact=True).fill("a red heart")
    page.get_by_role("button", name="Draw").click()
    page.locator("#stage .picture").click()


def tokens(server: Running, **body: object) -> list[list[int]]:
    answer = httpx2.post(f"{server.url}/v1/images/generations", json={"prompt": "a red heart", **body}).json()
    found: list[list[int]] = answer["data"][0]["image_tokens"]
    return found


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_another_tile_is_laid_and_what_follows_is_drawn_again(visit: Visit, server: Running, width: int) -> None:
    page = visit(width=width)
    open_picture(page)
    page.locator("#viewer-board [role=gridcell]").nth(PLACE).click()
    choices = page.locator("#choices-list button")
    expect(choices.locator("xpath=self::*[@aria-current='true']")).to_have_count(1)  # it may be a ninth
    expect(page.locator("#choices-title")).to_have_text("Row 2, column 3")
    shares = [float(text.strip("< %")) for text in choices.all_inner_texts()[:8]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 101
    with page.expect_request("**/v1/images/generations") as sent:
        choices.locator("xpath=self::*[@aria-current='false']").first.click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    asked = sent.value.post_data_json
    first = tokens(server, seed=41)
    changed = [number for row in asked["image_tokens"] for number in row]
    before = [number for row in first for number in row]
    assert changed[:PLACE] == before[:PLACE]
    assert changed[PLACE] != before[PLACE]
    assert (asked["kept_tokens"], asked["seed"]) == (PLACE + 1, 41)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#gallery-count")).to_have_text("2")
    expected = tokens(server, seed=41, image_tokens=asked["image_tokens"], kept_tokens=PLACE + 1)
    assert [number for row in expected for number in row][: PLACE + 1] == changed[: PLACE + 1]
    edited, drawn = stored_pictures(page)
    assert edited != drawn
    # Its settings have the tiles that were kept.
    page.locator("#gallery .picture").first.click()
    page.get_by_role("button", name="Use these settings").click()
    expect(page.locator("#start-board [aria-selected=true]")).to_have_count(16 - PLACE - 1)
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#gallery-count")).to_have_text("3")
    assert stored_pictures(page)[0] == edited


def test_an_edit_is_undone(visit: Visit) -> None:
    page = visit()
    open_picture(page)
    before = page.locator("#viewer-board img").get_attribute("src")
    page.locator("#viewer-board [role=gridcell]").first.click()
    page.locator("#choices-list button[aria-current=false]").first.click()
    undo = page.locator("#viewer-undo")
    expect(undo).to_be_visible()
    assert page.locator("#viewer-board img").get_attribute("src") != before
    undo.click()
    expect(page.locator("#viewer-board img")).to_have_attribute("src", before or "")
    expect(undo).to_be_hidden()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#gallery-count")).to_have_text("1")


def test_the_heat_map_shows_the_bits_of_each_tile(visit: Visit, server: Running) -> None:
    page = visit()
    open_picture(page)
    page.get_by_label("Surprise").check()
    tiles = page.locator("#viewer-board [role=gridcell]")
    expect(tiles.first).to_have_attribute("aria-label", re.compile(r"^row 1, column 1: \d+\.\d bits$"))
    own = tokens(server, seed=41)
    body = {"prompt": "a red heart", "tokens": own}
    judged = httpx2.post(f"{server.url}/v1/trencadis/surprise", json=body).json()
    said = [float(cell.get_attribute("title").split()[0]) for cell in tiles.all()]  # type: ignore[union-attr]
    assert said == pytest.approx([bits for row in judged["bits"] for bits in row], abs=0.051)
    heat = [float(cell.evaluate("(cell) => cell.style.getPropertyValue('--heat')")) for cell in tiles.all()]
    assert max(heat) == 1
    page.get_by_label("What the prompt decided").check()
    expect(tiles.first).to_have_attribute("title", re.compile("bits saved by the prompt$"))
    page.get_by_label("Picture", exact=True).check()
    expect(page.locator("[data-heat]")).to_have_count(0)


def test_tiles_are_reached_by_keyboard(visit: Visit) -> None:
    page = visit()
    open_picture(page)
    page.locator("#viewer-board [role=gridcell]").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "End", "ArrowRight", "Home", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#choices-title")).to_have_text("Row 3, column 2")
    expect(page.locator("#viewer-board [tabindex='0']")).to_have_count(1)
    choice = page.locator("#choices-list button[aria-current=false]").first
    before = page.locator("#viewer-board img").get_attribute("src")
    choice.focus()
    assert page.locator("#viewer-board img").get_attribute("src") != before, "it shows in its place"
    page.keyboard.press("Enter")
    expect(page.locator("#viewer-undo")).to_be_visible()
    expect(page.locator("#viewer-board [role=gridcell]").nth(9)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()


def test_what_the_server_refuses_is_said_in_the_editor(visit: Visit) -> None:
    page = visit()
    open_picture(page)
    error = {"message": "The model is busy.", "type": "server_error", "param": None, "code": "queue_full"}
    page.route("**/v1/trencadis/tiles", lambda route: route.fulfill(status=503, json={"error": error}))
    page.locator("#viewer-board [role=gridcell]").first.click()
    expect(page.locator("#viewer-said")).to_have_text("The model is busy.")
