import ast
import io
import json
import sys
from pathlib import Path

import pytest

import trencadis
from trencadis.console import any_encoding, say, say_json, tell

PACKAGE = Path(trencadis.__file__).parent


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_printed_but_here(path: Path) -> None:
    if path.name == "console.py":
        return
    names = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)]
    assert not [node.lineno for node in names if node.id == "print"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "koi8-r"])
def test_any_text_can_be_said_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    text = "кот é 💔 \udcff \x1b[2J"
    with any_encoding():
        say(text)
        say_json({"prompt": text})
    lines = raw.getvalue().decode(encoding).splitlines()
    assert len(lines) == 2
    assert "\x1b" not in lines[0]
    assert lines[0].endswith(r"\xff \x1b[2J")
    assert json.loads(lines[1]) == {"prompt": text}
    assert sys.stdout.errors == "strict", "it is as it was before"


def test_what_has_no_encoding_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with any_encoding():
        say("кот")
        say_json("кот")
    assert stream.getvalue() == 'кот\n"кот"\n'


def test_a_process_without_streams_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with any_encoding():
        say("a")
        say_json("a")
        tell("a")
