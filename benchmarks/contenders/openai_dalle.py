"""OpenAI's discrete VAE of DALL·E, from a checkout of github.com/openai/DALL-E.

Its `Encoder`, `Decoder`, `map_pixels` and `unmap_pixels` are imported from the checkout and used as its notebook does:
the most likely code of each place, one-hot codes into the decoder, and the sigmoid of the first three maps. The
package's `__init__` is passed over, as it imports `requests` to download weights; `attrs` is needed.

Settings: float32, as its code computes on a CPU, and without a graph of gradients, which its notebook leaves on.
Weights are random, biases too.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.contenders.mindalle import package_from

SEED = 0
GROUPS = 4  # its code has no other number


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
    """Return made-up pictures, RGB in [0, 1]: the same for every contender."""
    return torch.rand(batch_size, 3, *image_size, generator=torch.Generator().manual_seed(SEED))


@cache
def image_tokens(batch_size: int, grid_size: tuple[int, int], image_vocab_size: int) -> torch.Tensor:
    """Return made-up tokens: the same for every contender."""
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
            if name.endswith(".b"):  # they start at zero, where a difference would not be noticed
                parameter.data.normal_(std=0.1)
        self._kept: dict[str, torch.Tensor] = {}

    def save(self, folder: str) -> None:
        """Write the weights as its publisher did, but for the code in the files."""
        torch.save(self.encoder.state_dict(), Path(folder, "encoder.pkl"))
        torch.save(self.decoder.state_dict(), Path(folder, "decoder.pkl"))

    def keep(self, path: str) -> None:
        """Write what the last calls gave."""
        torch.save(self._kept, path)

    @torch.no_grad()
    def encode(self, batch_size: int) -> None:
        """Give pictures their tokens."""
        logits = self.encoder(self.pixels.map_pixels(pictures(batch_size, self.image_size)))
        self._kept["image_tokens"] = torch.argmax(logits, dim=1)

    @torch.no_grad()
    def decode(self, batch_size: int) -> None:
        """Draw the pictures of tokens."""
        grid_size = tuple(side // 2 ** (GROUPS - 1) for side in self.image_size)
        tokens = image_tokens(batch_size, grid_size, self.vocab_size)
        codes = F.one_hot(tokens, num_classes=self.vocab_size).permute(0, 3, 1, 2).float()
        maps = self.decoder(codes).float()
        self._kept["pictures"] = self.pixels.unmap_pixels(torch.sigmoid(maps[:, :3]))
