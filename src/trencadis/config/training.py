"""Config of each stage's training."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from trencadis.config.base import Amount, Config, Count, PlaceText, Range, Share, Whole
from trencadis.config.clip import CLIPSizes
from trencadis.config.image import ArchitectureConfig, DiscreteVAEConfig
from trencadis.config.losses import CODE_TERMS, ImageLossConfig
from trencadis.config.transformer import TransformerSizes


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """AdamW, or Muon and AdamW, with a warm-up and a decay of the learning rate.

    Args:
        learning_rate: Peak of AdamW's learning rate.
        final_learning_rate: Learning rate of the last step, as a share of the peak; of `plateaus`, the least one.
        beta2: Decay of the second moment; beta1 is 0.9.
        weight_decay: For matrices and kernels only, never for gains, biases and embeddings.
        warmup_steps: Steps of the linear warm-up from zero; None takes 2 % of the steps.
        decay: Shape of the decay: half a `cosine`, or `linear`. With `plateaus` the rate is halved each time the
            training loss has gone flat.
        decay_end: Share of the steps after which the final learning rate is reached, in (0, 1]; not of `plateaus`.
        max_grad_norm: Gradients are clipped to this norm; None never clips.
        muon: Train the hidden matrices by Muon and only the rest by AdamW; for models that name those matrices.
        muon_learning_rate: Peak of Muon's learning rate, which follows the same schedule.
        muon_momentum: Muon's momentum, in [0, 1).
        muon_weight_decay: Decoupled weight decay of the matrices under Muon, times Muon's learning rate.
    """

    learning_rate: Amount = 4.5e-4
    final_learning_rate: Share = 1 / 32
    beta2: Annotated[float, Range(0, 0.999999)] = 0.96
    weight_decay: Amount = 0.045
    warmup_steps: Whole | None = None
    decay: Literal["cosine", "linear", "plateaus"] = "cosine"
    decay_end: Annotated[float, Range(1e-6, 1)] = 1.0
    max_grad_norm: Annotated[float, Range(1e-6)] | None = 4.0
    muon: bool = False
    muon_learning_rate: Amount = 0.02
    muon_momentum: Annotated[float, Range(0, 0.9999)] = 0.95
    muon_weight_decay: Amount = 0.01


@dataclass(frozen=True, kw_only=True)
class StageConfig(Config):
    """Training of any part.

    Args:
        steps: Updates; None fits them into the run's hours. 0 keeps the part of the model that the run starts from.
        batch_size: Samples of an update, over all its microbatches.
        microbatches: Parts that an update is computed in, to save memory.
        ema_decay: Decay of the EMA of the weights, which is kept at the end; it has a warm-up.
        ema_every: Updates from one averaging to the next.
        precision: Type of products and convolutions; weights, norms, codes and losses are float32. None is decided when
            the run is planned: `bfloat16` where the device has units for it, else float32. A run keeps its type on any
            machine; without units, bfloat16 gives the same results more slowly.
    """

    steps: Whole | None = None
    batch_size: Count = 64
    microbatches: Count = 1
    ema_decay: Share = 0.999
    ema_every: Count = 1
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        is_met = self.microbatches <= self.batch_size
        self._require(is_met, "microbatches", "batch_size", expected="at most one part for each sample")


@dataclass(frozen=True, kw_only=True)
class TextStage(Config):
    """Training of the byte-pair encoding.

    Args:
        vocab_size: At most this many ids; fewer where the captions hold fewer merges.
        text_len: Text positions of the stream, 2..256; longer captions are cut.
        dropout: Share of merges skipped in training (BPE-dropout).
        fit_captions: The plan sets the two sizes to what the captions need, at most `vocab_size`.
    """

    vocab_size: Annotated[int, Range(256, 16384)] = 16384
    text_len: Annotated[int, Range(2, 256)] = 256
    dropout: Share = 0.1
    fit_captions: bool = False


_RELAXATIONS = {
    "categorical": ("gumbel", "straight_through", "ibq"),
    "euclidean": ("gumbel", "straight_through", "ibq", "rotation"),
    "cosine": ("rotation",),
}
"""How each kind of codes can be trained. Logits have no vectors to average, and cosines are too alike for logits."""


@dataclass(frozen=True, kw_only=True)
class ImageStage(StageConfig):
    """Training of the image tokenizer. The defaults are the paper's. Source: Ramesh et al. 2021, appendix A.2.

    Args:
        model: The image tokenizer. Its sizes are those of the run's pictures and image tokens.
        pretrained: A directory, hub id or shipped model whose image tokenizer is used as it is; none is trained.
        relaxation: How the gradient passes the choice of codes. `gumbel` gives the decoder the paper's softmax with
            noise; `straight_through` the arg max, with that softmax's gradient; `ibq` the arg max without noise (Shi
            et al. 2024). `rotation` gives it the code, rotates the gradient (Fifty et al. 2024), and moves the
            codebook by an EMA. `rotation` is not available for categorical codes, and the only choice for cosine ones.
        final_relaxation_temperature: τ falls from 1 to this by a cosine; `ibq` keeps τ at 1.
        relaxation_steps: Share of the steps that the fall of τ takes.
        codebook_decay: Decay of the codebook's EMA under `rotation`.
        revive_below: A code that is used less than this share of an even use is replaced; 0 never.
        pixel_noise: Uniform noise of ±this is added to pixels in training, below 0.125; the paper adds none. On
            drawings with flat grounds the likelihood has no upper bound without it, and such grounds take over.
    """

    model: DiscreteVAEConfig = field(default_factory=DiscreteVAEConfig)
    pretrained: PlaceText | None = None
    losses: ImageLossConfig = field(default_factory=ImageLossConfig)
    relaxation: Literal["gumbel", "straight_through", "ibq", "rotation"] = "gumbel"
    final_relaxation_temperature: Annotated[float, Range(1e-3, 100)] = 1 / 16
    relaxation_steps: Share = 0.5
    codebook_decay: Annotated[float, Range(0, 0.99999)] = 0.99
    revive_below: Share = 0.0
    pixel_noise: Annotated[float, Range(0, 0.124)] = 0.0
    precision: Literal["float32", "bfloat16"] | None = None
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-4, final_learning_rate=1 / 80, beta2=0.999, weight_decay=1e-4, max_grad_norm=None
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained is None:
            known = _RELAXATIONS[self.model.codes.kind]
            is_met, expected = self.relaxation in known, f"relaxation {' or '.join(known)}"
            self._require(is_met, "relaxation", "model.codes.kind", expected=expected)
            is_met, expected = self.model.pixels != "signed" or not self.losses.likelihood, "0 for signed pixels"
            self._require(is_met, "losses.likelihood", "model.pixels", expected=expected)
        is_met, expected = self.losses.suits(self.model.drawn_size)
        self._require(is_met, "losses.discriminator_layers", "model.image_size", expected=expected)


@dataclass(frozen=True, kw_only=True)
class DecoderStage(StageConfig):
    """Training of the image tokenizer's decoder alone, on codes that stay. Without steps there is no such stage.

    Args:
        steps: Updates; the time budget does not count them.
        architecture: Convolutions of a new decoder, which takes over the weights that fit; None trains the one that is
            there. With one doubling more than the encoder has halvings, it draws pictures of twice the side.
        losses: Those of codes are 0: nothing moves the codes.
    """

    steps: Whole = 0
    architecture: ArchitectureConfig | None = None
    losses: ImageLossConfig = field(
        default_factory=lambda: ImageLossConfig(likelihood=0.0, l1=2.0, kl=0.0, commitment=0.0, codebook=0.0)
    )
    precision: Literal["float32", "bfloat16"] | None = None
    batch_size: Count = 16
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-3,
            final_learning_rate=0.01,
            decay="linear",
            beta2=0.99,
            weight_decay=1e-4,
            max_grad_norm=0.5,
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in CODE_TERMS:
            self._require(not getattr(self.losses, name), f"losses.{name}", expected="0: the codes stay")


@dataclass(frozen=True, kw_only=True)
class TransformerStage(StageConfig):
    """Training of the transformer. Source: Ramesh et al. 2021, section 2.2 and appendix B.

    Args:
        model: Its own sizes; the others are those of `text` and `image.model`.
        caption_dropout: Share of captions replaced by the empty one, for classifier-free guidance.
        token_variants: Crops of each picture whose tokens are cached: the middle one, then random ones. None takes
            enough that each is seen about ten times.
        text_weight: Weight of the text loss; the image loss has the rest of 1.
        token_noise: Image tokens that are replaced by random ones in the input, so that the model learns to draw on
            after mistakes and overfits less. Each picture has its own share, drawn evenly from 0 to a limit; the limit
            falls in a straight line from `token_noise` to 0 at three quarters of the steps. Targets are not replaced.
            Source: He et al. 2025, "reAR".
        precision: As in the other stages; `float16` has a gradient scale for each residual branch, as the paper does.
        checkpointed_blocks: Number of blocks that keep nothing for the backward pass and are computed twice, to save
            memory.
    """

    model: TransformerSizes = field(default_factory=TransformerSizes)
    caption_dropout: Share = 0.1
    token_variants: Annotated[int, Range(1, 1000)] | None = None
    text_weight: Share = 1 / 8
    token_noise: Share = 0.0
    checkpointed_blocks: Whole = 0


@dataclass(frozen=True, kw_only=True)
class RankerStage(StageConfig):
    """Training of CLIP on the same pairs. Source: Radford et al. 2021.

    Args:
        model: Its own sizes; those of the text are in `text`.
        image_size: Height and width that pictures are cut to, in multiples of a patch. None takes the image
            tokenizer's, rounded down to whole patches.
    """

    model: CLIPSizes = field(default_factory=CLIPSizes)
    image_size: tuple[Count, Count] | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=5e-4, final_learning_rate=0.01, beta2=0.98, weight_decay=0.2
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        is_whole = all(side % self.model.patch_size == 0 for side in self.image_size or ())
        self._require(is_whole, "image_size", "model.patch_size", expected="sides in multiples of patch_size")
        expected = "1: the loss compares all pairs of a batch"
        self._require(self.microbatches == 1, "microbatches", expected=expected)
