"""The last stage: CLIP on the same pairs."""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.config import CLIPConfig, DataConfig, RankerStage
from trencadis.data import CAPTIONED_CROPS
from trencadis.randomness import derive_seed
from trencadis.ranking import CLIP
from trencadis.ranking.clip import contrastive_loss
from trencadis.training import processes
from trencadis.training.mixed_precision import autocast
from trencadis.training.run_pairs import RunPairs
from trencadis.training.stage import Criterion, Stage, StageLoss, Term, Totals, UpdateEffects
from trencadis.training.text import CaptionDraws


class RankerBatch(NamedTuple):
    images: Float[Tensor, "batch 3 height width"]
    text_tokens: Int[Tensor, "batch text_len"]


class RankerTraining(Stage[RankerBatch]):
    """Trains CLIP to match captions and pictures, with a seed for weights, order and crops."""

    name = "ranker"
    config: RankerStage
    model: CLIP

    def __init__(
        self,
        config: RankerStage,
        model: CLIPConfig,
        pairs: RunPairs,
        data: DataConfig,
        captions: CaptionDraws,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        torch.manual_seed(derive_seed(seed, self.name, "weights"))
        self.config, self.device, self._captions = config, device, captions
        self.model = CLIP(model).to(device)
        size = model.image_size
        order = derive_seed(seed, self.name)
        self._batches = pairs.batches(size, data, batch_size=config.batch_size, seed=order, rule=CAPTIONED_CROPS)
        texts = [captions.plain_tokens(pair.captions[0]) for pair in pairs.validation]
        self._validation = RankerBatch(pairs.middle_crops(pairs.validation, size, data), self.model.pad(texts).cpu())

    @property
    def criterion(self) -> Criterion:
        return Criterion("validation_loss")

    def batches(self, from_step: int, to_step: int) -> Generator[list[RankerBatch], None, None]:
        for batch in self._batches.iterate(from_step, to_step, pinned=self.device.type == "cuda"):
            samples = zip(batch.captions, batch.sample_ids, batch.epochs, strict=True)
            tokens = [self._captions.tokens(caption, sample_id, epoch) for caption, sample_id, epoch in samples]
            yield [RankerBatch(batch.images, self.model.pad(tokens))]

    def totals(self, batch: RankerBatch, step: int, steps: int, *, is_whole: bool) -> dict[str, Tensor]:
        return {"pairs": torch.tensor(len(batch.images))}

    def loss(self, batch: RankerBatch, totals: Totals, step: int, steps: int) -> StageLoss:
        with autocast(self.device, self.config.precision):
            images, text_tokens = batch.images.to(self.device, non_blocking=True), batch.text_tokens.to(self.device)
            if processes.count() == 1:
                loss = self.model(images, text_tokens, return_loss=True)
            else:
                loss = self._loss_among_all(images, text_tokens)
        term = Term(loss * len(images), "pairs")
        return StageLoss({"contrastive": term}, {"logit_scale": self.model.logit_scale.detach()})

    def _loss_among_all(self, images: Tensor, text_tokens: Tensor) -> Float[Tensor, ""]:
        """Return the mean loss of this process's pairs, each compared with those of all processes."""
        gathered = processes.gathered_with_gradient
        image_features, text_features = self.model.encode_image(images), self.model.encode_text(text_tokens)
        with torch.autocast(self.device.type, enabled=False):
            scale = self.model.log_logit_scale.float().exp()
            logits = scale * image_features @ gathered(text_features).T
            turned = scale * text_features @ gathered(image_features).T
        own = processes.share(self.config.batch_size)
        return contrastive_loss(logits, processes.gathered(text_tokens), turned=turned, own=own)

    def after_update(self, observed: Sequence[Any], step: int, steps: int) -> UpdateEffects:
        self.model.clip_logit_scale()
        return UpdateEffects()

    def validate(self) -> dict[str, float]:
        """Measure how often a held-out picture is nearest to its own caption among all of them, and in the best ten."""
        images, text_tokens = self._validation.images.to(self.device), self._validation.text_tokens.to(self.device)
        with autocast(self.device, self.config.precision):
            logits = self.model(images, text_tokens)
        better = (logits > logits.diagonal()[:, None]).sum(1)
        return {
            "validation_loss": float(contrastive_loss(logits, text_tokens)),
            "validation_accuracy": float((better < 1).float().mean()),
            "validation_accuracy_at_10": float((better < 10).float().mean()),
        }

    def sample(self) -> None:
        return None
