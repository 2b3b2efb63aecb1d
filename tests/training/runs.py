"""Runs that the tests train, kill and compare."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a run's model."""
    return {
        f"{path.parent.name}/{name}": tensor
        for path in sorted((run / "model").rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def log_of(run: Path) -> list[dict[str, object]]:
    """The lines of a run's log without their times, which never go back."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    times = [line.pop("elapsed_s") for line in lines]
    assert times == sorted(times)
    return lines


def content(run: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file's bytes and the time of its last change."""
    paths = (path for path in run.rglob("*") if path.is_file())
    return {path.relative_to(run): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 50
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    tokenizers = [(run / "model" / "text" / "tokenizer.json").read_bytes() for run in (one, other)]
    assert tokenizers[0] == tokenizers[1]


# Trains with each of the settings given, in a process of its own that kills itself at the moment that goes with them:
# after so many calls of a function, counted in a stage where one is named.
_KILLING = """
import itertools, json, os, signal, sys
from pathlib import Path
import torch._dynamo, torch.utils.tensorboard  # once for all processes
from trencadis.run_log import RunLog
from trencadis.training import continuing, loop, run, starting
from trencadis.training.trainer import Trainer

starts = json.loads(sys.argv[1])
# Several updates a line, and a checkpoint every second update, between the lines too.
loop.LOG_LINES, loop.VALIDATIONS = 3, 2
updates = itertools.count(1)
loop.SavingTimes.is_due = lambda self: next(updates) % 2 == 0
FUNCTIONS = {"update": (Trainer, "update"), "log": (RunLog, "append"), "save": (Trainer, "save"),
             "picture": (loop, "write_picture"), "report": (run, "write_report"), "plan": (run, "write_config"),
             "longer": (continuing, "write_config"), "part": (starting, "_copy")}

def kill_after(name, stage, calls):
    owner, attribute = FUNCTIONS[name]
    function, left = getattr(owner, attribute), itertools.count(calls - 1, -1)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        of = args[0].stage.name if isinstance(args[0], Trainer) else args[1] if isinstance(args[0], RunLog) else stage
        if of == stage and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, attribute, call)

for out, settings, options, moment in starts:
    process = os.fork()
    if process == 0:
        if moment is not None:
            kill_after(*moment)
        run.train(Path(out), settings, **options)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == (0 if moment is None else -signal.SIGKILL), moment
"""


@dataclass(frozen=True)
class Start:
    """A call of `train`, and the moment at which its process kills itself: a function, a stage, a number of calls."""

    out: Path
    settings: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    moment: tuple[str, str, int] | None = None


def start_and_kill(starts: Sequence[Start]) -> None:
    """Make the starts one after the other."""
    told = [(str(start.out), start.settings, start.options, start.moment) for start in starts]
    subprocess.run([sys.executable, "-c", _KILLING, json.dumps(told)], check=True)
