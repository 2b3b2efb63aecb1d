"""The log of a run: one JSON object a line in `log.jsonl`, and TensorBoard's files where that is installed."""

import json
import logging
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from trencadis.run_directory import RunDirectory
from trencadis.storage import user_storage, write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def read_log(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the lines of a run's log in the order they were written; none where there is no log yet.

    A line that a kill cut short is left out. A metric that was not finite is None.
    """
    return [line for text in _text(run.log).splitlines() if (line := _parse(text)) is not None]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _parse(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"stage", "step", "elapsed_s"} <= line.keys() else None


def _format(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


class RunLog:
    """Appends what training measures. Open one a run, and close it or use it as a context manager.

    Each line holds `stage`, `step`, `elapsed_s` and the metrics. `elapsed_s` counts the seconds of training since the
    run began, over all its resumptions; work that was lost and done again counts once.

    Raises:
        StorageError: The directory cannot be written.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._writers: dict[str, SummaryWriter | None] = {}
        self._rewrite(self.read())

    def append(self, stage: str, step: int, metrics: Mapping[str, float | int]) -> None:
        """Write one line; a metric that is not finite becomes null, since JSON has no word for it."""
        assert not {"stage", "step", "elapsed_s"} & metrics.keys()
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        line = {"stage": stage, "step": step, "elapsed_s": round(self.elapsed_s, 3)}
        with user_storage(self._run.log), open(self._run.log, "a", encoding="utf-8") as file:
            file.write(_format([line | {name: finite.get(name) for name in metrics}]))
        if stage not in self._writers:
            # Whatever an earlier, killed process wrote from this step on is hidden.
            self._writers[stage] = _summary_writer(self._run.tensorboard(stage), step)
        if (writer := self._writers[stage]) is not None:
            with user_storage(self._run.path):
                for name, value in finite.items():
                    writer.add_scalar(name, value, step)

    @property
    def elapsed_s(self) -> float:
        return self._elapsed_before_s + monotonic() - self._opened_at_s

    def truncate(self, stage: str, step: int) -> None:
        """Drop the lines of `stage` beyond `step`, to go on from there; other stages' lines stay."""
        lines = self.read()
        kept = [line for line in lines if line["stage"] != stage or line["step"] <= step]
        if len(kept) < len(lines):
            self._rewrite(kept)

    def read(self) -> list[dict[str, Any]]:
        return read_log(self._run)

    def flush(self) -> None:
        """Write out what TensorBoard's files still lack, so that a kill after this loses none of it."""
        for writer in filter(None, self._writers.values()):
            writer.flush()

    def close(self) -> None:
        for writer in filter(None, self._writers.values()):
            writer.close()
        self._writers.clear()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        """Make `lines` the whole log, and count time from its end."""
        if not self._run.log.exists() or _format(lines) != _text(self._run.log):
            write_whole(self._run.log, _format(lines))
        self._elapsed_before_s: float = max((line["elapsed_s"] for line in lines), default=0.0)
        self._opened_at_s = monotonic()
        self.close()


class UnwrittenLog(RunLog):
    """The log of a process that leaves the writing to another one."""

    def append(self, stage: str, step: int, metrics: Mapping[str, float | int]) -> None:
        return

    def truncate(self, stage: str, step: int) -> None:
        return

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        self._elapsed_before_s, self._opened_at_s = 0.0, monotonic()


def _summary_writer(directory: Path, step: int) -> "SummaryWriter | None":
    """Return a writer of TensorBoard's files that hides what they hold from `step` on; None where it is absent."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _say_that_tensorboard_is_absent()
        return None
    return SummaryWriter(str(directory), purge_step=step, flush_secs=30)


@cache  # once a process
def _say_that_tensorboard_is_absent() -> None:
    logging.getLogger(__name__).info("TensorBoard is not installed; `pip install trencadis[tensorboard]` adds it")
