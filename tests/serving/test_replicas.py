"""Two replicas on one machine, by Ray Serve."""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from trencadis import DALLE

pytestmark = pytest.mark.slow
START_S, PICTURES = 240, 16


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def metric(url: str, name: str) -> float:
    text = httpx2.get(f"{url}/metrics", timeout=60).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*?}})? (\S+)$", text, re.M))


def test_two_replicas_share_the_requests_and_draw_what_one_process_draws(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    url, log = f"http://127.0.0.1:{(port := free_port())}", tmp_path / "log.txt"
    command = [sys.executable, "-m", "trencadis", "serve", "--model", f"tiny={tiny}", "--port", str(port)]
    environment = os.environ | {"RAY_ADDRESS": "local"}
    with log.open("wb") as output:
        options = ["--replicas", "2", "--threads", "1"]
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output, env=environment)
    try:
        end = time.monotonic() + START_S
        while "2 replicas running" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)

        def ask(seed: int) -> httpx2.Response:
            body = {"prompt": "a red heart", "seed": seed, "candidates": 1}
            return httpx2.post(f"{url}/v1/images/generations", json=body, timeout=120)

        with ThreadPoolExecutor(4) as clients:
            answers = list(clients.map(ask, range(PICTURES)))
        assert [answer.status_code for answer in answers] == [200] * PICTURES
        model = DALLE.from_pretrained(tiny)
        for seed in (0, 1, PICTURES - 1):
            content = base64.b64decode(answers[seed].json()["data"][0]["b64_json"])
            alone = model.generate("a red heart", candidates=1, keep=1, seed=seed).images[0]
            assert Image.open(io.BytesIO(content)).tobytes() == alone.tobytes()
        # Each answer is of one replica; both have drawn, and together all.
        counts = {metric(url, "trencadis_pictures_total") for _ in range(60)}
        assert sum(counts) * (2 if len(counts) == 1 else 1) == PICTURES
        assert min(counts) > 0
        body = {"prompt": "x", "stream": True, "partial_images": 2}
        with httpx2.stream("POST", f"{url}/v1/images/generations", json=body, timeout=120) as streamed:
            events = [line for line in streamed.iter_lines() if line.startswith("event: ")]
        assert [event.rpartition(".")[2] for event in events] == ["partial_image", "partial_image", "completed"]
        refused = httpx2.post(f"{url}/v1/images/generations", json={}, timeout=60)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "missing_required_parameter")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
