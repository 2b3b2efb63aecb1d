"""Every setting of a model and of a run, as frozen dataclasses.

Imports nothing heavy, so that `--help` stays fast. Sizes are (height, width) in pixels and (rows, columns) in tokens.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DiscreteVAEConfig:
    """An image tokenizer: how pictures become codes, and codes pictures. Every choice goes with every other.

    The defaults are the published discrete VAE. Source: Ramesh et al. 2021, appendix A.1.

    Args:
        image_size: Height and width that it is trained on, in pixels; multiples of the down-sampling factor.
        image_vocab_size: Number of codes.
        codes: `categorical` has a logit for every code, and a learnt vector behind it. `euclidean` takes the code whose
            vector is nearest (VQ-VAE; van den Oord et al. 2017), `cosine` the one at the least angle (Yu et al. 2022).
        architecture: `published` has bottleneck blocks, max-pooling and nearest up-sampling. `strided` has blocks of
            norm, activation and convolution, with 4×4 strided and transposed convolutions between groups. `attentive`
            has such blocks and attention where the grid is small (VQ-GAN; Esser et al. 2021). `lean` has blocks on the
            grid of tokens only, and the least between it and the pixels.
        hidden_dim: Width of the first group, in channels.
        width_multipliers: Width of each group in units of `hidden_dim`; pictures are halved between groups. `lean` has
            none at full size, and no use for the first.
        blocks_per_group: Residual blocks in each group; `lean` has only one, and `attentive` and `lean` one block more
            in the decoder.
        attention: Of `attentive`: `none`, in the `middle` only, or after each block of the `last` group too. Of `lean`:
            `none`, after the first block (`middle`), or after each (`last`).
        latent_dim: Channels of the grid that the decoder takes. Categorical codes have vectors of this size.
        codebook_dim: Size of the vectors of euclidean and cosine codes; a small one keeps more codes in use.
        pixels: `logit_laplace` has the paper's likelihood: pixels enter as φ(x), and the decoder gives a median and a
            scale for each. `signed` has pixels in [−1, 1] at both ends.
    """

    image_size: tuple[int, int] = (256, 256)
    image_vocab_size: int = 8192
    codes: Literal["categorical", "euclidean", "cosine"] = "categorical"
    architecture: Literal["published", "strided", "attentive", "lean"] = "published"
    hidden_dim: int = 256
    width_multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks_per_group: int = 2
    attention: Literal["none", "middle", "last"] = "last"
    latent_dim: int = 128
    codebook_dim: int = 8
    pixels: Literal["logit_laplace", "signed"] = "logit_laplace"

    @property
    def down_factor(self) -> int:
        """Pixels a token stands for along each side."""
        return int(2 ** (len(self.width_multipliers) - 1))

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.down_factor, self.image_size[1] // self.down_factor

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each group, of the largest grid first."""
        return tuple(self.hidden_dim * multiplier for multiplier in self.width_multipliers)


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """How a transformer's blocks are made. The defaults are the paper's; `recipes.MODERN_DESIGN` is what came since.

    Args:
        norm: `layer` subtracts the mean, divides by the deviation and has gains and biases; `rms` divides by the root
            mean square and has gains (Zhang and Sennrich 2019).
        qk_norm: Queries and keys have their root mean square set to 1 in each head, times a gain (Henry et al. 2020).
        positions: `learned` adds an embedding for each text position, row and column; `rotary` turns queries and keys
            by angles of them (Su et al. 2021; of two axes, Heo et al. 2024); `both` does both.
        activation: `gelu`, or the square of the positive part, `relu2` (So et al. 2021).
        biases: Linear layers of the blocks and heads have biases.
        zero_init: What writes into the residual stream, and the heads, begin at zero.
        num_kv_heads: Heads of keys and values, each shared by as many queries; `num_heads` of them where None
            (Ainslie et al. 2023).
    """

    norm: Literal["layer", "rms"] = "layer"
    qk_norm: bool = False
    positions: Literal["learned", "rotary", "both"] = "learned"
    activation: Literal["gelu", "relu2"] = "gelu"
    biases: bool = True
    zero_init: bool = False
    num_kv_heads: int | None = None


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The transformer over the stream. Defaults are DALL·E's. Source: Ramesh et al. 2021, section 2.2 and appendix B.

    Args:
        text_len: Text positions of the stream, padding included.
        text_vocab_size: Ids of the text tokenizer; a padding id for each position follows them.
        grid_size: Rows and columns of image tokens.
        image_vocab_size: Number of image codes.
        num_layers: Residual blocks of attention and MLP.
        num_heads: Attention heads of each layer.
        head_dim: Width of a head.
        mlp_dim: Hidden width of the MLP; four times `dim` where None.
        attention: `sparse` for the paper's row, column and convolutional layers, `full` for full attention throughout.
        kernel_size: Side of the convolutional layers' neighbourhood, odd.
        design: How the blocks are made.
    """

    text_len: int = 256
    text_vocab_size: int = 16384
    grid_size: tuple[int, int] = (32, 32)
    image_vocab_size: int = 8192
    num_layers: int = 64
    num_heads: int = 62
    head_dim: int = 64
    mlp_dim: int | None = None
    attention: Literal["sparse", "full"] = "sparse"
    kernel_size: int = 11
    design: DesignConfig = field(default_factory=DesignConfig)

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.design.num_kv_heads or self.num_heads


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """One of CLIP's two transformers."""

    num_layers: int = 12
    num_heads: int = 8
    head_dim: int = 64

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """CLIP: a text transformer and a vision transformer in one space. Defaults are near the published ViT-B/32.

    Args:
        image_size: Height and width in pixels that the picture is resized to; multiples of `patch_size`.
        patch_size: Side of a patch in pixels.
        text_len: Text positions.
        text_vocab_size: Ids of the text tokenizer.
        embed_dim: Width of the shared space.
        text: The text tower.
        image: The image tower.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 32
    text_len: int = 256
    text_vocab_size: int = 16384
    embed_dim: int = 512
    text: TowerConfig = field(default_factory=TowerConfig)
    image: TowerConfig = field(default_factory=lambda: TowerConfig(num_heads=12))


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Which pairs are left out. Source: Ramesh et al. 2021, section 2.3.

    Args:
        min_caption_chars: Shortest caption kept, in characters.
        language: ISO 639-1 code that captions must be in, or None for any; needs the `language` extra.
        boilerplate: Leave out captions such as "photographed on 3 May 2011".
        min_aspect_ratio: Narrowest picture kept, as width over height.
        max_aspect_ratio: Widest picture kept.
        min_image_side: Smallest short edge kept, in pixels.
        max_image_pixels: Pictures of more pixels are refused before they are decoded.
    """

    min_caption_chars: int = 3
    language: str | None = None
    boilerplate: bool = True
    min_aspect_ratio: float = 0.5
    max_aspect_ratio: float = 2.0
    min_image_side: int = 16
    max_image_pixels: int = 100_000_000


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the pairs come from and how pictures are cut.

    Args:
        path: A folder, a tar shard, or a glob or brace range of shards.
        min_crop: Shortest side of the random crop, as a share of the largest crop that fits.
        flip: Mirror pictures at random while the image tokenizer trains. Never done where captions are looked at.
        filters: Which pairs are left out.
        held_out: Least share of the pairs that no stage trains on; they are for validation. Of few pairs it is up to a
            tenth, so that there are 32 to measure on.
    """

    path: str = ""
    min_crop: float = 0.8
    flip: bool = True
    filters: FilterConfig = field(default_factory=FilterConfig)
    held_out: float = 0.02


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
class ImageLossConfig:
    """What the image tokenizer's loss is made of: each term's weight, 0 for a term that is not there.

    Args:
        likelihood: Of −ln of the logit-Laplace density, in nats a sub-pixel; for `pixels: logit_laplace` only.
        l1: Of the mean absolute error of pixels in [0, 1].
        l2: Of their mean squared error.
        rmse: Of its root, picture by picture.
        kl: β, of the codes' divergence from the uniform prior, in the paper's unit. It rises from 0 by a cosine.
        kl_steps: Share of the steps that the rise of β takes.
        entropy: Of how undecided each token is, less how varied they are together; of codes learnt by a relaxation of
            probabilities, as is `kl`.
        entropy_temperature: Of the probabilities in it; low ones look at the largest logits only.
        commitment: Of the distance from the encoder's vectors to the codes that they are given, which moves the
            vectors; euclidean and cosine codes only.
        codebook: Of the same distance, which moves the codes; euclidean ones only, unless they are moving averages.
        perceptual: Of the distance between features of the pictures.
        perceptual_network: What gives the features: a model directory with a ranker, a CLIP directory, or a file with
            VGG-16's weights. Without it there is no such term, and the plan says so.
        adversarial: Of a discriminator's opinion of the patches, times an adaptive factor that puts its gradient on
            the scale of the other terms'.
        adversarial_start: Share of the steps before it begins.
        lecam: Of the discriminator's regularization, which matters where there are few pictures.
        discriminator_dim: Width of the discriminator's first layer, in channels.
        discriminator_layers: Strided layers of the discriminator.
    """

    likelihood: float = 1.0
    l1: float = 0.0
    l2: float = 0.0
    rmse: float = 0.0
    kl: float = 6.6
    kl_steps: float = 0.1
    entropy: float = 0.0
    entropy_temperature: float = 0.01
    commitment: float = 0.25
    codebook: float = 1.0
    perceptual: float = 0.0
    perceptual_network: str | None = None
    adversarial: float = 0.0
    adversarial_start: float = 0.3
    lecam: float = 0.0
    discriminator_dim: int = 64
    discriminator_layers: int = 3


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


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run: BPE, image tokenizer, cached tokens, transformer, CLIP.

    Args:
        recipe: Name of the recipe that the sizes came from, for people to read.
        seed: Of the weights, the order of the data, the augmentation and all noise.
        hours: Time budget that the steps were fitted into.
        threads: CPU threads; part of the plan because sums depend on it.
        device: `cpu` or `cuda`.
        save_every_s: Seconds between checkpoints, about.
        data: The pairs.
        text: The byte-pair encoding.
        image: The image tokenizer.
        transformer: The transformer.
        ranker: CLIP.
    """

    recipe: str = "dalle_v1"
    seed: int = 0
    hours: float = 1.0
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    save_every_s: float = 60.0
    data: DataConfig = field(default_factory=DataConfig)
    text: TextStage = field(default_factory=TextStage)
    image: ImageStage = field(default_factory=ImageStage)
    transformer: TransformerStage = field(default_factory=TransformerStage)
    ranker: RankerStage = field(default_factory=RankerStage)
