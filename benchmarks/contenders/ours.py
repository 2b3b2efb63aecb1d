"""Trencadís itself."""

import time
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from trencadis.transformer.cache import KeyValueCache
from trencadis.transformer.decoding import Decoder
from trencadis.transformer.packing import Weights

from trencadis.config import TransformerConfig, TransformerStage
from trencadis.config.plain import from_plain
from trencadis.data import KeptPair
from trencadis.image import DiscreteVAE
from trencadis.recipes import RECIPES
from trencadis.sampling import ImagePrompt, Sampling, sample_image_tokens
from trencadis.text import CaptionTokenizer
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import CaptionDraws
from trencadis.training.trainer import Trainer
from trencadis.training.transformer import StreamBatch, TransformerTraining
from trencadis.transformer import Transformer

SEED = 0


def load(path: Path | None) -> type["Ours"]:
    """Return the contender; there is no checkout to load."""
    assert path is None
    return Ours


class CountingDecoder(Decoder):
    """A decoder that counts its passes over the weights.

    Attributes:
        passes: So far; the caption's counts too.
    """

    passes = 0

    def begin(
        self, text_tokens: Int[Tensor, "streams text_len"]
    ) -> tuple[KeyValueCache, Float[Tensor, "streams image_vocab_size"]]:
        """Read the captions."""
        self.passes += 1
        return super().begin(text_tokens)

    def step(
        self, image_tokens: Int[Tensor, " streams"], index: int, cache: KeyValueCache
    ) -> Float[Tensor, "streams image_vocab_size"]:
        """Read one image token of each picture."""
        self.passes += 1
        return super().step(image_tokens, index, cache)

    def read(
        self, image_tokens: Int[Tensor, "streams new"], starts: Int[Tensor, " streams"], cache: KeyValueCache
    ) -> Float[Tensor, "streams new image_vocab_size"]:
        """Read several."""
        self.passes += 1
        return super().read(image_tokens, starts, cache)


def draw_ours(
    decoder: CountingDecoder,
    text_tokens: Int[Tensor, "batch text_len"],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    image_prompt: ImagePrompt | None = None,
) -> int:
    """Draw pictures as users do, and return the passes over the weights that it took.

    Args:
        decoder: Its weights are laid out already, as they are once for all pictures.
        text_tokens: One caption a picture.
        seeds: One a picture.
        sampling: How tokens are drawn.
        image_prompt: Tokens that stay.
    """
    before = decoder.passes
    sample_image_tokens(decoder, text_tokens, seeds, sampling, image_prompt=image_prompt)
    return decoder.passes - before


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

    settings = "sample_image_tokens(), weights laid out before; an update by Trainer, which clips and averages weights"

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
    def _decoder(self, weights: Weights) -> CountingDecoder:
        return CountingDecoder(self.transformer.eval(), weights)

    def warm(self, candidates: int, *, weights: Weights, **sampling: Any) -> None:
        """Draw the last token of a picture; the others are given."""
        kept = torch.ones(self.config.grid_size, dtype=torch.bool)
        kept[-1, -1] = False
        prompt = ImagePrompt(self._images(1)[0], kept)
        text = self._text(candidates)
        draw_ours(self._decoder(weights), text, range(candidates), sampling_of(**sampling), image_prompt=prompt)

    def draw(self, candidates: int, *, weights: Weights, **sampling: Any) -> int:
        """Draw pictures of one caption.

        Args:
            candidates: Pictures.
            weights: Type that the decoder keeps them in.
            **sampling: See `sampling_of`.
        """
        return draw_ours(self._decoder(weights), self._text(candidates), range(candidates), sampling_of(**sampling))

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
        elapsed_s = []
        for position in positions:
            newest = tokens[position].expand(candidates)
            began_s = time.perf_counter()
            decoder.step(newest, position, cache)
            elapsed_s.append(time.perf_counter() - began_s)
        return elapsed_s

    @cache  # noqa: B019
    def _filled(self, candidates: int) -> KeyValueCache:
        """Return a cache that is full of noise: what it holds does not change the time that a step takes."""
        filled, _ = self._decoder("float32").begin(self._text(candidates))
        filled.image.normal_()
        return filled
