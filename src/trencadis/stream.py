"""The single stream of a caption and a picture: the only file that knows token offsets, padding ids and positions.

    position    0 … text_len-1                           text_len … stream_len-1
    holds       caption tokens, then padding             image tokens in raster order
    predicts    the text token that follows              the image token that follows

The last text position predicts the first image token, and the last image position predicts nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from trencadis.config import TransformerConfig


@dataclass(frozen=True)
class Stream:
    """Sizes of the stream and what follows from them. Source: Ramesh et al. 2021, section 2.2 and appendix B.

    `text_len` includes the padding. `grid_size` is in rows and columns of image tokens.
    """

    text_len: int
    text_vocab_size: int
    grid_size: tuple[int, int]
    image_vocab_size: int

    @classmethod
    def of(cls, config: TransformerConfig) -> "Stream":
        return cls(config.text_len, config.text_vocab_size, config.grid_size, config.image_vocab_size)

    @property
    def image_len(self) -> int:
        return self.grid_size[0] * self.grid_size[1]

    @property
    def stream_len(self) -> int:
        return self.text_len + self.image_len

    @property
    def text_id_count(self) -> int:
        """Ids that a text position may hold: the tokenizer's, then one padding id for each position."""
        return self.text_vocab_size + self.text_len

    def padding(self) -> Int[Tensor, " text_len"]:
        """Return the padding id of each text position; together they are the empty caption."""
        return torch.arange(self.text_vocab_size, self.text_id_count)

    def pad_captions(self, captions: Sequence[Sequence[int]]) -> Int[Tensor, "batch text_len"]:
        """Return captions' tokens followed by the padding of the positions that they leave free.

        Args:
            captions: At most `text_len` ids in 0..text_vocab_size-1 each.
        """
        text = self.padding().repeat(len(captions), 1)
        for row, tokens in zip(text, captions, strict=True):
            assert len(tokens) <= self.text_len, f"{len(tokens)} tokens in {self.text_len} positions"
            row[: len(tokens)] = torch.tensor(list(tokens), dtype=torch.long)
        return text

    def is_padding(self, text_tokens: Int[Tensor, "batch text_len"]) -> Bool[Tensor, "batch text_len"]:
        """Return where the caption has ended."""
        return text_tokens >= self.text_vocab_size

    def text_targets(self, text_tokens: Int[Tensor, "batch text_len"]) -> Bool[Tensor, "batch text_len-1"]:
        """Return which of the text tokens after the first carry loss.

        The caption's own tokens do, and the padding that ends it; what follows an end is certain and teaches nothing.
        """
        return ~self.is_padding(text_tokens[:, :-1])

    def rows(self) -> Int[Tensor, " image_len"]:
        return torch.arange(self.image_len) // self.grid_size[1]

    def columns(self) -> Int[Tensor, " image_len"]:
        return torch.arange(self.image_len) % self.grid_size[1]
