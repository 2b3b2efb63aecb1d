"""The four places to plug in, and what a part may offer besides. An object is passed as it is built.

Sizes are (height, width) in pixels and (rows, columns) in tokens throughout.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class TextTokenizer(Protocol):
    """Captions to text tokens and back."""

    @property
    def vocab_size(self) -> int:
        """Number of ids; `encode` returns ids in 0..vocab_size-1."""

    def encode(self, caption: str, *, max_len: int | None = None, dropout: float = 0.0, seed: int = 0) -> list[int]:
        """Return the caption's tokens, cut to `max_len` with a warning; `dropout` skips merges, seeded."""

    def decode(self, text_tokens: Sequence[int]) -> str:
        """Return the (normalised) caption that the tokens stand for."""


@runtime_checkable
class ImageTokenizer(Protocol):
    """Pictures to a grid of image tokens and back. Pictures are RGB in [0, 1]."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures that it encodes, in pixels."""

    @property
    def drawn_size(self) -> tuple[int, int]:
        """Height and width of the pictures that it decodes a grid of `grid_size` to: `image_size`, or a multiple."""

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of tokens for a picture of `image_size`."""

    @property
    def image_vocab_size(self) -> int:
        """Number of codes; tokens are in 0..image_vocab_size-1."""

    @property
    def down_factor(self) -> int:
        """Pixels of an encoded picture that a token stands for along each side."""

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Int[Tensor, "batch rows columns"]: ...

    def decode(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch 3 height width"]: ...


@runtime_checkable
class PairSource(Protocol):
    """Captioned pictures, each reached by its index; nothing is decoded until it is asked for."""

    def __len__(self) -> int: ...

    def sample_id(self, index: int) -> str:
        """Return the pair's name, unique and stable over runs and machines: order and augmentation depend on it."""

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the pair's captions as they stand in the source; may be empty."""

    def weight(self, index: int) -> float:
        """Return the share of epochs, in (0, 1], in which the pair appears."""

    def image_bytes(self, index: int) -> bytes:
        """Return the picture's file content, undecoded."""


@runtime_checkable
class Ranker(Protocol):
    """How well pictures fit a prompt."""

    def score(self, images: Float[Tensor, "candidates 3 height width"], prompt: str) -> Float[Tensor, " candidates"]:
        """Return one similarity a picture, higher is better; pictures are RGB in [0, 1]."""


@runtime_checkable
class Movable(Protocol):
    """A part of a model that `DALLE.to` moves, in place."""

    def to(self, device: str | torch.device) -> object: ...


@runtime_checkable
class Savable(Protocol):
    """A part of a model that `DALLE.save_pretrained` writes. See `trencadis.register` for how it is loaded."""

    def save_pretrained(self, save_directory: Path) -> None:
        """Write it into a directory of its own."""


@runtime_checkable
class Digested(Protocol):
    """A part of a model whose pictures can say exactly which model drew them."""

    def digest(self) -> str:
        """Return a hash of its weights and settings."""
