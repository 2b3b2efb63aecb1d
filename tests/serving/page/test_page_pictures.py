"""The gallery, pictures that are opened, and pictures that a drawing starts from."""

import base64
import io
import json
import zipfile
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.serving.conftest import Running
from tests.serving.page.conftest import DESK, PHONE, Visit, stored_pictures

_DROP = """async ([selector, base64, name]) => {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, { type: "image/png" }));
    const target = document.querySelector(selector);
    target.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def drop(page: Page, selector: str, content: bytes) -> None:
    page.evaluate(_DROP, [selector, base64.b64encode(content).decode(), "picture.png"])


def draw(page: Page, count: int, prompt: str = "a red heart") -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#stage .picture")).to_have_count(count)


def post(server: Running, route: str, **options: object) -> bytes:
    """Return the first picture of an answer."""
    answer = httpx2.post(f"{server.url}/v1/images/{route}", **options)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


def noise(side: int = 16) -> bytes:
    """Return a picture of random pixels as a PNG."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_gallery_survives_a_reload(visit: Visit, width: int) -> None:
    page = visit(width=width)
    draw(page, 4)
    expect(page.locator("#gallery .picture")).to_have_count(0)
    draw(page, 4, "a blue circle")
    expect(page.locator("#gallery-count")).to_have_text("8")
    expect(page.locator("#gallery .picture")).to_have_count(4)
    before = stored_pictures(page)
    page.reload()
    expect(page.locator("#gallery .picture")).to_have_count(8)
    expect(page.locator("#gallery .picture img").first).to_have_attribute("alt", "a blue circle")
    assert stored_pictures(page) == before
    assert page.evaluate("document.scrollingElement.scrollWidth") == width, "it scrolls sideways"


def test_its_settings_draw_a_picture_again(visit: Visit) -> None:
    page = visit()
    page.get_by_label("Temperature").fill("0.7")
    page.get_by_label("Negative prompt").fill("a circle")
    draw(page, 4)
    expect(page.locator("#gallery-count")).to_have_text("4")
    third = stored_pictures(page)[2]
    page.get_by_role("button", name="Reset settings").click()
    page.get_by_label("Prompt", exact=True).fill("")
    page.locator("#stage .picture").nth(2).click()
    expect(page.locator("#viewer-facts")).to_contain_text("0.7")
    page.get_by_role("button", name="Use these settings").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a red heart")
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#gallery-count")).to_have_text("5")
    assert stored_pictures(page)[0] == third


def test_a_picture_is_deleted_and_brought_back(visit: Visit) -> None:
    page = visit()
    draw(page, 4)
    expect(page.locator("#gallery-count")).to_have_text("4")
    before = stored_pictures(page)
    page.locator("#stage .picture").nth(1).click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#stage .picture")).to_have_count(3)
    expect(page.locator("#gallery-count")).to_have_text("3")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#gallery-count")).to_have_text("4")
    assert stored_pictures(page) == before
    page.get_by_role("button", name="Delete all").click()
    page.locator("#sure").get_by_role("button", name="Delete all").click()
    expect(page.locator("#gallery .picture")).to_have_count(0)
    page.reload()
    expect(page.locator("#gallery-empty")).to_be_visible()
    assert stored_pictures(page) == []


def test_pictures_are_downloaded_alone_and_in_an_archive(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    page.get_by_label("Seed", exact=True).fill("41")
    draw(page, 4, "a réd heart / 心")
    expect(page.locator("#gallery-count")).to_have_text("4")
    stored = stored_pictures(page)
    page.locator("#stage .picture").first.click()
    with page.expect_download() as one:
        page.get_by_role("button", name="Download", exact=True).click()
    page.get_by_role("button", name="Close").click()
    assert one.value.suggested_filename == "a-réd-heart-心-41.png"
    assert Path(one.value.path()).read_bytes() == stored[0]
    draw(page, 4, "a réd heart / 心")  # the same seeds, so the same names
    expect(page.locator("#gallery-count")).to_have_text("8")
    with page.expect_download() as all_of_them:
        page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(all_of_them.value.path()) as archive:
        assert archive.testzip() is None
        assert {"a-réd-heart-心-41.png", "a-réd-heart-心-41-2.png"} <= set(archive.namelist())
        assert [archive.read(name) for name in archive.namelist()] == stored_pictures(page)
        assert archive.infolist()[0].date_time[0] > 2025


def test_a_dropped_png_restores_its_settings(visit: Visit, server: Running) -> None:
    asked = {"prompt": "ein Herz ♥", "seed": 2**62 + 1, "temperature": 0.5, "top_k": 7, "guidance_scale": 2.5}
    asked["guidance_schedule"] = "cosine"
    picture = post(server, "generations", json=asked)
    page = visit()
    drop(page, "#stage", picture)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("ein Herz ♥")
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(2**62 + 1))
    for label, value in (("Temperature", "0.5"), ("Top-k", "7"), ("Guidance", "2.5"), ("Pictures", "1")):
        expect(page.get_by_label(label, exact=True)).to_have_value(value)
    expect(page.locator("#stage .picture")).to_have_count(1)
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#gallery-count")).to_have_text("2")
    assert stored_pictures(page) == [picture, picture], "the same picture is drawn again"


