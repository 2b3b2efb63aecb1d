"""The web page in a real browser: Debian's Chromium, without a window."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.serving.conftest import Running

WAIT_MS = 20_000
PHONE, DESK = 390, 1280
Visit = Callable[..., Page]
# A refused request is also a line in the console; tests that refuse one look at the page instead.
_OF_REQUESTS = "Failed to load resource"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for a module's tests: while it runs, its thread has a running event loop."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium; on Debian, install the package chromium")
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Visit]:
    """A function that opens the page of a server in a new profile; nothing may fail in it."""
    faults: list[str] = []
    pages: list[Page] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and _OF_REQUESTS not in message.text:
            faults.append(message.text)

    def open_page(
        of: Running = server, *, width: int = DESK, dark: bool = False, before: Callable[[Page], None] | None = None
    ) -> Page:
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", on_console)
        pages.append(page)

        if callable(before):
            before(page)
        page.goto(of.url)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert not faults


_STORED = """async () => {
    const done = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
    const database = await done(indexedDB.open("trencadis"));
    const pictures = await done(database.transaction("pictures").objectStore("pictures").getAll());
    database.close();
    const contents = pictures.map(async ({ blob }) => [...new Uint8Array(await blob.arrayBuffer())]);
    return Promise.all(contents);
}"""


def stored_pictures(page: Page) -> list[bytes]:
    """Return the files of the gallery, newest first."""
    contents: list[list[int]] = page.evaluate(_STORED)
    return [bytes(content) for content in reversed(contents)]
