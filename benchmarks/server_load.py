"""Measurements of a server that is busy: speed, the first partial picture, and many clients at once."""

import asyncio
import hashlib
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx2

from benchmarks.server import GENERATIONS, Server, draw, served

WAITING = 16
HEALTH_P99_S = 0.25
_AGAIN = 8  # pictures of the crowd that are drawn once more, alone


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
    async with client.stream("POST", GENERATIONS, json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                return time.perf_counter() - start
    raise SystemExit("a stream without events")


async def partial_under_load_s(client: httpx2.AsyncClient) -> float:
    """Return the same while `WAITING` requests of other clients are drawn."""
    load = [asyncio.ensure_future(draw(client, seed)) for seed in range(WAITING)]
    await asyncio.sleep(0.05)
    taken = await first_partial_s(client)
    await asyncio.gather(*load)
    return taken


async def _median(measure: Callable[[], Awaitable[float]], repeats: int) -> float:
    return statistics.median([await measure() for _ in range(repeats)])


async def _rounds(server: Server, rounds: int) -> dict[str, list[float]]:
    """Measure everything once a round, so that what else the machine does hits all alike."""
    found: dict[str, list[float]] = {"alone": [], "together": [], "idle": [], "loaded": []}
    async with server.client() as client:
        await rate(client, WAITING, WAITING)
        for _ in range(rounds):
            found["alone"].append(await rate(client, 1, 8))
            found["together"].append(await rate(client, WAITING, 4 * WAITING))
            found["idle"].append(await _median(lambda: first_partial_s(client), 3))
            found["loaded"].append(await _median(lambda: partial_under_load_s(client), 3))
    return found


def speed(options: list[str], rounds: int) -> tuple[str, list[str]]:
    """Compare one request at a time with `WAITING`; return the figures and no faults."""
    with served(options) as server:
        found = asyncio.run(_rounds(server, rounds))
    median = {name: statistics.median(samples) for name, samples in found.items()}
    faster, later = (
        statistics.median(many / one for many, one in zip(found[a], found[b], strict=True))
        for a, b in (("together", "alone"), ("loaded", "idle"))
    )
    figures = f"{median['alone']:.2f} pictures/s one at a time, "
    figures += f"{median['together']:.2f} at {WAITING} waiting requests ({faster:.1f}×); "
    figures += (
        f"first partial picture after {median['idle']:.3f} s idle, {median['loaded']:.3f} s under load ({later:.1f}×)"
    )
    return figures, []


class Crowd:
    """Clients that ask again and again, and how their requests ended."""

    def __init__(self, client: httpx2.AsyncClient, clients: int, seconds: float) -> None:
        self._client, self._clients = client, clients
        self._end = time.perf_counter() + seconds
        self.ends: Counter[str] = Counter()
        self.health_s: list[float] = []
        self.digests: dict[int, str] = {}  # of pictures, by their seeds

    async def run(self) -> None:
        await asyncio.gather(self._look(), *(self._ask(number) for number in range(self._clients)))
        for seed, digest in list(self.digests.items())[:_AGAIN]:
            if _digest(await draw(self._client, seed)) != digest:
                self.ends["crossed"] += 1

    async def _ask(self, number: int) -> None:
        seed = number
        while time.perf_counter() < self._end:
            try:
                answer = await draw(self._client, seed)
            except httpx2.HTTPError as error:
                self.ends[type(error).__name__] += 1
                continue
            self.ends[self._ending(answer, seed)] += 1
            seed += self._clients
            if answer.status_code != 200:
                await asyncio.sleep(min(float(answer.headers.get("retry-after", 1)), 2))

    def _ending(self, answer: httpx2.Response, seed: int) -> str:
        if answer.status_code != 200:
            return str(answer.status_code) + ("" if "retry-after" in answer.headers else " without Retry-After")
        self.digests[seed] = _digest(answer)
        return "200" if answer.json()["data"][0]["seed"] == seed else "crossed"

    async def _look(self) -> None:
        while time.perf_counter() < self._end:
            start = time.perf_counter()
            (await self._client.get("/health")).raise_for_status()
            self.health_s.append(time.perf_counter() - start)
            await asyncio.sleep(0.05)


def _digest(answer: httpx2.Response) -> str:
    return hashlib.sha256(answer.json()["data"][0]["b64_json"].encode()).hexdigest()


def crowd(options: list[str], clients: int, seconds: float) -> tuple[str, list[str]]:
    """Let a crowd ask; return how its requests ended, and what should not have happened."""

    async def measured(server: Server) -> Crowd:
        async with server.client() as client:
            await draw(client, 0)
            asking = Crowd(client, clients, seconds)
            await asking.run()
        return asking

    with served(options) as server:
        asking = asyncio.run(measured(server))
    p99_s = statistics.quantiles(asking.health_s, n=100)[98]
    faults = [
        f"{count} requests ended with {end}" for end, count in asking.ends.items() if end not in ("200", "429", "503")
    ]
    if p99_s > HEALTH_P99_S:
        faults.append(f"/health took {p99_s:.3f} s")
    ends = ", ".join(f"{count:,} with {end}" for end, count in sorted(asking.ends.items()))
    return f"{clients} clients for {seconds:g} s: {ends}; `/health` p99 {1000 * p99_s:.0f} ms", faults
