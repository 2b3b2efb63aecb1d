"""The prompts of `trencadis generate`, from the command line and from a file, each with its settings."""

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trencadis.cli.arguments import UnfitValueError
from trencadis.cli.parser import closest
from trencadis.errors import ConfigError, PromptError

MAX_FILE_BYTES = 2**26
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Asked:
    """A prompt to draw.

    Args:
        prompt: What to draw; nothing for a picture without a caption.
        settings: Options of `DALLE.generate` that are its own, by name.
        place: Where it was given, for messages; empty for the command line.
    """

    prompt: str
    settings: Mapping[str, Any]
    place: str = ""


def read_prompts(path: Path, kinds: Mapping[str, Callable[[object], Any]]) -> list[Asked]:
    """Return the prompts in a file: one a line, or a JSON object a line with a `prompt` and settings.

    A file whose first line is a JSON object, or that is named `.jsonl` or `.ndjson`, is JSON; blank lines are left out.

    Args:
        path: Of text in UTF-8, or in UTF-16 with a byte order mark.
        kinds: Checks a setting and returns its value, by the settings' names.

    Raises:
        PromptError: The file cannot be read, has no prompt, or a line is wrong; nothing is returned then.
    """
    lines = [(number, line) for number, line in enumerate(_text_of(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise PromptError(f"{path} holds no prompt", expected="one a line", remedy="write what to draw")
    if path.suffix.lower() in (".jsonl", ".ndjson") or _is_object(lines[0][1]):
        return [_from_json(line, kinds, f"{path}, line {number}") for number, line in lines]
    return [Asked(line.strip(), {}, f"{path}, line {number}") for number, line in lines]


def _text_of(path: Path) -> str:
    expected = "a text file in UTF-8 with a prompt a line"
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise PromptError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes", expected=expected, remedy="split it")
        return raw.decode(next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PromptError(f"{path}: {reason}", expected=expected, remedy="check the path") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        given = f"{path}, line {line}, is in another encoding"
        raise PromptError(given, expected=expected, remedy="save it as UTF-8") from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _from_json(line: str, kinds: Mapping[str, Callable[[object], Any]], place: str) -> Asked:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        remedy = "correct the line"
        raise PromptError(f"{place}: {reason}", expected="a JSON object on each line", remedy=remedy) from error
    if not isinstance(content, dict) or not isinstance(content.get("prompt"), str):
        given, expected = f"{place} has no text of the name prompt", 'an object such as {"prompt": "a ring", "seed": 1}'
        raise PromptError(given, expected=expected, remedy="add it, or leave the line out")
    settings = {name: value for name, value in content.items() if name != "prompt"}
    return Asked(content["prompt"], dict(_checked(settings, kinds, place)), place)


def _checked(
    settings: Mapping[str, object], kinds: Mapping[str, Callable[[object], Any]], place: str
) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if name not in kinds:
            expected = closest(name, kinds) or ", ".join(["prompt", *kinds])
            raise PromptError(f"{place}: unknown setting {name!r}", expected=expected, remedy="correct the name")
        if value is None:  # as if it were not given
            continue
        if not isinstance(value, str | int | float):
            remedy = "correct the value"
            raise PromptError(f"{place}: {name} {json.dumps(value)}", expected="a number or a text", remedy=remedy)
        try:
            yield name, kinds[name](value)
        except UnfitValueError as error:
            given = f"{place}: {name} {error.value}"
            raise ConfigError(given, expected=error.kind.expected, remedy=error.kind.remedy) from error
