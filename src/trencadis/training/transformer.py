"""The third stage: the transformer over captions and cached image tokens."""

import math
from collections.abc import Generator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from trencadis.config import TransformerConfig, TransformerStage
from trencadis.data import SampleOrder
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow
from trencadis.data.prefetch import prefetch
from trencadis.protocols import ImageTokenizer
from trencadis.randomness import derive_seed
from trencadis.sampling import Sampling, sample_image_tokens
from trencadis.training import processes
from trencadis.training.allocation import keep_freed_memory
from trencadis.training.mixed_precision import GradientScales, autocast
from trencadis.training.run_pairs import RunPairs
from trencadis.training.schedules import linear_schedule
from trencadis.training.stage import Criterion, Stage, StageLoss, Term, Totals
from trencadis.training.text import CaptionDraws
from trencadis.transformer import KVDecoder, Transformer
from trencadis.transformer.lora import add_updates
from trencadis.transformer.model import Block, Losses

SHOWN = 8
DRAWN_OF_EACH = 2
VALIDATION_BATCH = 32
NOISE_STEPS = 0.75  # share of the steps after which no token is replaced: He et al. 2025


class StreamBatch(NamedTuple):
    text_tokens: Int[Tensor, "batch text_len"]
    image_tokens: Int[Tensor, "batch rows columns"]
    # Where `TransformerStage.token_noise` is above 0: what a token is replaced by, while the limit is above a level.
    random_tokens: Int[Tensor, "batch rows columns"] | None = None
    levels: Float[Tensor, "batch rows columns"] | None = None

    def inputs(self, limit: float) -> Int[Tensor, "batch rows columns"] | None:
        """Return the image tokens with a share of each picture's replaced; the shares are even in 0..limit."""
        if self.random_tokens is None or self.levels is None:
            return None
        return torch.where(self.levels < limit, self.random_tokens, self.image_tokens)


