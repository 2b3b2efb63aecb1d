"""DALLE-pytorch by Phil Wang and others, from a checkout of github.com/lucidrains/DALLE-pytorch.

We import its class `DALLE` from the checkout and use it unchanged. We skip the package's `__init__` (pkg_resources).
Two stub classes replace its module `vae` (taming, omegaconf, requests); they have the sizes that `DALLE` reads, and
decode nothing. A stub replaces `rotary_embedding_torch` if it is missing, as no rotation is used.
`axial_positional_embedding` and `einops` are needed.

Settings: the fastest that its code has for this shape. Full attention, because its cache supports no other; no rotary
embeddings and no shifted tokens, which add work; not reversible, which computes twice. Its MLP is gated, with 1.5 times
the weights of ours, and each step computes the logits of both vocabularies: this is its design.

Its `generate_images` passes the cache on only if `cond_scale` is not 1; otherwise every step reads the whole stream
again. So we draw with the same loop and pass the cache to `DALLE.forward`, which is many times faster. With `own_loop`,
`generate_images` draws unchanged. No top-k filter, which takes time; with `own_loop`, its default filter. An update is
its `forward` with `return_loss`, and Adam, as in its train_dalle.py, without clipping.
"""

import importlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.contenders.mindalle import package_from, stand_in

SEED = 0


def load(path: Path) -> type["DALLEPytorch"]:
    """Return the contender, its modules imported from the checkout at `path`.

    Raises:
        ImportError: They are not there, or import what is not installed.
    """
    package_from(path / "dalle_pytorch", "dalle_pytorch")
    stand_in("dalle_pytorch.vae", even_if_installed=True, OpenAIDiscreteVAE=StandInVAE, VQGanVAE=StandInVAE)
    stand_in("rotary_embedding_torch", RotaryEmbedding=None, broadcat=None, apply_rotary_emb=None)
    DALLEPytorch.module = importlib.import_module("dalle_pytorch.dalle_pytorch")
    return DALLEPytorch


class StandInVAE(nn.Module):
    """A stub image tokenizer with the sizes that `DALLE` reads; it decodes nothing.

    Args:
        grid: Side of the grid of image tokens.
        image_vocab_size: Number of codes.
    """

    num_layers, channels = 3, 3

    def __init__(self, grid: int, image_vocab_size: int) -> None:
        super().__init__()
        self.image_size, self.num_tokens = grid * 2**self.num_layers, image_vocab_size

    def decode(self, image_tokens: torch.Tensor) -> torch.Tensor:
        """Return the tokens."""
        return image_tokens


class DALLEPytorch:
    """The contender.

    Args:
        shape: Fields of our `TransformerConfig`; the grid is square.
        own_loop: Draw with its unchanged `generate_images`.
    """

    module: Any

    def __init__(self, shape: dict[str, Any], own_loop: bool = False) -> None:
        torch.manual_seed(SEED)
        grid = int(shape["grid_size"][0])
        self.own_loop = own_loop
        loop = "its generate_images()" if own_loop else "its forward() with its cache"
        self.settings = f"{loop}, full attention, no rotary embeddings, no shifted tokens; an update by torch's Adam"
        self.image_len, self.text_len = grid * grid, shape["text_len"]
        self.image_vocab_size, self.text_vocab_size = shape["image_vocab_size"], shape["text_vocab_size"]
        self.dalle = self.module.DALLE(
            dim=shape["num_heads"] * shape["head_dim"],
            vae=StandInVAE(grid, self.image_vocab_size),
            num_text_tokens=self.text_vocab_size,
            text_seq_len=self.text_len,
            depth=shape["num_layers"],
            heads=shape["num_heads"],
            dim_head=shape["head_dim"],
            shift_tokens=False,
            rotary_emb=False,
        )
        self._optimizer: torch.optim.Optimizer | None = None

    def _text(self, batch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(SEED)
        caption = torch.randint(1, self.text_vocab_size, (1, self.text_len), generator=generator)
        return caption.repeat(batch, 1)

    def warm(self, candidates: int, **options: Any) -> None:
        """Draw the first two tokens."""
        self._draw(candidates, min(2, self.image_len), **options)

    def draw(self, candidates: int, **options: Any) -> int:
        """Draw pictures of one caption."""
        guidance_scale = options.get("guidance_scale", 1.0)
        if self.own_loop:
            self.dalle.generate_images(self._text(candidates), cond_scale=guidance_scale, use_cache=True)
        else:
            self._draw(candidates, self.image_len, **options)
        return self.image_len

    @torch.no_grad()
    def _draw(self, candidates: int, tokens: int, *, guidance_scale: float = 1.0, **options: Any) -> None:
        """Draw like its `generate_images`, with the cache and without a filter."""
        dalle = self.dalle.eval()
        text = self._text(candidates)
        image = torch.zeros(candidates, 0, dtype=torch.long)
        cache: dict[str, Any] = {}
        for _ in range(tokens):
            if math.isclose(guidance_scale, 1.0):
                logits = dalle(text, image, cache=cache)
            else:
                logits = dalle.forward_with_cond_scale(text, image, cond_scale=guidance_scale, cache=cache)
            drawn = self.module.gumbel_sample(logits[:, -1], temperature=1.0, dim=-1)
            image = torch.cat([image, drawn[:, None] - dalle.num_text_tokens], dim=-1)

    def train_step(self, batch_size: int) -> None:
        """Make one update."""
        dalle = self.dalle.train()
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(dalle.parameters(), lr=3e-4)
        generator = torch.Generator().manual_seed(SEED)
        images = torch.randint(self.image_vocab_size, (batch_size, self.image_len), generator=generator)
        loss = dalle(self._text(batch_size), images, return_loss=True)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
