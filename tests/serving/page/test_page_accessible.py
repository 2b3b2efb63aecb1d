"""The page without a mouse, and as axe-core judges it."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.serving.page.conftest import DESK, PHONE, Visit
from tests.serving.page.test_page_pictures import draw, drop, noise

AXE = Path(__file__).parents[3] / ".cache" / "node_modules" / "axe-core" / "axe.min.js"


def faults(page: Page) -> list[tuple[str, Any]]:
    """Return what axe-core calls serious or critical: the rule, and the elements."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    serious = [fault for fault in found["violations"] if fault["impact"] in ("serious", "critical")]
    return [(fault["id"], [node["html"][:120] for node in fault["nodes"]]) for fault in serious]


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core; `make test` fetches it where there is npm")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_axe_finds_no_serious_fault(visit: Visit, width: int, dark: bool) -> None:
    page = visit(width=width, dark=dark)
    expect(page.locator("#examples button").first).to_be_visible()
    assert faults(page) == [], "at the start"
    if width == PHONE:
        page.get_by_text("Settings", exact=True).click()
    page.get_by_role("button", name="Draw").click()
    assert faults(page) == [], "with an error"
    drop(page, "#start summary", noise())
    expect(page.locator("#start-board [role=gridcell]")).to_have_count(16)
    draw(page, 4)
    draw(page, 4, "a blue circle")
    assert faults(page) == [], "with pictures"
    page.locator("#stage .picture").first.click()
    page.locator("#viewer-board [role=gridcell]").nth(5).click()
    expect(page.locator("#choices-list button").nth(7)).to_be_visible()
    page.get_by_label("Surprise").check()
    expect(page.locator("#viewer-scale")).to_be_visible()
    assert faults(page) == [], "with a picture at large"


def test_a_picture_is_drawn_and_edited_by_keyboard_alone(visit: Visit) -> None:
    page = visit()
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    page.keyboard.type("a red heart")
    page.keyboard.press("Enter")
    expect(page.locator("#stage .picture")).to_have_count(4)

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                break
        expect(page.locator(f"{selector}:focus-visible")).to_have_count(1)
        style = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid", f"the focus does not show on {selector}"

    tab_to("#stage .picture")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    tab_to("#viewer-board [role=gridcell]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#choices-list button").nth(7)).to_be_visible()
    tab_to("#choices-list button")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator("#stage .picture").first).to_be_focused()


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_colours_follow_the_system(visit: Visit, width: int) -> None:
    grounds = []
    for dark in (False, True):
        page = visit(width=width, dark=dark)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(map(int, re.findall(r"\d+", colour)[:3])) / 3)
    assert grounds[0] > 200
    assert grounds[1] < 60


def test_nothing_moves_where_motion_is_unwanted(visit: Visit) -> None:
    page = visit(before=lambda page: page.emulate_media(reduced_motion="reduce"))
    page.evaluate("() => { window.frames_asked = 0; const ask = requestAnimationFrame;"
                  "window.requestAnimationFrame = (act) => { frames_asked += 1; return ask(act); }; }")  # fmt: skip
    draw(page, 4)
    assert page.evaluate("frames_asked") == 0
    assert page.locator(".picture img").first.evaluate("(image) => getComputedStyle(image).transitionDuration") == "0s"
