"""Takes the picture of the web page: `python docs/draw_page.py` writes `images/page.png`, while pictures are drawn.

It needs Chromium: on Debian, the package chromium.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from trencadis.storage import write_picture

WIDTH, HEIGHT = 1280, 1060
WAIT_MS = 120_000
COLOURS = 256  # of the PNG, which is small then
SEED = 7
BEFORE = ("a yellow flower", "a blue fish", "a green tree", "a house")
PROMPT = "a red heart, 3D style"
# Under way, and the first partial pictures are there: the corner of a tile is empty before.
UNDER_WAY = """() => {
    const canvas = document.querySelector("#stage canvas");
    const isThere = canvas && canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3] === 255;
    return isThere && document.getElementById("progress-bar").value > 0.3;
}"""


def main() -> None:
    """Start a server, draw with its page, and take the picture."""
    parser = argparse.ArgumentParser(description="Takes the picture of the web page.")
    parser.add_argument("--model", default="emoji", help="shipped model or directory (emoji)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "page.png")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "trencadis", "serve", "--port", "0", "--model", arguments.model]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            url = next(found[1] for line in server.stderr if (found := re.search(r"running on (http://\S+)", line)))
            write_picture(arguments.out, taken(url))
        finally:
            server.terminate()


def taken(url: str) -> Image.Image:
    """Return the picture of the page of a server."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.set_default_timeout(WAIT_MS)
        page.goto(url)
        for prompt in BEFORE:
            draw(page, prompt, candidates=16)
            page.wait_for_selector("#stage .picture")
        draw(page, PROMPT, candidates=32)
        page.locator(".desk").evaluate("(desk) => desk.scrollTo(0, 0)")
        page.wait_for_function(UNDER_WAY)
        shot = page.screenshot()
        browser.close()
    return Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS)


def draw(page: Page, prompt: str, *, candidates: int) -> None:
    """Begin to draw four of the candidates."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Candidates").fill(str(candidates))
    page.get_by_label("Seed", exact=True).fill(str(SEED))
    page.get_by_role("button", name="Draw").click()
    page.wait_for_selector("#stage canvas")
    page.evaluate("scrollTo(0, 0)")


if __name__ == "__main__":
    main()
