"""The files of the web page, as the server sends them."""

import re
from pathlib import Path

import httpx2
import pytest

from tests.serving.conftest import Running, Start
from trencadis.serving.page_files import FOLDER

FILES = sorted(FOLDER.iterdir())
LONGEST = 400  # lines, as for Python
LOADED = re.compile(r"""from "\./([\w.]+)"|url\("([\w.]+)"\)""")
ELSEWHERE = re.compile(r"""(?:https?:)?//(?!www\.w3\.org/)[\w-]+\.\w+""")


def test_the_page_allows_nothing_from_elsewhere(server: Running) -> None:
    answer = httpx2.get(server.url)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert not re.search(r"<script>|<style>| style=| on\w+=", answer.text)


def test_a_file_that_is_known_is_not_sent_again(server: Running) -> None:
    first = httpx2.get(f"{server.url}/page/main.js")
    assert first.headers["content-type"].startswith("text/javascript")
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = httpx2.get(f"{server.url}/page/main.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    changed = httpx2.get(f"{server.url}/page/main.js", headers={"If-None-Match": '"other"'})
    assert changed.content == first.content == (FOLDER / "main.js").read_bytes()


def test_a_head_request_has_no_body(server: Running) -> None:
    answer = httpx2.request("HEAD", server.url)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == (FOLDER / "index.html").stat().st_size


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fpage_files.py", "%2Fetc%2Fpasswd", "index.html%00"])
def test_other_files_are_not_there(server: Running, name: str) -> None:
    answer = httpx2.get(f"{server.url}/page/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_all_that_is_loaded_is_there(server: Running) -> None:
    start = httpx2.get(server.url).text
    found = re.findall(r'(?:src|href)="page/([\w.]+)"', start)
    assert {"main.js", "style.css"} <= set(found)
    seen: set[str] = set()
    while found:
        name = found.pop()
        if name not in seen:
            seen.add(name)
            answer = httpx2.get(f"{server.url}/page/{name}")
            assert answer.status_code == 200, name
            found += [one or other for one, other in LOADED.findall(answer.text)]
    assert seen | {"index.html"} == {path.name for path in FILES}, "a file that nothing loads"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_short_and_names_no_other_host(path: Path) -> None:
    text = path.read_text("utf-8")
    assert ELSEWHERE.findall(text) == []
    if path.suffix == ".js":
        assert len(text.splitlines()) < LONGEST


def test_a_stream_says_how_much_is_drawn(server: Running) -> None:
    body = {"prompt": "x", "n": 3, "stream": True, "partial_images": 1}
    lines = httpx2.post(f"{server.url}/v1/images/generations", json=body).text.splitlines()
    comments = [re.fullmatch(r": (\d+) of (\d+) tokens", line) for line in lines]
    told = [tuple(map(int, found.groups())) for found in comments if found]
    assert told == [(drawn, 48) for drawn in (12, 24, 36, 48)], "3 pictures of 4 rows of 4 tokens"


@pytest.mark.parametrize(
    ("screen", "opened"), [({"DISPLAY": ":7"}, True), ({"DISPLAY": "", "WAYLAND_DISPLAY": ""}, False)]
)
def test_serve_opens_the_page_where_there_is_a_screen(
    start: Start, tiny: Path, tmp_path: Path, screen: dict[str, str], opened: bool
) -> None:
    browser, told = tmp_path / "browser", tmp_path / "told.txt"
    browser.write_text(f'#!/bin/sh\necho "$1" > {told}\n')
    browser.chmod(0o755)
    running = start("--model", f"tiny={tiny}", "--open", BROWSER=f"{browser} %s", **screen)
    assert running.stop() == 0  # it waits for the browser's command
    assert told.exists() == opened
    assert not opened or told.read_text().strip() == f"{running.url}/"
