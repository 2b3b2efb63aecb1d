"""minDALL-E by Kakao Brain, from a checkout of github.com/kakaobrain/minDALL-E.

We import its `Transformer1d` and its function `sampling` from the checkout and use them unchanged. We skip the
package's `__init__` files: they import pytorch_lightning, CLIP and the image tokenizer, which are not measured. If they
are missing, `omegaconf` (used in annotations) and `tqdm` (whose bar is off) are replaced by stubs.

Settings: float32; every candidate repeats the caption, as in its `Dalle.sampling`; no top-k and no top-p. Its
repository has no training of a transformer over captions, so we wrote the update: the two cross-entropies with DALL·E's
weights, and torch's AdamW with the settings of its config, without clipping or EMA.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

SEED = 0
TEXT_WEIGHT = 1 / 8


def load(path: Path) -> type["MinDALLE"]:
    """Return the contender, its modules imported from the checkout at `path`.

    Raises:
        ImportError: They are not there, or import what is not installed.
    """
    package_from(path / "dalle", "dalle", ("models", "models/stage2", "utils"))
    stand_in("omegaconf", OmegaConf=object)
    stand_in("tqdm", tqdm=iter)
    MinDALLE.transformer_type = importlib.import_module("dalle.models.stage2.transformer").Transformer1d
    MinDALLE.sampling_module = importlib.import_module("dalle.utils.sampling")
    return MinDALLE


def package_from(folder: Path, name: str, inner: Sequence[str] = ()) -> None:
    """Make the modules in a folder importable as a package, without running its `__init__` files.

    Args:
        folder: The package's folder.
        name: The package's name.
        inner: Subfolders that are packages too, as `outer/inner`.

    Raises:
        ImportError: There is no such folder.
    """
    for part in ("", *inner):
        place = folder / part
        if not place.is_dir():
            raise ImportError(f"no folder {place}")
        module = ModuleType(".".join([name, *part.split("/")]).rstrip("."))
        module.__path__ = [str(place)]
        sys.modules[module.__name__] = module


def stand_in(name: str, *, even_if_installed: bool = False, **members: object) -> None:
    """Register a stub module with these members if the real one is not installed."""
    try:
        if even_if_installed:
            raise ImportError(name)
        importlib.import_module(name)
    except ImportError:
        module = ModuleType(name)
        module.__dict__.update(members)
        sys.modules[name] = module


class MinDALLE:
    """The contender.

    Args:
        shape: Fields of our `TransformerConfig`.
        own_loop: No effect: its own loop is always used.
    """

    transformer_type: Any
    sampling_module: Any
    settings = "its sampling(), float32, no top-k; an update by torch's AdamW, without clipping or averaged weights"

    def __init__(self, shape: dict[str, Any], own_loop: bool = False) -> None:
        torch.manual_seed(SEED)
        rows, columns = shape["grid_size"]
        self.image_len, self.text_len = int(rows * columns), int(shape["text_len"])
        self.image_vocab_size, self.text_vocab_size = shape["image_vocab_size"], shape["text_vocab_size"]
        hparams = SimpleNamespace(
            embed_dim=shape["num_heads"] * shape["head_dim"],
            n_layers=shape["num_layers"],
            n_dense_layers=shape["num_layers"],
            n_heads=shape["num_heads"],
            ctx_len_img=self.image_len,
            ctx_len_txt=self.text_len,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            attn_pdrop=0.0,
            mlp_bias=True,
            attn_bias=True,
            gelu_use_approx=False,
        )
        self.transformer = self.transformer_type(
            vocab_size_txt=self.text_vocab_size, vocab_size_img=self.image_vocab_size, hparams=hparams
        )
        self._optimizer: torch.optim.Optimizer | None = None

    def _text(self, batch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(SEED)
        caption = torch.randint(1, self.text_vocab_size, (1, self.text_len), generator=generator)
        return caption.repeat_interleave(batch, dim=0)

    def warm(self, candidates: int, **options: object) -> None:
        """Draw the first two tokens."""
        self._draw(candidates, min(2, self.image_len))

    def draw(self, candidates: int, **options: object) -> int:
        """Draw pictures of one caption."""
        self._draw(candidates, self.image_len)
        return self.image_len

    def _draw(self, candidates: int, tokens: int) -> None:
        self.transformer.eval()
        self.sampling_module.sampling(
            self.transformer, self._text(candidates), top_k=None, top_p=None, is_tqdm=False, use_fp16=False,
            max_seq_len=tokens,
        )  # fmt: skip

    def train_step(self, batch_size: int) -> None:
        """Make one update."""
        transformer = self.transformer.train()
        if self._optimizer is None:
            self._optimizer = torch.optim.AdamW(transformer.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-4)
        generator = torch.Generator().manual_seed(SEED)
        images = torch.randint(self.image_vocab_size, (batch_size, self.image_len), generator=generator)
        texts = self._text(batch_size)
        positions = self.sampling_module.get_positional_encoding
        image_logits, text_logits = transformer(images, texts, positions(images), positions(texts))
        text_loss = F.cross_entropy(text_logits.flatten(0, 1), texts[:, 1:].flatten())
        image_loss = F.cross_entropy(image_logits.flatten(0, 1), images.flatten())
        self._optimizer.zero_grad()
        torch.autograd.backward(TEXT_WEIGHT * text_loss + (1 - TEXT_WEIGHT) * image_loss)
        self._optimizer.step()
