"""The benchmark's side of a contender's process; `benchmarks.worker` describes the protocol."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from benchmarks.machine import ROOT
from benchmarks.options import Peer
from trencadis.config import DiscreteVAEConfig, TransformerConfig
from trencadis.errors import ConfigError, RunError

OURS = "trencadis"
TOKENIZER = "trencadis-tokenizer"


class Done(NamedTuple):
    """The result of a contender's work, and its time."""

    elapsed_s: float
    result: Any


class Child:
    """A contender in its own process. Close it, or use it as a context manager.

    Args:
        config: Sizes of the model.
        threads: CPU threads.
        peer: Whose code; None for ours.
        ours: Which of our contenders, by its name in `benchmarks.worker`.
        trains: Import at start what torch imports at an optimizer's first step.

    Raises:
        ConfigError: The peer's code cannot be loaded.
    """

    def __init__(
        self,
        config: TransformerConfig | DiscreteVAEConfig,
        *,
        threads: int,
        peer: Peer | None = None,
        trains: bool = False,
        ours: str = OURS,
    ) -> None:
        self.name = OURS if peer is None else peer.name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
        search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [*_command(peer, ours), "--threads", str(threads), *(["--trains"] if trains else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": search},
        )
        try:
            self._load(peer)
            options = {"own_loop": True} if peer is not None and peer.own_loop else {}
            self.settings: str = self._ask("build", shape=dataclasses.asdict(config), **options)["result"]
        except BaseException:
            self.close()
            raise

    def _load(self, peer: Peer | None) -> None:
        try:
            self._read("being loaded")
        except RunError as error:
            if peer is None:
                raise
            given = f"--peer-path {peer.path}: {error}"
            remedy = "check the path, or name an interpreter that has what it imports with --peer-python"
            raise ConfigError(
                given, expected=f"a checkout of {peer.name} that can be imported", remedy=remedy
            ) from error

    def do(self, work: str, **arguments: object) -> Done:
        """Call a method of the contender and wait for it.

        Args:
            work: Name of the method.
            **arguments: Its arguments, JSON values.

        Raises:
            RunError: It failed.
        """
        answer = self._ask(work, **arguments)
        return Done(answer["elapsed_s"], answer["result"])

    def peak_bytes(self) -> int:
        """Return the peak memory of the process, minus its memory before the model was built."""
        return int(self._ask("peak")["result"])

    def _ask(self, work: str, **arguments: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended; `_read` reports its last output
            self._process.stdin.write(json.dumps({"do": work, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._read(f"asked for {work}")

    def _read(self, when: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RunError(f"{self.name} ended with {self._process.wait()} when {when}{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RunError(f"{self.name} failed when {when}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            with suppress(BrokenPipeError):  # the process ended before it read a request
                stream.close()

    def __enter__(self) -> "Child":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()


def _command(peer: Peer | None, ours: str) -> Sequence[str | Path]:
    if peer is None:
        return [sys.executable, "-m", "benchmarks.worker", ours]
    return [peer.python, "-m", "benchmarks.worker", peer.name, "--path", peer.path]
