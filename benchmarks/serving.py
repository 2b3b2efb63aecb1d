"""How a server behaves under load: `python -m benchmarks.serving`, with the extra `serve` and httpx2.

Prints JSON: pictures a second one at a time and at 16 waiting requests, seconds to the first partial picture on an idle
server and at 16 waiting requests, and how the requests of many clients end.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

WAITING = 16
TIMEOUT_S = 300.0


@contextmanager
def served(options: list[str]) -> Iterator[str]:
    """Run a server, and yield its address; it must end with 0."""
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
            yield found[1]
        finally:
            process.terminate()
            code = process.wait(120)
    if code != 0:
        raise SystemExit(f"the server ended with {code}")


async def draw(client: httpx2.AsyncClient, seed: int) -> httpx2.Response:
    body = {"prompt": "a red heart", "seed": seed, "candidates": 1}
    return await client.post("/v1/images/generations", json=body)


async def rate(client: httpx2.AsyncClient, at_a_time: int, count: int) -> float:
    """Return pictures a second with so many requests at a time."""
    turns = asyncio.Semaphore(at_a_time)

    async def one(seed: int) -> None:
        async with turns:
            (await draw(client, seed)).raise_for_status()

    start = time.perf_counter()
    await asyncio.gather(*(one(seed) for seed in range(count)))
    return count / (time.perf_counter() - start)


async def first_partial_s(client: httpx2.AsyncClient) -> float:
    """Return the seconds from a request to its first partial picture, its wait for a turn included."""
    body = {"prompt": "a red heart", "candidates": 1, "stream": True, "partial_images": 3}
    start = time.perf_counter()
    async with client.stream("POST", "/v1/images/generations", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                return time.perf_counter() - start
    raise SystemExit("a stream without events")


async def partial_under_load_s(client: httpx2.AsyncClient) -> float:
    load = [asyncio.ensure_future(draw(client, seed)) for seed in range(WAITING)]
    await asyncio.sleep(0.05)
    taken = await first_partial_s(client)
    await asyncio.gather(*load)
    return taken


async def crowd(client: httpx2.AsyncClient, clients: int, seconds: float) -> dict[str, Any]:
    """Let many clients ask again and again, and return how their requests ended, and how fast `/health` was."""
    end = time.perf_counter() + seconds
    ends: Counter[str] = Counter()
    health: list[float] = []

    async def ask(number: int) -> None:
        seed = number
        while time.perf_counter() < end:
            answer = await draw(client, seed)
            ends[_ending(answer, seed)] += 1
            seed += clients
            if answer.status_code != 200:
                await asyncio.sleep(min(float(answer.headers.get("retry-after", 1)), 2))

    async def look() -> None:
        while time.perf_counter() < end:
            start = time.perf_counter()
            (await client.get("/health")).raise_for_status()
            health.append(time.perf_counter() - start)
            await asyncio.sleep(0.05)

    await asyncio.gather(look(), *(ask(number) for number in range(clients)))
    return {"ends": dict(ends), "health_p99_s": statistics.quantiles(health, n=100)[98]}


def _ending(answer: httpx2.Response, seed: int) -> str:
    if answer.status_code == 200:
        return "200" if answer.json()["data"][0]["seed"] == seed else "crossed"
    return str(answer.status_code) + ("" if "retry-after" in answer.headers else " without Retry-After")


async def measured(url: str, options: argparse.Namespace) -> dict[str, Any]:
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits) as client:
        await draw(client, 0)
        found: dict[str, Any] = {
            "one_at_a_time_per_s": await rate(client, 1, options.pictures),
            "at_16_waiting_per_s": await rate(client, WAITING, options.pictures * 4),
            "first_partial_idle_s": statistics.median([await first_partial_s(client) for _ in range(3)]),
            "first_partial_loaded_s": statistics.median([await partial_under_load_s(client) for _ in range(3)]),
        }
        return found | {"crowd": await crowd(client, options.clients, options.seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=16, help="drawn one at a time; four times as many at 16")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("options", nargs="*", help="of `trencadis serve`, behind --")
    options = parser.parse_args()
    with served(options.options) as url:
        print(json.dumps(asyncio.run(measured(url, options)), indent=2))


if __name__ == "__main__":
    main()
