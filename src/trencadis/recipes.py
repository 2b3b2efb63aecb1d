"""Recipes: functions that return the whole config of a run, from a model for tests to DALL·E itself.

A recipe for minutes or hours has a size, an image tokenizer and a transformer, each chosen apart. `NAME` has what
measured best, the tokenizer of `NAME-ibq`; `NAME-paper` has all as published. `train` chooses the size by the time that
it is given (see `trencadis.training.plan`); every setting can be overridden.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from trencadis.config import (
    CLIPSizes,
    DesignConfig,
    DiscreteVAEConfig,
    ImageLossConfig,
    ImageStage,
    LeanConfig,
    NearestCodes,
    OptimizerConfig,
    PublishedConfig,
    RankerStage,
    RunConfig,
    StridedConfig,
    TextStage,
    TowerConfig,
    TransformerSizes,
    TransformerStage,
)

# At a few thousand steps, the published rates (made for a million) would hardly leave the start.
_SHORT_VAE = OptimizerConfig(
    learning_rate=4e-3, final_learning_rate=0.02, beta2=0.95, weight_decay=1e-4, max_grad_norm=1.0
)
_LEAN = replace(_SHORT_VAE, learning_rate=3e-3, final_learning_rate=0.01, decay="linear", beta2=0.99, max_grad_norm=0.5)
_SHORT_CLIP = OptimizerConfig(learning_rate=1e-3, final_learning_rate=0.02, beta2=0.98, weight_decay=0.1)

PAPER_DESIGN = DesignConfig()
PAPER_OPTIMIZER = OptimizerConfig(learning_rate=1.5e-3, final_learning_rate=0.05, beta2=0.96, max_grad_norm=1.0)
MODERN_DESIGN = DesignConfig(
    norm="rms", qk_norm=True, positions="rotary", activation="relu2", biases=False, zero_init=True
)
# Muon for the hidden matrices; AdamW's rate is that of embeddings, heads and gains: see docs/log.md.
MODERN_OPTIMIZER = replace(PAPER_OPTIMIZER, muon=True, learning_rate=8e-3, muon_weight_decay=0.1)


@dataclass(frozen=True, kw_only=True)
class Size:
    """The sizes of a recipe for minutes or hours on one machine.

    The pictures are squares. Heads of 64 are fastest on every machine that was measured; CLIP's towers have them too.
    On grids of up to 16×16 tokens full attention is faster than the paper's sparse pattern, and learns more.
    `hidden_dim`, `width_multipliers` and `blocks_per_group` are those of the published convolutions, from which the
    other tokenizers take their widths.
    """

    name: str
    image_side: int
    hidden_dim: int
    width_multipliers: tuple[int, ...]
    blocks_per_group: int = 2
    image_vocab_size: int
    latent_dim: int = 128
    image_batch: int
    vocab_size: int
    text_len: int = 256
    fit_captions: bool = True
    layers: int
    heads: int
    head_dim: int = 64
    attention: Literal["full", "sparse"] = "full"
    transformer_batch: int = 64
    clip_layers: int
    clip_heads: int
    patch_size: int

    @property
    def groups(self) -> dict[str, Any]:
        return {"width_multipliers": self.width_multipliers, "blocks_per_group": self.blocks_per_group}


def gumbel(size: Size) -> ImageStage:
    """Return the discrete VAE as published, with schedules that learn most in few steps: see docs/log.md.

    β is the paper's measure of the KL against sub-pixels, so it goes with the area that a token stands for.
    """
    model = DiscreteVAEConfig(
        image_size=(size.image_side, size.image_side),
        image_vocab_size=size.image_vocab_size,
        latent_dim=size.latent_dim,
        architecture=PublishedConfig(hidden_dim=size.hidden_dim, **size.groups),
    )
    return ImageStage(
        model=model,
        batch_size=size.image_batch,
        optimizer=_SHORT_VAE,
        losses=ImageLossConfig(kl=10 * (model.down_factor / 8) ** 2),
        final_relaxation_temperature=0.1,
        relaxation_steps=0.8,
        pixel_noise=0.05,
    )


def strided(size: Size) -> ImageStage:
    """Return a discrete VAE with the convolutions that most explanations of DALL·E draw.

    Its blocks are four times as wide inside as the published bottlenecks; at half of the width an update takes as long.
    """
    published = gumbel(size)
    architecture = StridedConfig(hidden_dim=size.hidden_dim // 2, **size.groups)
    return replace(published, model=replace(published.model, architecture=architecture))


def ibq(size: Size) -> ImageStage:
    """Return a discrete VAE that decodes its likeliest codes from the first update on, without noise.

    The logit of a code is how near it is. Of the recipes it is the most faithful in the same time: see docs/results.md.

    Source: Shi et al. 2024.
    """
    losses = ImageLossConfig(
        likelihood=0.0, rmse=1.5, kl=0.0, entropy=5e-4, entropy_temperature=1.0, commitment=0.003, codebook=0.012
    )
    return _nearest(size, NearestCodes(codebook_dim=32), losses, "ibq")


def vqvae(size: Size) -> ImageStage:
    """Return a VQ-VAE: nearest codes that follow by an EMA, squared error and commitment.

    Source: van den Oord et al. 2017.
    """
    losses = ImageLossConfig(likelihood=0.0, l2=10.0, commitment=0.25)
    return _nearest(size, NearestCodes(codebook_dim=32), losses, "rotation")


def vqgan(size: Size) -> ImageStage:
    """Return a VQ-GAN: short codes of length 1, attention, a perceptual and an adversarial term.

    Its convolutions are the lean ones with attention among them; those of the source, `attentive`, take more time than
    a short run has.

    Source: Esser et al. 2021; the codes as in Yu et al. 2022.
    """
    losses = ImageLossConfig(
        likelihood=0.0, l1=2.0, commitment=0.25, perceptual=0.1, adversarial=0.5, lecam=0.05,
        discriminator_dim=size.hidden_dim, discriminator_layers=2,
    )  # fmt: skip
    return _nearest(size, NearestCodes(kind="cosine", codebook_dim=8), losses, "rotation", attention_after="first")


def _nearest(
    size: Size,
    codes: NearestCodes,
    losses: ImageLossConfig,
    relaxation: Literal["ibq", "rotation"],
    attention_after: Literal["none", "first"] = "none",
) -> ImageStage:
    halvings = len(size.width_multipliers) - 1
    widths = tuple(size.hidden_dim * 3 // 2 * 2**halving for halving in range(halvings))
    model = DiscreteVAEConfig(
        image_size=(size.image_side, size.image_side),
        image_vocab_size=size.image_vocab_size,
        latent_dim=32,
        pixels="signed",
        architecture=LeanConfig(widths=widths, attention_after=attention_after),
        codes=codes,
    )
    return ImageStage(
        model=model,
        batch_size=max(16, size.image_batch),
        optimizer=_LEAN,
        losses=losses,
        relaxation=relaxation,
        final_relaxation_temperature=0.1,
        relaxation_steps=0.8,
        revive_below=0.1,
    )


def modern(size: Size) -> TransformerStage:
    """Return the transformer as the field builds it today, with Muon for its hidden matrices: see docs/results.md."""
    model = TransformerSizes(
        num_layers=size.layers,
        num_heads=size.heads,
        head_dim=size.head_dim,
        attention=size.attention,
        design=MODERN_DESIGN,
    )
    return TransformerStage(model=model, batch_size=size.transformer_batch, optimizer=MODERN_OPTIMIZER)


def paper(size: Size) -> TransformerStage:
    """Return the transformer as published: the design, sparse attention, and AdamW for every parameter."""
    stage = modern(size)
    model = replace(stage.model, design=PAPER_DESIGN, attention="sparse")
    return replace(stage, model=model, optimizer=PAPER_OPTIMIZER)


def short_run(
    size: Size,
    variant: str = "",
    *,
    image: Callable[[Size], ImageStage] = ibq,
    transformer: Callable[[Size], TransformerStage] = modern,
) -> RunConfig:
    """Return a run for minutes or hours on one machine; `variant` is put behind the size's name."""
    tower = TowerConfig(num_layers=size.clip_layers, num_heads=size.clip_heads, head_dim=size.head_dim)
    clip = CLIPSizes(patch_size=size.patch_size, embed_dim=tower.dim, text=tower, image=tower)
    return RunConfig(
        recipe="-".join(filter(None, (size.name, variant))),
        text=TextStage(vocab_size=size.vocab_size, text_len=size.text_len, fit_captions=size.fit_captions),
        image=image(size),
        transformer=transformer(size),
        ranker=RankerStage(model=clip, batch_size=128, optimizer=_SHORT_CLIP),
    )


