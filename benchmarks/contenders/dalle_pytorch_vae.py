"""DALLE-pytorch's unchanged `DiscreteVAE`, from a checkout of github.com/lucidrains/DALLE-pytorch.

It trains as in its train_vae.py: Adam at 1e-3, reduced by 2 % every hundred updates, batches of 8, its slow temperature
decay from 1, and no KL. You can change each of these, as its users could. `schedule: cosine`, which its script does not
have, adds a warm-up and cosine decay of the learning rate, and a cosine decay of the temperature to
`final_temperature` over 80 % of the time. Its pictures are clamped to [0, 1].
"""

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.contenders.mindalle import package_from, stand_in
from trencadis.config import DiscreteVAEConfig


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """Options of its script, with the script's defaults, except for the width, which has its class's default."""

    hidden_dim: int = 64
    codebook_dim: int = 512
    num_resnet_blocks: int = 2
    kl_weight: float = 0.0
    straight_through: bool = False
    learning_rate: float = 1e-3
    batch_size: int = 8
    schedule: Literal["own", "cosine"] = "own"
    final_temperature: float = 0.5


def load(path: Path) -> Any:
    """Return its class, imported from the checkout at `path`.

    Raises:
        ImportError: It is not there, or imports what is not installed.
    """
    package_from(path / "dalle_pytorch", "dalle_pytorch")
    stand_in("dalle_pytorch.vae", even_if_installed=True, OpenAIDiscreteVAE=None, VQGanVAE=None)
    stand_in("rotary_embedding_torch", RotaryEmbedding=None, broadcat=None, apply_rotary_emb=None)
    stand_in("axial_positional_embedding", AxialPositionalEmbedding=None)
    return importlib.import_module("dalle_pytorch.dalle_pytorch").DiscreteVAE


class PeerTraining:
    """Its training: call `update` with the spent share of the budget, then `reconstruct`."""

    def __init__(self, peer: Any, model: DiscreteVAEConfig, settings: PeerSettings, *, seed: int) -> None:
        torch.manual_seed(seed)
        self.settings = settings
        self.vae = peer(
            image_size=model.image_size[0],
            num_tokens=model.image_vocab_size,
            codebook_dim=settings.codebook_dim,
            num_layers=int(math.log2(model.down_factor)),
            num_resnet_blocks=settings.num_resnet_blocks,
            hidden_dim=settings.hidden_dim,
            kl_div_loss_weight=settings.kl_weight,
            straight_through=settings.straight_through,
        )
        self.optimizer = torch.optim.Adam(self.vae.parameters(), lr=settings.learning_rate)
        self.step, self.temperature, self.learning_rate = 0, 1.0, settings.learning_rate

    def update(self, images: Tensor, progress: float) -> None:
        """Make one update, at this share of the budget."""
        self._schedule(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        loss = self.vae(images, return_loss=True, temp=self.temperature)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1

    def _schedule(self, progress: float) -> None:
        settings = self.settings
        if settings.schedule == "own":
            if self.step % 100 == 0 and self.step:
                self.temperature = max(self.temperature * math.exp(-1e-6 * self.step), settings.final_temperature)
                self.learning_rate *= 0.98
            return
        fall = (1 + math.cos(math.pi * progress)) / 2
        self.learning_rate = settings.learning_rate * (0.02 + 0.98 * fall) * min(1.0, (self.step + 1) / 50)
        fall = (1 + math.cos(math.pi * min(1.0, progress / 0.8))) / 2
        self.temperature = settings.final_temperature + (1 - settings.final_temperature) * fall

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return its reconstructions from hard codes, RGB in [0, 1], and the codes."""
        self.vae.eval()
        tokens = self.vae.get_codebook_indices(images)
        return (self.vae.decode(tokens) * 0.5 + 0.5).clamp(0, 1), tokens
