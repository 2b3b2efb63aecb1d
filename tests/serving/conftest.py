"""Servers on real ports, in processes of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import torch
from openai import OpenAI

from trencadis import DALLE, CaptionTokenizer, DiscreteVAE, Transformer
from trencadis.config import DiscreteVAEConfig, LeanConfig, TransformerConfig

START_S = 120


@dataclass
class Running:
    """A server that runs, and what it logs."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    clients: dict[str, OpenAI] = field(default_factory=dict)

    def client(self, key: str = "any") -> OpenAI:
        """Return the client of a key; `start` closes them."""
        if key not in self.clients:
            self.clients[key] = OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)
        return self.clients[key]

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        text = httpx2.get(f"{self.url}/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*?}})? (\S+)$", text, re.M))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


Start = Callable[..., Running]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A function that starts a server with options of the command."""
    started: list[Running] = []

    def run(*options: str, **environment: str) -> Running:
        log = tmp_path_factory.mktemp("serving") / "log.txt"
        command = [sys.executable, "-m", "trencadis", "serve", "--port", "0", "--threads", "1", *options]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stderr=output, stdout=output, env=os.environ | environment)
        end = time.monotonic() + START_S
        while (found := re.search(r"running on (http://\S+)", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        started.append(Running(process, found[1], log))
        return started[-1]

    yield run
    for each in started:
        for client in each.clients.values():
            client.close()
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def save_model(path: Path, *, grid: int = 4, layers: int = 1) -> Path:
    """Write a random model of `4 * grid` pixels, and return its directory."""
    torch.manual_seed(0)
    side, lean = 4 * grid, LeanConfig(widths=(8, 8))
    image = DiscreteVAEConfig(image_size=(side, side), image_vocab_size=32, latent_dim=8, architecture=lean)
    texts = CaptionTokenizer.train(["a red heart", "a blue circle"] * 4, vocab_size=300)
    transformer = TransformerConfig(
        text_len=8, text_vocab_size=texts.vocab_size, grid_size=image.grid_size, image_vocab_size=32, num_layers=layers,
        num_heads=2, head_dim=8,
    )  # fmt: skip
    DALLE(
        text_tokenizer=texts, image_tokenizer=DiscreteVAE(image), transformer=Transformer(transformer), name="tiny"
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model without a ranker that draws in milliseconds."""
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that takes seconds."""
    return save_model(tmp_path_factory.mktemp("models") / "slow", grid=32, layers=2)


@pytest.fixture(scope="session")
def server(start: Start, tiny: Path) -> Running:
    """A server of `tiny`, shared by the tests."""
    return start("--model", f"tiny={tiny}", "--deadline-s", "60", "--max-waiting", "64")