TINY = Size(  # seconds, for tests
    name="tiny", image_side=16, hidden_dim=16, width_multipliers=(1, 2, 2), blocks_per_group=1, image_vocab_size=32,
    latent_dim=16, image_batch=32, vocab_size=300, text_len=16, fit_captions=False, layers=3, heads=2, head_dim=32,
    attention="sparse", clip_layers=1, clip_heads=2, patch_size=4,
)  # fmt: skip
POCKET = Size(  # an hour on a laptop's processor; small updates learn more from few samples
    name="pocket", image_side=64, hidden_dim=32, width_multipliers=(1, 2, 4, 4), blocks_per_group=1,
    image_vocab_size=1024, image_batch=8, vocab_size=4096, layers=8, heads=5, transformer_batch=32, clip_layers=3,
    clip_heads=2, patch_size=8,
)  # fmt: skip
SMALL = Size(  # a night on a laptop's processor, minutes on a GPU
    name="small", image_side=96, hidden_dim=32, width_multipliers=(1, 2, 4, 4), blocks_per_group=1,
    image_vocab_size=1024, image_batch=8, vocab_size=8192, layers=8, heads=6, clip_layers=4, clip_heads=3,
    patch_size=12,
)  # fmt: skip
MEDIUM = Size(  # days on a processor, an hour on a GPU
    name="medium", image_side=128, hidden_dim=64, width_multipliers=(1, 2, 4, 4), image_vocab_size=4096,
    image_batch=32, vocab_size=16384, layers=12, heads=8, clip_layers=6, clip_heads=4, patch_size=16,
)  # fmt: skip
LARGE = Size(  # hours on a large GPU, with DALL·E's vocabularies
    name="large", image_side=256, hidden_dim=128, width_multipliers=(1, 2, 4, 8), image_vocab_size=8192,
    image_batch=32, vocab_size=16384, layers=16, heads=16, attention="sparse", clip_layers=8, clip_heads=8,
    patch_size=32,
)  # fmt: skip


