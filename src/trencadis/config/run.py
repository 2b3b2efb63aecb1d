"""Config of a whole run."""

from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Annotated, Literal

from trencadis.config.base import Amount, Config, PlaceText, Range
from trencadis.config.clip import CLIPConfig
from trencadis.config.data import DataConfig
from trencadis.config.image import DiscreteVAEConfig
from trencadis.config.training import DecoderStage, ImageStage, RankerStage, TextStage, TransformerStage
from trencadis.config.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class StartConfig(Config):
    """The model that a run starts from; by default none, and its weights are random at the start.

    Args:
        model: Shipped name, model directory or hub id. Its tokenizers are kept, its other parts trained further.
        old_captions: A text file with captions that the model knows, one a line. How much it forgets of them is
            measured on what it draws of them before, so that no old pictures are needed.
        tune: `image` trains its image tokenizer further too, and pictures are encoded anew.
        sha256: Of the model, as `DALLE.digest` returns it; the plan sets it. Where it is given, others are refused.
    """

    model: PlaceText | None = None
    sha256: str | None = None
    tune: Literal["image"] | None = None
    old_captions: PlaceText | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sha256", "tune", "old_captions"):
            is_met = self.model is not None or getattr(self, name) is None
            self._require(is_met, name, expected="a start.model that it is of")
        is_met = self.tune is None or self.old_captions is None
        self._require(is_met, "tune", "old_captions", expected="codes that stay, so that bits can be compared")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """A whole run: BPE, image tokenizer, its decoder alone where that is asked for, cached tokens, transformer, CLIP.

    A size that several models share is set once: the text's in `text`, the pictures' and the codes' in `image.model`.

    Args:
        recipe: Name of the recipe that the sizes came from. It is only shown.
        seed: Of the weights, the order of the data, the augmentation and all noise.
        hours: Time budget that the steps were fitted into.
        threads: CPU threads; part of the plan because sums depend on it.
        save_every_s: Approximate time between checkpoints, in seconds.
    """

    recipe: str = "dalle_v1"
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    hours: Annotated[float, Range(1e-4, 100_000)] = 1.0
    threads: Annotated[int, Range(1, 4096)] = 1
    device: Literal["cpu", "cuda"] = "cpu"
    save_every_s: Amount = 60.0
    start: StartConfig = field(default_factory=StartConfig)
    data: DataConfig = field(default_factory=DataConfig)
    text: TextStage = field(default_factory=TextStage)
    image: ImageStage = field(default_factory=ImageStage)
    decoder: DecoderStage = field(default_factory=DecoderStage)
    transformer: TransformerStage = field(default_factory=TransformerStage)
    ranker: RankerStage = field(default_factory=RankerStage)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start.model is None:
            for name in ("image.steps", "transformer.steps", "ranker.steps"):
                self._require(attrgetter(name)(self) != 0, name, expected="1 or more, or a start.model to keep")
        self._check_tuning()
        stage, model = self.decoder, self.image.model
        if not stage.steps:
            return
        if stage.architecture is not None:
            is_met = stage.architecture.down_factor % model.down_factor == 0
            expected = (
                f"convolutions that double the grid to {model.down_factor} times each side, or to a multiple of it"
            )
            self._require(is_met, "decoder.architecture", expected=expected)
        is_met, expected = model.pixels != "signed" or not stage.losses.likelihood, "0 for signed pixels"
        self._require(is_met, "decoder.losses.likelihood", "image.model.pixels", expected=expected)
        is_met, expected = stage.losses.suits(self.drawn_model().drawn_size)
        self._require(is_met, "decoder.losses.discriminator_layers", "image.model.image_size", expected=expected)

    def _check_tuning(self) -> None:
        if self.start.tune is not None:
            is_met = self.transformer.steps != 0 and not self.transformer.lora.rank
            expected = "every weight of the transformer to be trained, which learns the codes as they are then"
            self._require(is_met, "start.tune", "transformer.steps", "transformer.lora.rank", expected=expected)
            is_met, expected = self.image.relaxation != "rotation", "a relaxation; rotation begins with a new codebook"
            self._require(is_met, "start.tune", "image.relaxation", expected=expected)
        rank, model = "transformer.lora.rank", self.transformer.model
        if not self.transformer.lora.rank:
            return
        self._require(self.start.model is not None, rank, expected="0, or a start.model that is updated")
        side = min(model.dim, model.mlp_dim or model.dim)
        expected = f"at most {side}, the smallest side of the model's matrices"
        self._require(self.transformer.lora.rank <= side, rank, expected=expected)
        muon = "transformer.optimizer.muon"
        self._require(not self.transformer.optimizer.muon, rank, muon, expected="AdamW for low-rank updates")

    def drawn_model(self) -> DiscreteVAEConfig:
        """Return the image tokenizer with the decoder that it has in the end."""
        architecture = self.decoder.architecture if self.decoder.steps else None
        return self.image.model if architecture is None else replace(self.image.model, decoder=architecture)

    def transformer_model(self) -> TransformerConfig:
        return TransformerConfig(
            **vars(self.transformer.model),
            text_len=self.text.text_len,
            text_vocab_size=self.text.vocab_size,
            grid_size=self.image.model.grid_size,
            image_vocab_size=self.image.model.image_vocab_size,
        )

    def ranker_model(self) -> CLIPConfig:
        return CLIPConfig(
            **vars(self.ranker.model),
            image_size=self.ranker.image_size or self._whole_patches(),
            text_len=self.text.text_len,
            text_vocab_size=self.text.vocab_size,
        )

    def _whole_patches(self) -> tuple[int, int]:
        """Return the size of the image tokenizer's pictures, cut to multiples of CLIP's patches."""
        patch = self.ranker.model.patch_size
        height, width = self.image.model.image_size
        return max(patch, height // patch * patch), max(patch, width // patch * patch)