def test_a_dropped_png_restores_what_was_kept(visit: Visit, server: Running) -> None:
    tokens = [[row * 4 + column for column in range(4)] for row in range(4)]
    picture = post(server, "generations", json={"prompt": "x", "seed": 3, "image_tokens": tokens, "kept_tokens": 6})
    page = visit()
    drop(page, "#stage", picture)
    expect(page.locator("#start-board [aria-selected=true]")).to_have_count(10)
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#gallery-count")).to_have_text("2")
    again, before = (np.asarray(Image.open(io.BytesIO(content))) for content in stored_pictures(page))
    np.testing.assert_array_equal(again, before)


def test_a_png_with_a_damaged_record_says_so(visit: Visit, server: Running) -> None:
    page = visit()
    page.get_by_label("Prompt", exact=True).fill("mine")
    picture = post(server, "generations", json={"prompt": "x"})
    drop(page, "#stage", picture.replace(b'{"prompt"', b'["prompt"'))
    expect(page.locator("#toast")).to_contain_text("damaged")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("mine")


def test_the_upper_rows_of_a_picture_are_kept(visit: Visit, server: Running) -> None:
    page = visit()
    picture = noise()
    drop(page, "#stage", picture)  # it has no record, so it is something to start from
    page.get_by_label("Rows kept from the top").fill("3")
    expect(page.locator("#start-board [aria-selected=true]")).to_have_count(4)
    page.get_by_label("Seed", exact=True).fill("5")
    page.get_by_label("Pictures", exact=True).fill("1")
    draw(page, 1)
    expect(page.locator("#gallery-count")).to_have_text("1")
    fields = {"prompt": "a red heart", "seed": "5", "keep_rows": "3"}
    assert stored_pictures(page) == [post(server, "edits", data=fields, files={"image": picture})]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_painted_part_of_a_picture_is_drawn_again(visit: Visit, server: Running, width: int) -> None:
    page = visit(width=width)
    picture = noise()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a picture").click()
    chooser.value.set_files({"name": "picture.png", "mimeType": "image/png", "buffer": picture})
    page.get_by_label("Rows kept from the top").fill("4")
    tiles = page.locator("#start-board [role=gridcell]")
    expect(tiles).to_have_count(16)
    boxes = [tiles.nth(place).bounding_box() for place in (5, 6)]
    centres = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes if box]
    page.mouse.move(*centres[0])
    page.mouse.down()
    page.mouse.move(*centres[1], steps=4)
    page.mouse.up()
    tiles.nth(6).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    marked = page.locator("#start-board [role=gridcell]").evaluate_all(
        "(cells) => cells.flatMap((cell, tile) => (cell.getAttribute('aria-selected') === 'true' ? [tile] : []))"
    )
    assert marked == [5, 6, 10]
    if width == PHONE:
        page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Seed", exact=True).fill("5")
    page.get_by_label("Pictures", exact=True).fill("1")
    draw(page, 1)
    expect(page.locator("#gallery-count")).to_have_text("1")
    alpha = np.full((16, 16), 255, dtype=np.uint8)
    for tile in marked:
        alpha[4 * (tile // 4) :, 4 * (tile % 4) :][:4, :4] = 0
    mask = io.BytesIO()
    Image.fromarray(np.dstack([np.zeros((16, 16, 3), np.uint8), alpha])).save(mask, "PNG")
    fields = {"prompt": "a red heart", "seed": "5"}
    files = {"image": picture, "mask": mask.getvalue()}
    assert stored_pictures(page) == [post(server, "edits", data=fields, files=files)]


def test_a_variation_has_no_prompt(visit: Visit, server: Running) -> None:
    page = visit()
    picture = noise()
    drop(page, "#start summary", picture)
    page.get_by_label("Pictures", exact=True).fill("1")
    page.get_by_label("Seed", exact=True).fill("9")
    page.get_by_role("button", name="Vary without a prompt").click()
    expect(page.locator("#gallery-count")).to_have_text("1")
    assert stored_pictures(page) == [post(server, "variations", data={"seed": "9"}, files={"image": picture})]


def test_a_picture_of_the_gallery_is_started_from(visit: Visit) -> None:
    page = visit()
    draw(page, 4)
    page.locator("#stage .picture").first.click()
    page.get_by_role("button", name="Start from it").click()
    with page.expect_request("**/v1/images/edits"):
        page.get_by_role("button", name="Draw").click()
    expect(page.locator("#gallery-count")).to_have_text("8")
    page.get_by_role("button", name="Remove").click()
    # Its settings bring back what it started from.
    page.locator("#stage .picture").first.click()
    page.get_by_role("button", name="Use these settings").click()
    expect(page.locator("#start-board [aria-selected=true]")).to_have_count(8)


def test_a_picture_of_another_model_is_shown_but_not_edited(visit: Visit, server: Running) -> None:
    picture = post(server, "generations", json={"prompt": "x"})
    with Image.open(io.BytesIO(picture)) as image:
        record = json.loads(image.info["trencadis"])
        page = visit()
        changed = io.BytesIO()
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_itxt("trencadis", json.dumps(record | {"model": "another"}))
        image.save(changed, "PNG", pnginfo=chunks)
    drop(page, "#stage", changed.getvalue())
    page.locator("#stage .picture").click()
    expect(page.locator("#choices-hint")).to_contain_text("is not on this server")
    expect(page.locator("#viewer-board [role=grid]")).to_have_count(0)
