"""Builds the stages of a run from its plan."""

import dataclasses
from collections.abc import Collection

import torch
from jaxtyping import Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from trencadis.config import DecoderStage, ImageStage, RunConfig
from trencadis.image import DiscreteVAE, load_image_tokenizer
from trencadis.model_directory import find_model
from trencadis.protocols import ImageTokenizer
from trencadis.randomness import derive_seed
from trencadis.ranking import CLIP
from trencadis.text import CaptionTokenizer
from trencadis.training.clip import RankerTraining
from trencadis.training.decoder import DecoderTraining
from trencadis.training.image import ImageTraining
from trencadis.training.optimizers import optimizers
from trencadis.training.picture_terms import feature_network
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import CaptionDraws
from trencadis.training.transformer import TransformerTraining
from trencadis.transformer import Transformer


def check_networks(config: RunConfig, stages: Collection[str]) -> None:
    """Load the perceptual networks of the stages that will be trained, so that a missing one is not found after hours.

    Raises:
        ModelError: One cannot be loaded.
    """
    for name in {"image", "decoder"}.intersection(stages):
        stage: ImageStage | DecoderStage = getattr(config, name)
        if stage.steps != 0 and stage.losses.perceptual:
            feature_network(stage.losses.perceptual_network, torch.device("cpu"))


def check_models(config: RunConfig) -> None:
    """Raise a `ConfigError` for sizes or optimizers that a model cannot have. Nothing is allocated."""
    with FakeTensorMode():  # tensors without numbers
        image_tokenizer = DiscreteVAE(config.image.model)
        if config.image.pretrained is None:
            optimizers(image_tokenizer, config.image.optimizer)
        if config.decoder.steps:
            optimizers(DiscreteVAE(config.drawn_model()).decoder, config.decoder.optimizer)
        optimizers(Transformer(config.transformer_model()), config.transformer.optimizer)
        optimizers(CLIP(config.ranker_model()), config.ranker.optimizer)


@dataclasses.dataclass(frozen=True)
class Stages:
    """Builds each stage when its turn comes."""

    config: RunConfig
    pairs: RunPairs
    tokenizer: CaptionTokenizer
    device: torch.device

    def image(self) -> ImageTraining:
        config = self.config
        return ImageTraining(config.image, self.pairs, config.data, seed=config.seed, device=self.device)

    def given_tokenizer(self) -> DiscreteVAE:
        """Return the image tokenizer that the run uses as it is."""
        image = self.config.image
        assert image.pretrained is not None, "a run that trains none"
        return load_image_tokenizer(find_model(image.pretrained), image_size=image.model.image_size).to(self.device)

    def decoder(self, image_tokenizer: DiscreteVAE) -> DecoderTraining:
        config = self.config
        return DecoderTraining(
            config.decoder, image_tokenizer, self.pairs, config.data, seed=config.seed, device=self.device
        )

    def transformer(
        self,
        image_tokenizer: ImageTokenizer,
        train_tokens: Int[Tensor, "variants pairs rows columns"],
        validation_tokens: Int[Tensor, "validation rows columns"],
    ) -> TransformerTraining:
        config = self.config
        return TransformerTraining(
            config.transformer,
            config.transformer_model(),
            self.pairs,
            self._captions(config.text.text_len, config.transformer.caption_dropout, "transformer"),
            train_tokens,
            validation_tokens,
            image_tokenizer,
            seed=config.seed,
            device=self.device,
        )

    def ranker(self) -> RankerTraining:
        config, model = self.config, self.config.ranker_model()
        # The last of CLIP's positions is for the end of the caption.
        captions = self._captions(config.text.text_len - 1, 0.0, "ranker")
        return RankerTraining(
            config.ranker, model, self.pairs, config.data, captions, seed=config.seed, device=self.device
        )

    def _captions(self, text_len: int, caption_dropout: float, stage: str) -> CaptionDraws:
        return CaptionDraws(
            self.tokenizer,
            text_len=text_len,
            dropout=self.config.text.dropout,
            caption_dropout=caption_dropout,
            seed=derive_seed(self.config.seed, stage, "captions"),
        )
