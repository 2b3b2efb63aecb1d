"""Tokenizers measured beside each other, on tiny sizes, with somebody else's standing in for the peer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import reconstruction
from benchmarks.contenders.dalle_pytorch_vae import PeerSettings, PeerTraining
from benchmarks.reconstruction import main, stage_of, train_ours
from tests.shapes import write_shapes
from trencadis.config import DataConfig, LeanConfig
from trencadis.data import read_picture
from trencadis.errors import ConfigError
from trencadis.recipes import RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.training.known_pairs import read_pairs
from trencadis.training.trainer import Metrics, Trainer

MODEL = RECIPES["tiny"]().image.model


class Colours(nn.Module):
    """Has the peer's methods: tokens are by brightness, and a picture is its tokens' grey."""

    def __init__(self, **sizes: object) -> None:
        super().__init__()
        self.sizes, self.temperatures = sizes, list[float]()
        self.grey = nn.Parameter(torch.zeros(32))

    def forward(self, images: Tensor, *, return_loss: bool, temp: float) -> Tensor:
        assert return_loss
        self.temperatures.append(temp)
        return (self._drawn(self.get_codebook_indices(images)) - images).square().mean()

    def get_codebook_indices(self, images: Tensor) -> Tensor:
        small = F.avg_pool2d(images.mean(1, keepdim=True), 4)
        return (small * 31.99).long().flatten(1)

    def decode(self, tokens: Tensor) -> Tensor:
        return 2 * self._drawn(tokens) - 1

    def _drawn(self, tokens: Tensor) -> Tensor:
        grey = (torch.linspace(0, 1, 32) + self.grey)[tokens].view(-1, 1, 4, 4)
        return F.interpolate(grey, scale_factor=4).expand(-1, 3, -1, -1)


def test_contenders_are_recipes_with_settings() -> None:
    stage = stage_of("tiny-vqvae:batch_size=3,losses.commitment=0.5,model.architecture.widths=[8,16]")
    assert (stage.batch_size, stage.losses.commitment) == (3, 0.5)
    assert stage.model.architecture == LeanConfig(widths=(8, 16))
    assert stage.model.codes.kind == "euclidean"
    with pytest.raises(ConfigError, match="no-such"):
        stage_of("no-such")


def test_all_are_measured_on_the_same_pictures(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(reconstruction, "load", lambda path: Colours)
    held_out = write_shapes(tmp_path / "held out", 24, side=32)
    out = tmp_path / "figures"
    options = ["--seconds", "0.3", "--shown", "4", "--out", str(out), "--peer-path", str(tmp_path)]
    main([str(shapes), str(held_out), *options, "--contenders", "tiny", "tiny-vqvae", "DALLE-pytorch"])
    torch.set_num_threads(threads)
    lines = [json.loads(line) for line in (out / "figures.jsonl").read_text().splitlines()]
    assert [line["contender"] for line in lines] == ["tiny", "tiny-vqvae", "DALLE-pytorch"]
    for line in lines:
        assert line["held_out"] == 24
        assert 5 < line["psnr"] < 40
        assert 0 < line["code_use"] <= 1 <= line["code_perplexity"] <= 32
        assert line["steps"] > 0
        assert line["processor_s"] > 0.1
    sheet = read_picture(out / "sheet.png")
    row = read_picture(out / "tiny.png")
    assert sheet.width > row.width
    assert sheet.height > 4 * row.height


@pytest.mark.usefixtures("without_type_checks")
def test_schedules_end_with_the_budget_on_a_machine_that_becomes_slow(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, clock = list[float](), [0.0]

    class Watched(Trainer):
        def update(self, microbatches: Sequence[Any]) -> Metrics:
            shares.append(self.step / self.steps)
            clock[0] += 1.0 if clock[0] < 20 else 4.0
            return super().update(microbatches)

    monkeypatch.setattr(reconstruction, "Trainer", Watched)
    monkeypatch.setattr("benchmarks.reconstruction.time.process_time", lambda: clock[0])
    data = DataConfig(path=str(shapes))
    pairs = read_pairs(data, 0, RunDirectory(tmp_path))
    outcome = train_ours(stage_of("tiny-ibq"), pairs, data, torch.rand(4, 3, 16, 16), 40.0)
    assert (outcome.steps, outcome.processor_s) == (25, 40.0)
    assert shares == pytest.approx([spent / 40 for spent in (*range(21), 24, 28, 32, 36)], abs=0.02)


def test_the_peer_is_trained_by_its_own_rule_or_by_cosines() -> None:
    own = PeerTraining(Colours, MODEL, PeerSettings(), seed=0)
    assert own.vae.sizes["num_layers"] == 2
    images = torch.rand(2, 3, 16, 16)
    for _ in range(201):
        own.update(images, 0.5)
    assert own.learning_rate == pytest.approx(1e-3 * 0.98**2)
    assert own.vae.temperatures[-1] == pytest.approx(1.0, abs=1e-3)
    cosine = PeerTraining(Colours, MODEL, PeerSettings(schedule="cosine", final_temperature=0.1), seed=0)
    for progress in (0.0, 0.4, 0.9):
        cosine.step = 100
        cosine.update(images, progress)
    assert cosine.vae.temperatures == pytest.approx([1.0, 0.55, 0.1])
    assert cosine.learning_rate == pytest.approx(1e-3 * (0.02 + 0.98 * 0.0244717), rel=1e-3)
