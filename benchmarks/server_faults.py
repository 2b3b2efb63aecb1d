"""What clients do wrong, and the end: malformed requests, clients that leave, SIGTERM under load."""

import asyncio
import random
import signal
import time

import httpx2

from benchmarks.server import GENERATIONS, Server, draw, served

MOST_PASSES = 2  # after a client has left
_PASSES = "trencadis_pass_seconds_count"
_LOAD = 16
_SENT_S = 0.25  # a request that was begun so long ago has arrived
_PARALLEL = 16
_ANSWER_S = 90.0  # longer than the server waits for a body
_BODY = b'{"prompt": "x", "n": 1}'
_WHOLE = b"POST /v1/images/generations HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
_FORM = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n\x89PNG\r\n\x1a\n\r\n--b--\r\n'
_BASES = (
    _WHOLE + b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY),
    _WHOLE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY),
    _WHOLE + b"Content-Length: 99999999999\r\n\r\n" + _BODY,
    _WHOLE + b"Content-Length: 9\r\nContent-Length: 7\r\n\r\n" + _BODY,
    _WHOLE + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    _WHOLE + b"Content-Type: application/json\r\nContent-Length: 20000\r\n\r\n" + b"[" * 20_000,
    _WHOLE.replace(b"generations", b"edits")
    + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n%b" % (len(_FORM), _FORM),
    b"GET /pictures/../../etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
)


def mutated(choices: random.Random) -> bytes:
    """Return a raw request with bytes replaced, and often cut off."""
    raw = bytearray(choices.choice(_BASES))
    for _ in range(choices.randint(1, 12)):
        raw[choices.randrange(len(raw))] = choices.randrange(256)
    return bytes(raw if choices.random() < 0.5 else raw[: choices.randint(1, len(raw))])


async def _send(server: Server, raw: bytes) -> None:
    """Send bytes, and read until the server closes; raises `TimeoutError` where it does not."""
    address = httpx2.URL(server.url)
    async with asyncio.timeout(_ANSWER_S):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(raw)
            writer.write_eof()
            await reader.read()
        except OSError:  # it may close before it has read all
            pass
        finally:
            writer.close()


async def _send_all(server: Server, choices: random.Random, count: int) -> int:
    """Return how many connections the server left open."""
    turns, hung = asyncio.Semaphore(_PARALLEL), 0

    async def one() -> None:
        nonlocal hung
        async with turns:
            try:
                await _send(server, mutated(choices))
            except TimeoutError:
                hung += 1

    await asyncio.gather(*(one() for _ in range(count)))
    return hung


async def _draw_some(server: Server) -> None:
    """Draw pictures, several at a time; threads that start when they are needed have started then."""
    async with server.client() as client:
        for answer in await asyncio.gather(*(draw(client, seed) for seed in range(8))):
            answer.raise_for_status()


def malformed(options: list[str], count: int) -> tuple[str, list[str]]:
    """Send malformed requests; return the figures, and what should not have happened."""
    choices = random.Random(0)
    with served(options) as server:
        asyncio.run(_draw_some(server))
        asyncio.run(_send_all(server, choices, max(50, count // 10)))  # what is allocated once is there after these
        before = server.held()
        hung = asyncio.run(_send_all(server, choices, count))
        faults = [f"{hung} connections stayed open"] if hung else []
        faults += [f"leaked {leak}" for leak in server.leaks(before)]
        asyncio.run(_draw_some(server))
        grown = (server.held().rss_bytes - before.rss_bytes) / 2**20
    return f"{count:,} malformed requests: the server draws; its memory changed by {grown:+.0f} MiB", faults


async def _leave_once(server: Server) -> int:
    """Leave while ten pictures are drawn, and return the passes until nothing was drawn any more."""
    async with server.client() as client:
        body = {"prompt": "x", "n": 10, "quality": "low", "stream": True, "partial_images": 3}
        passes = server.metric(_PASSES)
        async with client.stream("POST", GENERATIONS, json=body) as answer:
            answer.raise_for_status()
            drawn = server.until(_PASSES, lambda now: now > passes)
    server.until("trencadis_drawings", lambda now: now == 0)
    return int(server.metric(_PASSES) - drawn)


def disconnects(options: list[str], count: int) -> tuple[str, list[str]]:
    """Let clients leave; return the figures, and what should not have happened."""
    with served(options) as server:
        asyncio.run(_draw_some(server))
        for _ in range(3):
            asyncio.run(_leave_once(server))
        before, cancelled = server.held(), server.metric("trencadis_cancelled_total")
        passes = [asyncio.run(_leave_once(server)) for _ in range(count)]
        faults = [f"leaked {leak}" for leak in server.leaks(before)]
        if (seen := server.metric("trencadis_cancelled_total") - cancelled) != count:
            faults.append(f"{seen:g} of {count} requests were given up")
    if max(passes) > MOST_PASSES:
        faults.append(f"{sum(passes > MOST_PASSES for passes in passes)} went on for more than {MOST_PASSES} passes")
    return f"{count} clients left: at most {max(passes)} tokens more were drawn, and nothing is held", faults


class _Ending:
    """A server under load that is told to stop."""

    def __init__(self, server: Server) -> None:
        self._server, self._client = server, server.client()
        self._told_s = self._unready_s = float("inf")
        self._taken: list[tuple[float, float, int]] = []  # of each request: begun, ended, status; 0 is no answer

    async def run(self) -> list[str]:
        """Return what should not have happened."""
        async with self._client:
            asking = [asyncio.ensure_future(self._ask(number)) for number in range(_LOAD)]
            await asyncio.to_thread(self._server.until, "trencadis_drawings", lambda now: now > 0)
            await asyncio.sleep(2 * _SENT_S)
            self._told_s = time.monotonic()
            self._server.process.send_signal(signal.SIGTERM)
            await asyncio.gather(self._look(), *asking)
        code = await asyncio.to_thread(self._server.process.wait, 120)
        before = [
            (ended, status)
            for begun, ended, status in self._taken
            if begun < self._told_s - _SENT_S and ended > self._told_s
        ]
        faults = [f"the exit code is {code}"] if code else []
        if others := sorted({status for _, status in before} - {200}):
            faults.append(f"requests that were taken in ended with {others}")
        if not before or self._unready_s > max(ended for ended, _ in before):
            faults.append("admitted requests ended before /ready said so")
        after = {status for begun, _, status in self._taken if begun > self._unready_s}
        return faults + [f"a request after the end got {status}" for status in sorted(after - {0, 503})]

    async def _ask(self, number: int) -> None:
        seed, status = number, 200
        while status == 200:
            begun = time.monotonic()
            try:
                status = (await draw(self._client, seed, n=4, candidates=4)).status_code
            except httpx2.HTTPError:
                status = 0
            self._taken.append((begun, time.monotonic(), status))
            seed += _LOAD

    async def _look(self) -> None:
        """Ask whether it is ready until it is not."""
        while True:
            try:
                if (await self._client.get("/ready")).status_code == 503:
                    self._unready_s = time.monotonic()
                    return
            except httpx2.HTTPError:
                return
            await asyncio.sleep(0.005)


def stops(options: list[str], count: int) -> tuple[str, list[str]]:
    """Stop servers under load; return the figures, and what should not have happened."""
    faults: list[str] = []
    for number in range(count):
        with served(options) as server:
            faults += [f"stop {number + 1}: {fault}" for fault in asyncio.run(_Ending(server).run())]
    return f"{count} times SIGTERM under load: not ready first, admitted requests drawn, exit code 0", faults
