"""Config of each stage's training."""

from dataclasses import dataclass, field
from typing import Literal

from trencadis.config.clip import CLIPConfig
from trencadis.config.image import DiscreteVAEConfig
from trencadis.config.losses import ImageLossConfig
from trencadis.config.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, or Muon and AdamW, with a warm-up and a fall to the final learning rate.

    Args:
        learning_rate: Peak.
        final_learning_rate: At the last step, as a share of the peak.
        beta2: Decay of the second moment; beta1 is 0.9.
        weight_decay: For matrices and kernels only, never for gains, biases and embeddings.
        warmup_steps: Linear, from zero; None takes 2 % of the steps.
        decay: How it falls from the peak: by half a `cosine`, or `linear`.
        decay_end: Share of the steps after which the final learning rate is reached, in (0, 1].
        max_grad_norm: The gradient is scaled down to it; None never.
        muon: Train the hidden matrices by Muon and only the rest by AdamW; for models that say which those are.
        muon_learning_rate: Peak of Muon's, which moves as AdamW's does.
        muon_momentum: Of Muon, in [0, 1).
        muon_weight_decay: Of the hidden matrices under Muon, in place of `weight_decay`; decoupled, and multiplied by
            Muon's learning rate.
    """

    learning_rate: float = 4.5e-4
    final_learning_rate: float = 1 / 32
    beta2: float = 0.96
    weight_decay: float = 0.045
    warmup_steps: int | None = None
    decay: Literal["cosine", "linear"] = "cosine"
    decay_end: float = 1.0
    max_grad_norm: float | None = 4.0
    muon: bool = False
    muon_learning_rate: float = 0.02
    muon_momentum: float = 0.95
    muon_weight_decay: float = 0.01


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What the training of any part takes.

    Args:
        steps: Updates; None fits them into the run's hours.
        batch_size: Samples of an update, over all its microbatches.
        microbatches: Parts that an update is computed in, to save memory.
        ema_decay: Of the averaged weights that are kept in the end, after a warm-up.
        optimizer: AdamW's settings.
    """

    steps: int | None = None
    batch_size: int = 64
    microbatches: int = 1
    ema_decay: float = 0.999
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass(frozen=True, kw_only=True)
class TextStage:
    """Training of the byte-pair encoding.

    Args:
        vocab_size: At most this many ids; fewer where the captions hold fewer merges.
        text_len: Text positions of the stream, 1..256; longer captions are cut.
        dropout: Share of merges skipped in training (BPE-dropout).
    """

    vocab_size: int = 16384
    text_len: int = 256
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class ImageStage(StageConfig):
    """Training of the image tokenizer. The defaults are the paper's. Source: Ramesh et al. 2021, appendix A.2.

    Args:
        model: Kind and sizes.
        pretrained: A directory, hub id or shipped model whose image tokenizer is used as it is; none is trained.
        losses: What is minimised.
        relaxation: How the gradient passes the choice of codes. `gumbel` gives the decoder the paper's softmax with
            noise; `straight_through` its arg max, and the gradient passes as if it were that softmax; `ibq` the arg max
            without noise (Shi et al. 2024). `rotation` gives it the code, turns the gradient (Fifty et al. 2024), and
            has the codes follow by moving averages. Categorical codes cannot have the last; cosine ones nothing else.
        final_relaxation_temperature: τ falls from 1 to this by a cosine; `ibq` has it at 1.
        relaxation_steps: Share of the steps that the fall of τ takes.
        codebook_decay: Of the moving averages of `rotation`.
        revive_below: A code used less than this share of an even use is given up, and begins anew where many tokens
            are; 0 never.
        pixel_noise: Uniform noise of ±this is added to pixels in training, below 0.125; the paper adds none. On
            drawings with flat grounds the likelihood has no upper bound without it, and such grounds take over.
        precision: Type that convolutions are computed in; codes, weights and losses are float32. `bfloat16` is faster
            on CUDA devices and on processors with AVX-512 BF16.
    """

    model: DiscreteVAEConfig = field(default_factory=DiscreteVAEConfig)
    pretrained: str | None = None
    losses: ImageLossConfig = field(default_factory=ImageLossConfig)
    relaxation: Literal["gumbel", "straight_through", "ibq", "rotation"] = "gumbel"
    final_relaxation_temperature: float = 1 / 16
    relaxation_steps: float = 0.5
    codebook_decay: float = 0.99
    revive_below: float = 0.0
    pixel_noise: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-4, final_learning_rate=1 / 80, beta2=0.999, weight_decay=1e-4, max_grad_norm=None
        )
    )


@dataclass(frozen=True, kw_only=True)
class TransformerStage(StageConfig):
    """Training of the transformer. Source: Ramesh et al. 2021, section 2.2 and appendix B.

    Args:
        model: Sizes; the fields that follow from the tokenizers are filled in when the stage begins.
        caption_dropout: Share of captions replaced by the empty one, so that guidance works.
        token_variants: Crops of each picture whose tokens are cached: the middle one, then random ones. None takes
            enough that each is seen about ten times.
        text_weight: Of the text loss; the image loss has the rest.
        precision: Type that products are computed in; weights and losses are float32. `float16` has a gradient scale
            for each residual branch, as the paper does. None takes bfloat16 on CUDA and float32 on a CPU.
        checkpointed_blocks: So many of the blocks keep nothing for the backward pass and are computed twice, to save
            memory.
    """

    model: TransformerConfig = field(default_factory=TransformerConfig)
    caption_dropout: float = 0.1
    token_variants: int | None = None
    text_weight: float = 1 / 8
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    checkpointed_blocks: int = 0


@dataclass(frozen=True, kw_only=True)
class RankerStage(StageConfig):
    """Training of CLIP on the same pairs. Source: Radford et al. 2021.

    Args:
        model: Sizes; the text fields are filled in when the stage begins.
    """

    model: CLIPConfig = field(default_factory=CLIPConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=5e-4, final_learning_rate=0.01, beta2=0.98, weight_decay=0.2
        )
    )
