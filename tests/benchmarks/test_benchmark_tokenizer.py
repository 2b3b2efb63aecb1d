"""The benchmark of image tokenizers, beside a checkout that the test writes: the published model in few lines."""

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import ceilings, tokenizer
from benchmarks.tokenizer import ConvolutionCeilings, work_of
from trencadis.config import DiscreteVAEConfig, PublishedConfig
from trencadis.image import DiscreteVAE

SMALL = ["--image-size", "16", "--hidden-dim", "8", "--blocks", "1", "--image-vocab", "24", "--threads", "1"]

UTILS = """
    import torch
    from collections import OrderedDict
    from torch import nn
    from torch.nn import functional as F
    class Conv2d(nn.Module):
        def __init__(self, n_in, n_out, kw):
            super().__init__()
            self.w = nn.Parameter(torch.randn(n_out, n_in, kw, kw) * (n_in * kw**2) ** -0.5)
            self.b = nn.Parameter(torch.zeros(n_out))
        def forward(self, x):
            return F.conv2d(x, self.w, self.b, padding=self.w.shape[-1] // 2)
    class Block(nn.Module):
        def __init__(self, n_in, n_out, kernels, layers):
            super().__init__()
            widths, self.gain = [n_in, *[n_out // 4] * 3, n_out], 1 / layers**2
            self.id_path = Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
            self.res_path = nn.Sequential(OrderedDict(
                layer for i in range(4) for layer in (
                    (f"relu_{i + 1}", nn.ReLU()), (f"conv_{i + 1}", Conv2d(widths[i], widths[i + 1], kernels[i])))))
        def forward(self, x):
            return self.id_path(x) + self.gain * self.res_path(x)
    def blocks(first, widths, kernels, count, resize, last):
        groups = [("input", first)]
        for i in range(4):
            group = [(f"block_{j + 1}", Block(widths[i + (j > 0)], widths[i + 1], kernels, 4 * count))
                     for j in range(count)]
            groups.append((f"group_{i + 1}", nn.Sequential(OrderedDict(group + [("resize", resize)] * (i < 3)))))
        output = nn.Sequential(OrderedDict([("relu", nn.ReLU()), ("conv", last)]))
        return nn.Sequential(OrderedDict([*groups, ("output", output)]))
    def map_pixels(x):
        return 0.8 * x + 0.1
    def unmap_pixels(x):
        return ((x - 0.1) / 0.8).clamp(0, 1)
"""
ENCODER = """
    import time
    from torch import nn
    from dall_e.utils import Conv2d, blocks
    class Encoder(nn.Module):
        def __init__(self, n_hid, n_blk_per_group, vocab_size):
            super().__init__()
            widths = [n_hid, n_hid, 2 * n_hid, 4 * n_hid, 8 * n_hid]
            self.blocks = blocks(Conv2d(3, n_hid, 7), widths, (3, 3, 3, 1), n_blk_per_group, nn.MaxPool2d(2),
                                 Conv2d(8 * n_hid, vocab_size, 1))
        def forward(self, x):
            time.sleep(0.05)
            return self.blocks(x)
"""
DECODER = """
    from torch import nn
    from dall_e.utils import Conv2d, blocks
    class Decoder(nn.Module):
        def __init__(self, n_init, n_hid, n_blk_per_group, vocab_size):
            super().__init__()
            widths = [n_init, 8 * n_hid, 4 * n_hid, 2 * n_hid, n_hid]
            self.blocks = blocks(Conv2d(vocab_size, n_init, 1), widths, (1, 3, 3, 3), n_blk_per_group,
                                 nn.Upsample(scale_factor=2), Conv2d(n_hid, 6, 1))
        def forward(self, x):
            return self.blocks(x) CHANGE
"""


@pytest.fixture(autouse=True)
def quick_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "MATMUL_SIDE", 64)
    monkeypatch.setattr(tokenizer, "READ_SHAPE", (64, 64))
    monkeypatch.setattr(ConvolutionCeilings, "channels", 8)


def measured(folder: Path, *, change: str) -> dict[str, Any]:
    files = {"__init__": "import requests_that_is_absent", "utils": UTILS, "encoder": ENCODER, "decoder": DECODER}
    (folder / "dall_e").mkdir(parents=True)
    for name, text in files.items():
        (folder / "dall_e" / f"{name}.py").write_text(textwrap.dedent(text).replace("CHANGE", change))
    peer = ["--peer", "openai-DALL-E", "--peer-path", str(folder), "--peer-python", sys.executable]
    out = folder / "out.json"
    assert tokenizer.main([*SMALL, *peer, "--batch-sizes", "1", "3", "--repeats", "1", "--json", str(out)]) == 0
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def test_both_have_the_same_weights_and_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = measured(tmp_path, change="")
    assert [row["batch_size"] for row in report["agreement"]] == [1, 3]
    for agreement in report["agreement"]:
        assert agreement["tokens"] == agreement["batch_size"] * 2 * 2
        assert agreement["tokens_that_differ"] == 0
        assert agreement["largest_pixel_difference"] < 1e-5
    rows = {(row["contender"], row["work"], row["batch_size"]): row for row in report["rows"]}
    assert len(rows) == 8
    ours, theirs = rows["trencadis", "encode", 3], rows["openai-DALL-E", "encode", 3]
    assert theirs["seconds"] >= 0.05
    assert ours["times_as_fast_as_peer"] == pytest.approx(theirs["seconds"] / ours["seconds"])
    assert ours["share_of_ceiling"] == pytest.approx(ours["ceiling_s"] / ours["seconds"])
    assert ours["ceiling_s"] == theirs["ceiling_s"]
    assert "that differ" in capsys.readouterr().out


def test_a_difference_is_found(tmp_path: Path) -> None:
    one, three = measured(tmp_path, change="+ 0.4")["agreement"]
    assert one["tokens_that_differ"] == three["tokens_that_differ"] == 0
    assert 0.05 < one["largest_pixel_difference"] < 0.15  # the steepest of the sigmoid, over 0.8: 0.4 / 4 / 0.8


def test_operations_are_the_counters() -> None:
    config = DiscreteVAEConfig(
        image_size=(32, 48),
        image_vocab_size=24,
        latent_dim=12,
        architecture=PublishedConfig(hidden_dim=8, width_multipliers=(1, 2, 4)),
    )
    dvae, works = DiscreteVAE(config).double(), work_of(config)  # in 64 bits nothing is fused
    assert works.keys() == {"encode", "decode"}
    with torch.no_grad():
        with FlopCounterMode(display=False) as encoding:
            dvae.bottleneck.to_logits.double()(dvae.encoder(torch.rand(1, 3, 32, 48).double()))  # type: ignore[operator]
        with FlopCounterMode(display=False) as decoding:
            dvae.decode(torch.zeros(1, 8, 12, dtype=torch.long))
    assert works["encode"].flops == encoding.get_total_flops()
    assert works["decode"].flops == decoding.get_total_flops()
    pixels = 32 * 48
    assert works["decode"].size_bytes > 4 * (8 + 6) * pixels  # the last convolution alone


def test_other_peers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert tokenizer.main([*SMALL, "--peer", "minDALL-E", "--peer-path", "/"]) == 2
    assert tokenizer.main([*SMALL, "--peer-path", "/"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "--peer minDALL-E" in first
    assert "openai-DALL-E" in second