def dalle_v1() -> RunConfig:
    """Return DALL·E as published: 256 pixels, a grid of 32, 8192 codes, 12 billion parameters.

    The transformer's learning rate is halved five times at most as its loss goes flat, by a rule where the paper did so
    by eye. CLIP has the sizes and the length of training of its own paper's smallest vision transformer.

    Source: Ramesh et al. 2021, section 2 and appendices A and B; Radford et al. 2021.
    """
    slow = ImageStage().optimizer
    return RunConfig(
        recipe="dalle_v1",
        image=ImageStage(
            steps=3_000_000,
            batch_size=512,
            relaxation_steps=150_000 / 3_000_000,
            losses=ImageLossConfig(kl_steps=5_000 / 3_000_000),
            optimizer=replace(slow, warmup_steps=0, decay_end=1_200_000 / 3_000_000),
        ),
        transformer=TransformerStage(
            steps=430_000,
            batch_size=1024,
            token_variants=1,
            ema_decay=0.99,
            ema_every=25,
            optimizer=OptimizerConfig(warmup_steps=5_000, decay="plateaus"),
        ),
        ranker=RankerStage(steps=400_000, batch_size=32_768, image_size=(224, 224)),
    )


LADDER = tuple(partial(short_run, size) for size in (POCKET, SMALL, MEDIUM, LARGE))
"""The recipes that `train` chooses from by the time that it is given, smallest first."""

RECIPES: dict[str, Callable[[], RunConfig]] = {"dalle_v1": dalle_v1}
for _size in (TINY, POCKET, SMALL, MEDIUM, LARGE):
    RECIPES[_size.name] = partial(short_run, _size)
    RECIPES[f"{_size.name}-paper"] = partial(short_run, _size, "paper", image=gumbel, transformer=paper)
    for _image in (gumbel, strided, ibq, vqvae, vqgan):
        RECIPES[f"{_size.name}-{_image.__name__}"] = partial(short_run, _size, _image.__name__, image=_image)
RECIPES["tiny"] = partial(short_run, TINY, image=gumbel)  # the tests train the published tokenizer throughout