class TransformerTraining(Stage[StreamBatch]):
    """Trains the transformer on the joint stream, with a seed for weights, order and captions."""

    name = "transformer"
    config: TransformerStage
    model: Transformer

    def __init__(
        self,
        config: TransformerStage,
        model: TransformerConfig,
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
        if device.type == "cpu":
            keep_freed_memory()
        self.model = Transformer(model).to(device)
        if config.lora.rank:
            add_updates(self.model, config.lora)
        self.model.checkpointed_blocks = config.checkpointed_blocks
        self.scales = GradientScales(branches(self.model)) if config.precision == "float16" else None
        self._pairs, self._captions, self._image_tokens = pairs, captions, image_tokens
        self._image_tokenizer = image_tokenizer
        self._order = SampleOrder(
            [pair.sample_id for pair in pairs.train], [p.weight for p in pairs.train], config.batch_size, self._seed
        )
        self.shown = tuple(pair.captions[0] for pair in pairs.validation[:SHOWN])
        self._validation = StreamBatch(self._plain(tuple(p.captions[0] for p in pairs.validation)), validation_tokens)

    def _plain(self, captions: tuple[str, ...]) -> Int[Tensor, "captions text_len"]:
        return self.model.stream.pad_captions([self._captions.plain_tokens(caption) for caption in captions])

    def batch(self, step: int) -> list[StreamBatch]:
        """Return the microbatches of this process's share of a step, a pure function of it."""
        texts, images, share = [], [], processes.share(self.config.batch_size)
        for epoch, position in self._order.positions(step)[share]:
            pair = self._pairs.train[position]
            texts.append(self._captions.tokens(pair.caption(self._seed, epoch), pair.sample_id, epoch))
            variant = derive_seed(self._seed, epoch, pair.sample_id, "variant") % len(self._image_tokens)
            images.append(self._image_tokens[variant, position])
        noise = [tensor[share] for tensor in self._noise(step)]
        whole = [self.model.stream.pad_captions(texts), torch.stack(images).long(), *noise]
        count = processes.microbatches(self.config.microbatches)
        parts = (tensor.tensor_split(count) for tensor in whole)
        return [StreamBatch(*part) for part in zip(*parts, strict=True)]

    def _noise(self, step: int) -> list[Tensor]:
        """Return the random tokens of a step and the levels from which on they replace its image tokens."""
        if not self.config.token_noise:
            return []
        generator = torch.Generator().manual_seed(derive_seed(self._seed, step, "token noise"))
        shape = (self.config.batch_size, *self._image_tokens.shape[2:])
        random_tokens = torch.randint(self.model.config.image_vocab_size, shape, generator=generator)
        shares = torch.rand(shape[0], 1, 1, generator=generator)  # of the limit, one for each picture
        return [random_tokens, torch.rand(shape, generator=generator) / shares.clamp_min(1e-6)]

    @property
    def criterion(self) -> Criterion:
        return Criterion("validation_bits_per_image_token")

    def batches(self, from_step: int, to_step: int) -> Generator[list[StreamBatch], None, None]:
        return prefetch(self.batch, range(from_step, to_step), workers=1)

    def totals(self, batch: StreamBatch, step: int, steps: int, *, is_whole: bool) -> dict[str, Tensor]:
        """Return how many text tokens, the end of the caption included, and image tokens are counted."""
        counted = self.model.stream.text_targets(batch.text_tokens).sum()
        return {"text_tokens": counted, "image_tokens": torch.tensor(batch.image_tokens.numel())}

    def loss(self, batch: StreamBatch, totals: Totals, step: int, steps: int) -> StageLoss:
        limit = linear_schedule(step, start=self.config.token_noise, end=0.0, steps=round(NOISE_STEPS * steps))
        losses, weight = self._losses(batch, image_inputs=batch.inputs(limit)), self.config.text_weight
        terms = {
            "text_loss": Term(losses.text, "text_tokens", weight),
            "image_loss": Term(losses.image, "image_tokens", 1 - weight),
        }
        return StageLoss(terms)

    def _losses(self, batch: StreamBatch, *, image_inputs: Tensor | None = None, samples: int | None = None) -> Losses:
        with autocast(self.device, self.config.precision):
            return self.model.losses(
                batch.text_tokens.to(self.device, non_blocking=True),
                batch.image_tokens.to(self.device, non_blocking=True),
                image_inputs=None if image_inputs is None else image_inputs.to(self.device, non_blocking=True),
                samples=samples,
            )

    def after_backward(self) -> None:
        if self.scales is not None:
            self.scales.update(self.scales.unscale())

    def extra_state(self) -> dict[str, Tensor]:
        return {} if self.scales is None else self.scales.state_dict()

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        if self.scales is not None:
            self.scales.load_state_dict(dict(state))

    def validate(self) -> dict[str, float]:
        """Measure the losses on held-out pairs as in training: text in nats a token, images in bits a token."""
        count, losses = len(self._validation.text_tokens), []
        size = min(count, VALIDATION_BATCH)
        for start in range(0, count, size):
            text_tokens, image_tokens = (tokens[start : start + size] for tokens in self._validation[:2])
            missing = size - len(text_tokens)  # a batch of another size would be compiled anew
            padded = F.pad(text_tokens, (0, 0, 0, missing)), F.pad(image_tokens.long(), (0, 0, 0, 0, 0, missing))
            losses.append(self._losses(StreamBatch(*padded), samples=len(text_tokens)))
        text, text_count, image, image_count = (sum(values) for values in zip(*losses, strict=True))
        return {
            "validation_text_loss": float(text) / max(text_count, 1),
            "validation_bits_per_image_token": float(image) / image_count / math.log(2),
        }

    def sample(self) -> Image.Image:
        """Return drawings of held-out captions, the same captions and seeds each time."""
        text_tokens = self._plain(self.shown).repeat(DRAWN_OF_EACH, 1).to(self.device)
        drawn = sample_image_tokens(KVDecoder(self.model), text_tokens, range(len(text_tokens)), Sampling())
        images = to_pillow(self._image_tokenizer.decode(drawn))
        return contact_sheet(images, self.shown * DRAWN_OF_EACH, len(self.shown))


def branches(model: Transformer) -> list[tuple[nn.Module, nn.Module]]:
    """Return the norm and the layer of each residual branch, in order: attention and MLP of every block."""
    found: list[tuple[nn.Module, nn.Module]] = []
    for block in model.blocks:
        assert isinstance(block, Block)
        found += [(block.attention_norm, block.attention), (block.mlp_norm, block.mlp)]
    return found
