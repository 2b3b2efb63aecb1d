"""`trencadis generate` with prompts of a file, and with prompts of any text."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trencadis.cli import main
from trencadis.data import read_picture
from trencadis.drawn import read_record


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn(capsys: pytest.CaptureFixture[str], model: Path, *arguments: str) -> list[dict[str, Any]]:
    command = ["generate", *arguments, "--model", str(model), "--json"]
    if "--candidates" not in arguments:
        command += ["--candidates", "2", "--keep", "1"]
    assert main(command) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys: pytest.CaptureFixture[str], model: Path, *arguments: str) -> str:
    assert main(["generate", *arguments, "--model", str(model)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert not Path("drawn").exists(), "nothing is drawn where something is wrong"
    return printed.err


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        (b"a ring\n\n  a red circle  \r\n", ["a ring", "a red circle"]),
        ("\ufeffa ring\nкот".encode(), ["a ring", "кот"]),
        ('кот\nit\'s {a} "ring"'.encode("utf-16"), ["кот", 'it\'s {a} "ring"']),
        (b'{"a": ring}\n', ['{"a": ring}']),
        (b'"a ring"\n', ['"a ring"']),
    ],
)
def test_a_text_file_has_a_prompt_a_line(
    content: bytes, prompts: list[str], tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("prompts.txt").write_bytes(content)
    objects = drawn(capsys, tiny_model, "a square", "--prompts", "prompts.txt", "--seed", "3")
    assert [each["prompt"] for each in objects] == ["a square", *prompts]
    assert all(each["pictures"][0]["seed"] in (3, 4) for each in objects)


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.ndjson", "prompts.txt"])
def test_json_lines_have_settings_of_their_own(name: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "a ring", "seed": 7, "candidates": 1, "keep": 1, "temperature": 0.5, "guidance_scale": 2},
        {"prompt": "", "seed": None, "decoder": "jacobi", "guidance_schedule": "linear"},
        {"prompt": "two\nlines\u0000", "negative_prompt": "a square", "top_k": 3, "top_p": 0.5, "seed": "9"},
    ]
    Path(name).write_text("\n".join(map(json.dumps, rows)))
    objects = drawn(capsys, tiny_model, "--prompts", name, "--seed", "1", "--temperature", "2")
    assert [each["prompt"] for each in objects] == [row["prompt"] for row in rows]
    (first,), (second,), (third,) = (each["pictures"] for each in objects)
    assert (first["seed"], first["temperature"], first["guidance_scale"]) == (7, 0.5, 2)
    assert (second["seed"], second["temperature"], second["decoder"], second["score"]) == (1, 2, "jacobi", None)
    assert (third["negative_prompt"], third["top_k"], third["top_p"]) == ("a square", 3, 0.5)
    assert third["seed"] in (9, 10)
    assert read_record(read_picture(Path(third["path"]))).prompt == "two\nlines\u0000"


@pytest.mark.usefixtures("desk")
def test_prompts_of_a_file_are_drawn_as_each_is_alone(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = ["a ring", "a square", "a ring", "a star", ""]
    Path("prompts.txt").write_text("\n".join(prompts))
    together = drawn(capsys, tiny_model, *prompts, "--seed", "1", "--batch-size", "5", "--out", "together")
    for prompt, each in zip(prompts, together, strict=True):
        (alone,) = drawn(capsys, tiny_model, prompt, "--seed", "1", "--out", "alone")
        one, other = (Path(drawing["pictures"][0]["path"]) for drawing in (each, alone))
        assert one.name == other.name
        assert read_picture(one).tobytes() == read_picture(other).tobytes()


WRONG = {
    "": "prompts.jsonl holds no prompt; expected one a line; write what to draw",
    "\n \n": "prompts.jsonl holds no prompt",
    '{"prompt": "a"}\n{"prompt": }': "prompts.jsonl, line 2: Expecting value",
    '{"prompt": "a"}\n\n[1]': "prompts.jsonl, line 3 has no text of the name prompt; expected an object such as",
    '{"promt": "a"}': "prompts.jsonl, line 1 has no text of the name prompt",
    '{"prompt": 7}': "prompts.jsonl, line 1 has no text of the name prompt",
    '{"prompt": "a", "sed": 1}': "prompts.jsonl, line 1: unknown setting 'sed'; expected seed; correct the name",
    '{"prompt": "a", "weights": "int8"}': "prompts.jsonl, line 1: unknown setting 'weights'; expected ",
    '{"prompt": "a", "seed": -1}': "prompts.jsonl, line 1: seed -1; expected a whole number in 0..2^63-1; give one",
    '{"prompt": "a", "keep": 1.5}': "prompts.jsonl, line 1: keep 1.5; expected a whole number in 1..4096",
    '{"prompt": "a", "keep": true}': "prompts.jsonl, line 1: keep True; expected a whole number",
    '{"prompt": "a", "top_p": [1]}': "prompts.jsonl, line 1: top_p [1]; expected a number or a text",
    '{"prompt": "a"}\n{"prompt": "b", "keep": 9}': "prompts.jsonl, line 2: keep 9; expected 1..2",
    '{"prompt": "a"}\n{"prompt": "b", "negative_prompt": "c", "guidance_scale": 1}': "line 2: a negative prompt",
    '{"prompt": "a"}\n{"prompt": "' + 5000 * "b" + '"}': "line 2: a prompt of 5,000 characters; expected at most 4,096",
    '{"prompt": "a"}\n{"prompt": "b", "seed": 9223372036854775807, "candidates": 2}': "line 2: seed 92233720368547758",
    "[" * 100_000: "prompts.jsonl, line 1",
}


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("content", WRONG, ids=lambda content: content[:40])
def test_what_is_wrong_is_found_before_anything_is_drawn(
    content: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("prompts.jsonl").write_text(content)
    said = refused(capsys, tiny_model, "--prompts", "prompts.jsonl", "--candidates", "2", "--keep", "1")
    assert WRONG[content] in said


@pytest.mark.usefixtures("desk")
def test_files_that_hold_no_text_are_refused(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("latin").write_bytes("a ring\nçà et là".encode("latin-1"))
    said = refused(capsys, tiny_model, "--prompts", "latin")
    assert "latin, line 2, is in another encoding; expected a text file in UTF-8 with a prompt a line; save it" in said
    assert "--prompts .; expected a file that exists" in refused(capsys, tiny_model, "--prompts", ".")
    assert "no PROMPT given; expected one or more, or --prompts FILE" in refused(capsys, tiny_model)


TEXTS = [
    "красное сердце", "قلب أحمر", "לב אדום", "猫", "💔", "e\u0301 क्षि", "\udcff\udce9", "\x1b[2J\x07", "a\u202eb", "",
]  # fmt: skip


@pytest.mark.usefixtures("desk")
@pytest.mark.filterwarnings("ignore:caption cut")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_prompt_is_drawn_on_any_terminal(encoding: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ([], ["--json"]):
        out, errors = io.BytesIO(), io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(errors, encoding, errors="backslashreplace"))
        command = ["generate", *TEXTS, "--candidates", "1", "--keep", "1", "--seed", "1", "--model", str(tiny_model)]
        assert main([*command, *options]) == 0, errors.getvalue()
        assert b"\x1b" not in out.getvalue()
        lines = out.getvalue().decode(encoding).splitlines()
        assert len(lines) == len(TEXTS)
    assert [json.loads(line)["prompt"] for line in lines] == TEXTS
    records = [read_record(read_picture(path)) for path in sorted(Path("drawn").iterdir())]
    assert sorted(record.prompt for record in records) == sorted(TEXTS)
