"""A server in a process of its own, and what it holds: memory, threads and file descriptors (Linux)."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

GENERATIONS = "/v1/images/generations"
TIMEOUT_S = 300.0
_SETTLE_S = 30.0


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    rss_bytes: int
    threads: int
    descriptors: int


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    process: "subprocess.Popen[bytes]"
    url: str

    def client(self) -> httpx2.AsyncClient:
        limits = httpx2.Limits(max_connections=None)
        return httpx2.AsyncClient(base_url=self.url, timeout=TIMEOUT_S, limits=limits)

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        text = httpx2.get(f"{self.url}/metrics", timeout=TIMEOUT_S).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*?}})? (\S+)$", text, re.M))

    def until(self, metric: str, is_so: Callable[[float], bool]) -> float:
        """Wait until a metric is as said, and return it."""
        end = time.monotonic() + TIMEOUT_S
        while not is_so(value := self.metric(metric)):
            if time.monotonic() > end:
                raise SystemExit(f"{metric} stays {value:g}")
            time.sleep(0.001)
        return value

    def held(self) -> Held:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        rss_kib, threads = (re.findall(rf"^{name}:\s+(\d+)", status, re.M)[0] for name in ("VmRSS", "Threads"))
        descriptors = len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))
        return Held(int(rss_kib) * 1024, int(threads), descriptors)

    def leaks(self, before: Held, *, spare_bytes: int = 32 * 2**20) -> list[str]:
        """Return what is held beyond what was held before; what is given back within some seconds is none."""
        end = time.monotonic() + _SETTLE_S
        while True:
            now = self.held()
            found = []
            if now.rss_bytes > before.rss_bytes + spare_bytes:
                found.append(f"{(now.rss_bytes - before.rss_bytes) / 2**20:.0f} MiB of memory")
            if now.threads > before.threads:
                found.append(f"{now.threads - before.threads} threads")
            if now.descriptors > before.descriptors:
                found.append(f"{now.descriptors - before.descriptors} file descriptors")
            found += [name for name in ("waiting", "drawings") if self.metric(f"trencadis_{name}")]
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.2)


@contextmanager
def served(options: list[str]) -> Iterator[Server]:
    """Run `trencadis serve` with options on a free port; it must end with 0, unless it has ended before."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        with log.open("wb") as output:
            command = [sys.executable, "-m", "trencadis", "serve", "--port", "0", *options]
            process = subprocess.Popen(command, stderr=output)
        try:
            while (found := re.search(r"running on (http://\S+)", log.read_text())) is None:
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            yield Server(process, found[1])
        finally:
            if process.poll() is None:
                process.terminate()
            code = process.wait(120)
    if code != 0:
        raise SystemExit(f"the server ended with {code}")


async def draw(client: httpx2.AsyncClient, seed: int, **options: object) -> httpx2.Response:
    """Ask for one picture without alternatives."""
    body = {"prompt": "a red heart", "seed": seed, "candidates": 1, **options}
    return await client.post(GENERATIONS, json=body)
