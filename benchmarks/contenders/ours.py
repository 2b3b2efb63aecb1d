"""Trencadís itself."""

import time
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from trencadis.config import TransformerConfig, TransformerStage
from trencadis.config.plain import from_plain
from trencadis.data import KeptPair
from trencadis.image import DiscreteVAE
from trencadis.recipes import RECIPES
from trencadis.sampling import Engine, Request, Sampling
from trencadis.text import CaptionTokenizer
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import CaptionDraws
from trencadis.training.trainer import Trainer
from trencadis.training.transformer import StreamBatch, TransformerTraining
from trencadis.transformer import KVCache, KVDecoder, Reads, Transformer, Weights

SEED = 0
PRODUCTS = {
    *("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn::_linear_pointwise"),
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
}
"""Names under which the profiler reports matrix products and attention."""


def load(path: Path | None) -> type["Ours"]:
    """Return the contender; there is no checkout to load."""
    assert path is None
    return Ours


def sampling_of(*, guidance_scale: float, decoder: str) -> Sampling:
    """Return how tokens are drawn; the one place that knows the names of decoders."""
    assert decoder in ("sequential", "jacobi"), decoder
    return Sampling(guidance_scale=guidance_scale, decoder=decoder)  # type: ignore[arg-type]


class NoPictures:
    """A source of one pair whose picture is never asked for. A `PairSource`."""

    def __len__(self) -> int:
        return 1

    def sample_id(self, index: int) -> str:
        """Return the pair's name."""
        return "synthetic"

    def captions(self, index: int) -> tuple[str, ...]:
        """Return its caption."""
        return ("",)

    def weight(self, index: int) -> float:
        """Return that it appears in every epoch."""
        return 1.0

    def image_bytes(self, index: int) -> bytes:
        """Refuse."""
        raise AssertionError("batches are made up; no picture is read")


def synthetic_training(config: TransformerConfig, **settings: Any) -> TransformerTraining:
    """Return the transformer's own stage of training; its data is one pair that stands for none."""
    pair = KeptPair(0, "synthetic", ("",), 1.0, (1, 1))
    return TransformerTraining(
        TransformerStage(model=config, **settings),
        config,
        RunPairs(source=NoPictures(), train=(pair,), validation=(), kept=1, dropped={}),
        CaptionDraws(
            CaptionTokenizer.train(["a pair"], vocab_size=256),
            text_len=config.text_len, dropout=0.0, caption_dropout=0.0, seed=SEED,
        ),
        torch.zeros(1, 1, *config.grid_size, dtype=torch.int32),
        torch.zeros(0, *config.grid_size, dtype=torch.int32),
        DiscreteVAE(RECIPES["tiny"]().image.model),
        seed=SEED,
        device=torch.device("cpu"),
    )  # fmt: skip


class Ours:
    """The contender.

    Args:
        shape: Fields of `TransformerConfig`.
    """

    settings = "Engine, weights laid out before; an update by Trainer, which clips and averages weights"

    def __init__(self, shape: dict[str, Any]) -> None:
        self.config = from_plain(TransformerConfig, shape)

    @cached_property
    def transformer(self) -> Transformer:
        """The model; training has one of its own."""
        torch.manual_seed(SEED)
        return Transformer(self.config)

    def _text(self, batch: int) -> Int[Tensor, "batch text_len"]:
        """Return one caption that fills its positions, for each of the batch."""
        generator = torch.Generator().manual_seed(SEED)
        caption = torch.randint(1, self.config.text_vocab_size, (1, self.config.text_len), generator=generator)
        return caption.expand(batch, -1).contiguous()

    def _images(self, batch: int) -> Int[Tensor, "batch rows columns"]:
        generator = torch.Generator().manual_seed(SEED)
        return torch.randint(self.config.image_vocab_size, (batch, *self.config.grid_size), generator=generator)

    @cache  # noqa: B019 (the contender lives as long as its process)
    def _decoder(self, weights: Weights) -> KVDecoder:
        return KVDecoder(self.transformer.eval(), weights)

    def warm(self, candidates: int, *, weights: Weights, **sampling: Any) -> None:
        """Draw the first two tokens."""
        engine = self._engine(candidates, weights, sampling)
        engine.step()

    def draw(self, candidates: int, *, weights: Weights, **sampling: Any) -> int:
        """Draw pictures of one caption, and return the passes over the weights that it took.

        Args:
            candidates: Pictures.
            weights: Type that the decoder keeps them in.
            **sampling: See `sampling_of`.
        """
        engine = self._engine(candidates, weights, sampling)
        while engine.drawings:
            engine.step()
        return engine.passes

    def _engine(self, candidates: int, weights: Weights, sampling: dict[str, Any]) -> Engine:
        """Return an engine that draws the candidates, its weights laid out before."""
        request = Request(
            text_tokens=self._text(1)[0], seeds=tuple(range(candidates)), sampling=sampling_of(**sampling)
        )
        engine = Engine(self._decoder(weights), request.num_slots)
        engine.admit(request)
        return engine

    @cache  # noqa: B019
    def _trainer(self, **settings: Any) -> Trainer:
        stage = synthetic_training(self.config, **settings)
        stage.model.train()
        return Trainer(stage, steps=1000)

    def train_step(self, batch_size: int, **settings: Any) -> None:
        """Make one update.

        Args:
            batch_size: Pairs of it.
            **settings: Fields of the stage.
        """
        self._trainer(**settings).update([StreamBatch(self._text(batch_size), self._images(batch_size))])

    def product_share(self, batch_size: int, **settings: Any) -> float:
        """Make one update and return the share of its time that matrix products take, 0..1."""
        with torch.profiler.profile() as profile:
            began_s = time.perf_counter()
            self.train_step(batch_size, **settings)
            elapsed_s = time.perf_counter() - began_s
        products_us = sum(event.self_cpu_time_total for event in profile.key_averages() if event.key in PRODUCTS)
        return float(products_us / 1e6 / elapsed_s)

    def forward_backward(self, batch_size: int) -> None:
        """Compute the gradient of a batch's loss and drop it."""
        transformer = self.transformer.train()
        losses = transformer.losses(self._text(batch_size), self._images(batch_size))
        torch.autograd.backward(losses.text / losses.text_count / 8 + losses.image / losses.image_count * 7 / 8)
        transformer.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def steps(self, candidates: int, positions: list[int]) -> list[float]:
        """Return the seconds of one step of decoding at each of some positions, with all before them in the cache.

        Args:
            candidates: Pictures of the batch.
            positions: Raster indices of the image token that is read.
        """
        decoder, cache = self._decoder("float32"), self._filled(candidates)
        tokens = self._images(1).flatten()
        slots, captions = tuple(range(candidates)), (0,) * candidates
        elapsed_s = []
        for position in positions:
            newest = tokens[position].expand(candidates, 1)
            began_s = time.perf_counter()
            decoder.read(newest, Reads(slots, captions, ((position,),) * candidates), cache)
            elapsed_s.append(time.perf_counter() - began_s)
        return elapsed_s

    @cache  # noqa: B019
    def _filled(self, candidates: int) -> KVCache:
        """Return a cache that is full of noise: what it holds does not change the time that a step takes."""
        decoder = self._decoder("float32")
        cache = decoder.new_cache(candidates, 1)
        decoder.read_caption(self._text(1)[0], cache, 0)
        for keys, values in cache.image:
            keys.normal_()
            values.normal_()
        return cache
