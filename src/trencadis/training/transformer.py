"""The third stage: the transformer over captions and cached image tokens."""

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from trencadis.config import TransformerStage
from trencadis.data import SampleOrder
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow
from trencadis.data.prefetch import prefetch
from trencadis.protocols import ImageTokenizer
from trencadis.randomness import derive_seed
from trencadis.sampling import Sampling, sample_image_tokens
from trencadis.training.mixed_precision import GradientScales, autocast, default_precision
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import CaptionDraws
from trencadis.transformer import KVDecoder, Transformer

SHOWN = 8
DRAWN_OF_EACH = 2
VALIDATION_BATCH = 32


@dataclass(frozen=True)
class StreamBatch:
    """Captions and pictures as tokens."""

    text_tokens: Int[Tensor, "batch text_len"]
    image_tokens: Int[Tensor, "batch rows columns"]


class TransformerTraining:
    """Trains the transformer on the joint stream. A `Stage`.

    Args:
        config: Sizes and schedules, the tokenizers' sizes filled in.
        pairs: The run's pairs.
        captions: Captions as tokens.
        image_tokens: Of the training pairs, in some crops each.
        validation_tokens: Of the validation pairs' middle crops.
        image_tokenizer: For looking at what is drawn.
        seed: Of weights, order and noise.
        device: Where the model is trained.
    """

    name = "transformer"

    def __init__(
        self,
        config: TransformerStage,
        pairs: RunPairs,
        captions: CaptionDraws,
        image_tokens: Int[Tensor, "variants pairs rows columns"],
        validation_tokens: Int[Tensor, "validation rows columns"],
        image_tokenizer: ImageTokenizer,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        torch.manual_seed(derive_seed(seed, self.name, "weights"))
        self.config, self.device, self._seed = config, device, derive_seed(seed, self.name)
        self.model = Transformer(config.model).to(device)
        self.model.checkpointed_blocks = config.checkpointed_blocks
        self._precision = config.precision or default_precision(device)
        self.scales = GradientScales(2 * config.model.num_layers) if self._precision == "float16" else None
        self._pairs, self._captions, self._image_tokens = pairs, captions, image_tokens
        self._image_tokenizer = image_tokenizer
        self._order = SampleOrder(
            [pair.sample_id for pair in pairs.train], [p.weight for p in pairs.train], config.batch_size, self._seed
        )
        self.shown = tuple(pair.captions[0] for pair in pairs.validation[:SHOWN])
        self._validation = StreamBatch(self._plain(tuple(p.captions[0] for p in pairs.validation)), validation_tokens)

    def _plain(self, captions: tuple[str, ...]) -> Int[Tensor, "captions text_len"]:
        """Return captions' tokens without dropout."""
        return self.model.stream.pad_captions([self._captions.plain_tokens(caption) for caption in captions])

    def batch(self, step: int) -> list[StreamBatch]:
        """Return the microbatches of a step, a pure function of it."""
        texts, images = [], []
        for epoch, position in self._order.positions(step):
            pair = self._pairs.train[position]
            texts.append(self._captions.tokens(pair.caption(self._seed, epoch), pair.sample_id, epoch))
            variant = derive_seed(self._seed, epoch, pair.sample_id, "variant") % len(self._image_tokens)
            images.append(self._image_tokens[variant, position])
        text_tokens = self.model.stream.pad_captions(texts).tensor_split(self.config.microbatches)
        image_tokens = torch.stack(images).long().tensor_split(self.config.microbatches)
        return [StreamBatch(text, image) for text, image in zip(text_tokens, image_tokens, strict=True)]

    def batches(self, from_step: int, to_step: int) -> Generator[list[StreamBatch], None, None]:
        """Yield the microbatches of each step."""
        return prefetch(self.batch, range(from_step, to_step), workers=1)

    def loss(self, batch: StreamBatch, step: int, steps: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the weighted cross-entropy of both kinds of token."""
        self.model.add = None if self.scales is None else self.scales.wrap
        with autocast(self.device, self._precision):
            losses = self.model(
                batch.text_tokens.to(self.device, non_blocking=True),
                batch.image_tokens.to(self.device, non_blocking=True),
                return_losses=True,
                text_weight=self.config.text_weight,
            )
        return losses.total, {"text_loss": losses.text.detach(), "image_loss": losses.image.detach()}

    def after_backward(self, step: int, steps: int) -> None:
        """Take the gradients' scales off, and move the scales by what was finite."""
        if self.scales is not None:
            self.scales.update(self.scales.unscale(self.model.branches()))

    def extra_state(self) -> dict[str, Tensor]:
        """Return the gradients' scales, which a checkpoint keeps."""
        return {} if self.scales is None else self.scales.state_dict()

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `extra_state` returned."""
        if self.scales is not None:
            self.scales.load_state_dict(dict(state))

    def validate(self) -> dict[str, float]:
        """Measure the losses on held-out pairs; image tokens in bits."""
        self.model.add = None
        text = image = 0.0
        count = len(self._validation.text_tokens)
        for start in range(0, count, VALIDATION_BATCH):
            text_tokens = self._validation.text_tokens[start : start + VALIDATION_BATCH].to(self.device)
            image_tokens = self._validation.image_tokens[start : start + VALIDATION_BATCH].long().to(self.device)
            losses = self.model(text_tokens, image_tokens, return_losses=True)
            text += float(losses.text) * len(text_tokens) / count
            image += float(losses.image) * len(text_tokens) / count
        return {"validation_text_loss": text, "validation_bits_per_image_token": image / math.log(2)}

    def sample(self) -> Image.Image:
        """Return drawings of the same held-out captions, with the same seeds each time."""
        text_tokens = self._plain(self.shown).repeat(DRAWN_OF_EACH, 1).to(self.device)
        drawn = sample_image_tokens(KVDecoder(self.model), text_tokens, range(len(text_tokens)), Sampling())
        images = to_pillow(self._image_tokenizer.decode(drawn))
        return contact_sheet(images, self.shown * DRAWN_OF_EACH, len(self.shown))
