"""OpenAI's discrete VAE of DALL·E, from a checkout of github.com/openai/DALL-E.

We import its `Encoder`, `Decoder`, `map_pixels` and `unmap_pixels` from the checkout and use them as its notebook does:
the most likely code at each position, one-hot codes into the decoder, and the sigmoid of the first three maps. We skip
the package's `__init__`, which imports `requests` to download weights. `attrs` is needed.

Settings: float32, as its code computes on a CPU, without gradients, which its notebook leaves on. Weights and biases
are random.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.contenders.mindalle import package_from

SEED = 0
GROUPS = 4  # fixed in its code


def load(path: Path) -> type["OpenAIDALLE"]:
    """Return the contender, its modules imported from the checkout at `path`.

    Raises:
        ImportError: They are not there, or import what is not installed.
    """
    package_from(path / "dall_e", "dall_e")
    OpenAIDALLE.encoder_type = importlib.import_module("dall_e.encoder").Encoder
    OpenAIDALLE.decoder_type = importlib.import_module("dall_e.decoder").Decoder
    OpenAIDALLE.pixels = importlib.import_module("dall_e.utils")
    return OpenAIDALLE


@cache
def pictures(batch_size: int, image_size: tuple[int, int]) -> torch.Tensor:
    """Return random pictures, RGB in [0, 1], the same for every contender."""
    return torch.rand(batch_size, 3, *image_size, generator=torch.Generator().manual_seed(SEED))


@cache
def image_tokens(batch_size: int, grid_size: tuple[int, int], image_vocab_size: int) -> torch.Tensor:
    """Return random tokens, the same for every contender."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(image_vocab_size, (batch_size, *grid_size), generator=generator)


class OpenAIDALLE:
    """The contender.

    Args:
        shape: Fields of our `DiscreteVAEConfig`, of the published architecture with four groups.
    """

    encoder_type: Any
    decoder_type: Any
    pixels: Any
    settings = "its Encoder and Decoder as its notebook uses them, float32, without gradients"

    def __init__(self, shape: dict[str, Any]) -> None:
        torch.manual_seed(SEED)
        convolutions = shape["architecture"]
        assert len(convolutions["width_multipliers"]) == GROUPS
        self.image_size = tuple(shape["image_size"])
        self.vocab_size = shape["image_vocab_size"]
        sizes = {
            "n_hid": convolutions["hidden_dim"],
            "n_blk_per_group": convolutions["blocks_per_group"],
            "vocab_size": self.vocab_size,
        }
        self.encoder = self.encoder_type(**sizes).eval()
        self.decoder = self.decoder_type(n_init=shape["latent_dim"], **sizes).eval()
        for name, parameter in [*self.encoder.named_parameters(), *self.decoder.named_parameters()]:
            if name.endswith(".b"):  # biases start at zero, which would hide a difference
                parameter.data.normal_(std=0.1)
        self._kept: dict[str, torch.Tensor] = {}

    def save(self, folder: str) -> None:
        """Write the weights like its publisher, but without code in the files."""
        torch.save(self.encoder.state_dict(), Path(folder, "encoder.pkl"))
        torch.save(self.decoder.state_dict(), Path(folder, "decoder.pkl"))

    def keep(self, path: str) -> None:
        """Write the results of the last calls."""
        torch.save(self._kept, path)

    @torch.no_grad()
    def encode(self, batch_size: int) -> None:
        """Encode pictures."""
        logits = self.encoder(self.pixels.map_pixels(pictures(batch_size, self.image_size)))
        self._kept["image_tokens"] = torch.argmax(logits, dim=1)

    @torch.no_grad()
    def decode(self, batch_size: int) -> None:
        """Decode tokens."""
        grid_size = tuple(side // 2 ** (GROUPS - 1) for side in self.image_size)
        tokens = image_tokens(batch_size, grid_size, self.vocab_size)
        codes = F.one_hot(tokens, num_classes=self.vocab_size).permute(0, 3, 1, 2).float()
        maps = self.decoder(codes).float()
        self._kept["pictures"] = self.pixels.unmap_pixels(torch.sigmoid(maps[:, :3]))
