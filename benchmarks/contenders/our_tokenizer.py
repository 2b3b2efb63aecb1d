"""Trencadís' own discrete VAE."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders.openai_dalle import SEED, image_tokens, pictures
from trencadis.config import DiscreteVAEConfig
from trencadis.config.plain import from_plain
from trencadis.image import DiscreteVAE
from trencadis.importers import read_openai_dvae


def load(path: Path | None) -> type["OurTokenizer"]:
    """Return the contender; there is no checkout to load."""
    assert path is None
    return OurTokenizer


class OurTokenizer:
    """The contender.

    Args:
        shape: Fields of `DiscreteVAEConfig`.
    """

    settings = "DiscreteVAE.encode() and decode(), float32"

    def __init__(self, shape: dict[str, Any]) -> None:
        self.config = from_plain(DiscreteVAEConfig, shape)
        self._kept: dict[str, torch.Tensor] = {}

    @cached_property
    def tokenizer(self) -> DiscreteVAE:
        """The model, with random weights unless `read` was called before its first use."""
        torch.manual_seed(SEED)
        return DiscreteVAE(self.config).eval()

    def read(self, folder: str) -> None:
        """Import published files, and load the result."""
        imported = Path(folder, "imported")
        read_openai_dvae([Path(folder)], self.config.image_size).save_pretrained(imported)
        self.tokenizer = DiscreteVAE.from_pretrained(imported)

    def keep(self, path: str) -> None:
        """Write the results of the last calls."""
        torch.save(self._kept, path)

    def encode(self, batch_size: int) -> None:
        """Encode pictures."""
        self._kept["image_tokens"] = self.tokenizer.encode(pictures(batch_size, self.tokenizer.image_size))

    def decode(self, batch_size: int) -> None:
        """Decode tokens."""
        tokens = image_tokens(batch_size, self.tokenizer.grid_size, self.tokenizer.image_vocab_size)
        self._kept["pictures"] = self.tokenizer.decode(tokens)
