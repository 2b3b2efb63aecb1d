"""What a run's directory holds about its training, read for the report: nothing in it is taken to be there or whole."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trencadis.report.pictures import Picture, chosen_pictures, read_shown
from trencadis.run_log import read_log

ORDER = ("text", "image", "transformer", "ranker")
_TOO_MANY = 2**40  # tokens of one code, of which no set has as many: the file is damaged


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What is known of one stage.

    Args:
        name: As in the log.
        steps: Updates that it is to make; None where that is not known or it makes none.
        lines: Its part of the log.
        elapsed_s: What it has taken.
        pictures: Drawn as it went on; a few of them.
        is_over: A later stage has begun.
    """

    name: str
    steps: int | None
    lines: Sequence[dict[str, Any]]
    elapsed_s: float
    pictures: Sequence[Picture]
    is_over: bool

    @property
    def last_step(self) -> int:
        """The last step that was logged; 0 where none was."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def state(self) -> str:
        """`to come`, `training` or `done`."""
        if self.is_over or (self.steps is not None and self.last_step >= self.steps):
            return "done"
        return "training" if self.lines else "to come"

    def last(self, metric: str) -> float | int | None:
        """Return a metric's last finite value, if it has one."""
        values = [value for line in self.lines if _is_finite(value := line.get(metric))]
        return values[-1] if values else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True)
class Records:
    """What is known of a run.

    Args:
        name: Of its directory.
        config: Of `config.yaml`.
        config_text: The same as it stands.
        choices: Of `plan.json`: `what` was chosen, its `value`, and `why`.
        data: Of `data.json`: how many pairs there are, and why others were dropped.
        captions: Of `samples/captions.json`: what the drawings are of, from left to right.
        code_counts: Of `samples/codes.json`: how often each code is used in the whole training set.
        code_portraits: Of `samples/codes.png`: what the most used codes draw.
        stages: In order; those to come too, where the config names them.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    choices: list[dict[str, str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list)
    code_counts: list[int] = field(default_factory=list)
    code_portraits: Picture | None = None
    stages: list[StageRecord] = field(default_factory=list)


def read_records(run_directory: Path) -> Records:
    """Return what a run's directory holds; what is missing, damaged or of another kind is left out."""
    config_text = _text(run_directory / "config.yaml")
    config = _mapping(_parsed(config_text, yaml.safe_load))
    plan = _mapping(_json(run_directory / "plan.json"))
    captions = _list(_json(run_directory / "samples" / "captions.json"))
    code_counts = _list(_json(run_directory / "samples" / "codes.json"))
    return Records(
        name=run_directory.resolve().name,
        config=config,
        config_text=config_text,
        choices=[
            {name: str(choice.get(name, "")) for name in ("what", "value", "why")}
            for choice in _list(plan.get("choices"))
            if isinstance(choice, dict)
        ],
        data=_mapping(_json(run_directory / "data.json")),
        captions=[caption for caption in captions if isinstance(caption, str)],
        code_counts=[count for count in code_counts if isinstance(count, int) and 0 <= count < _TOO_MANY],
        code_portraits=read_shown(run_directory / "samples" / "codes.png"),
        stages=_stages(run_directory, config),
    )


def _stages(run_directory: Path, config: dict[str, Any]) -> list[StageRecord]:
    """Return the stages that the config names or the log holds, in order."""
    lines = [
        line for line in read_log(run_directory) if isinstance(line["step"], int) and _is_finite(line["elapsed_s"])
    ]
    logged = list(dict.fromkeys(str(line["stage"]) for line in lines))
    names = [name for name in ORDER if name in logged or isinstance(config.get(name), dict)]
    names += [name for name in logged if name not in names]
    stages = []
    before_s = 0.0
    for number, name in enumerate(names):
        own = [line for line in lines if line["stage"] == name]
        until_s = max([before_s, *(line["elapsed_s"] for line in own)])
        steps = _mapping(config.get(name)).get("steps")
        stages.append(
            StageRecord(
                name=name,
                steps=steps if isinstance(steps, int) else None,
                lines=own,
                elapsed_s=until_s - before_s,
                pictures=chosen_pictures(run_directory / "samples", name),
                is_over=any(later in logged for later in names[number + 1 :]),
            )
        )
        before_s = until_s
    return stages


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _parsed(text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except (ValueError, yaml.YAMLError):
        return None


def _json(path: Path) -> Any:
    return _parsed(_text(path), json.loads)


def _mapping(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}


def _list(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []
