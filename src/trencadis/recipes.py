"""Recipes: functions that return the whole config of a run, from a model for tests to DALL·E itself.

`train` chooses among the small ones by the time that it is given (see `trencadis.training.plan`); the sizes of a
chosen one can be overridden field by field.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from trencadis.config import (
    CLIPConfig,
    DesignConfig,
    DiscreteVAEConfig,
    ImageLossConfig,
    ImageStage,
    OptimizerConfig,
    RankerStage,
    RunConfig,
    TextStage,
    TowerConfig,
    TransformerConfig,
    TransformerStage,
)

# At a few thousand steps, the published rates (made for a million) would hardly leave the start.
_SHORT_VAE = OptimizerConfig(
    learning_rate=4e-3, final_learning_rate=0.02, beta2=0.95, weight_decay=1e-4, max_grad_norm=1.0
)
_LEAN = replace(_SHORT_VAE, learning_rate=3e-3, final_learning_rate=0.01, decay="linear", beta2=0.99, max_grad_norm=0.5)
_SHORT_TRANSFORMER = OptimizerConfig(learning_rate=1.5e-3, final_learning_rate=0.05, beta2=0.96, max_grad_norm=1.0)
_SHORT_CLIP = OptimizerConfig(learning_rate=1e-3, final_learning_rate=0.02, beta2=0.98, weight_decay=0.1)

MODERN_DESIGN = DesignConfig(
    norm="rms", qk_norm=True, positions="rotary", activation="relu2", biases=False, zero_init=True
)

MODERN_LEARNING_RATE = 8e-3  # AdamW's beside Muon: of embeddings, heads and gains; see docs/log.md


def paper(config: RunConfig) -> RunConfig:
    """Return a run with the transformer as published: the design, and AdamW for every parameter."""
    stage = config.transformer
    optimizer = replace(stage.optimizer, muon=False)
    if stage.optimizer.muon:
        optimizer = replace(optimizer, learning_rate=_SHORT_TRANSFORMER.learning_rate)
    model = replace(stage.model, design=DesignConfig())
    return replace(config, transformer=replace(stage, model=model, optimizer=optimizer))


def modern(config: RunConfig) -> RunConfig:
    """Return a run with the transformer as the field makes it today, and Muon for its hidden matrices.

    What each choice is worth is measured in docs/results.md.
    """
    stage = config.transformer
    optimizer = replace(stage.optimizer, muon=True, learning_rate=MODERN_LEARNING_RATE)
    model = replace(stage.model, design=MODERN_DESIGN)
    return replace(config, transformer=replace(stage, model=model, optimizer=optimizer))


def strided(config: RunConfig) -> RunConfig:
    """Return a run whose discrete VAE has the convolutions that most explanations of DALL·E draw.

    Its blocks are four times as wide inside as the published bottlenecks; at half of the width an update takes as long.
    """
    model = replace(config.image.model, architecture="strided", hidden_dim=config.image.model.hidden_dim // 2)
    return replace(config, image=replace(config.image, model=model))


def ibq(config: RunConfig) -> RunConfig:
    """Return a run whose discrete VAE decodes its likeliest codes from the first update on, without noise.

    A code's logit is how near it is, so that what makes it likelier makes it fit better. Of the recipes the most
    faithful in the same time: see docs/results.md.

    Source: Shi et al. 2024.
    """
    losses = ImageLossConfig(
        likelihood=0.0, rmse=1.5, kl=0.0, entropy=5e-4, entropy_temperature=1.0, commitment=0.003, codebook=0.012
    )
    return _nearest_codes(config, losses, "ibq")


def vqvae(config: RunConfig) -> RunConfig:
    """Return a run with a VQ-VAE: nearest codes that follow by moving averages, squared error and commitment.

    Source: van den Oord et al. 2017.
    """
    return _nearest_codes(config, ImageLossConfig(likelihood=0.0, l2=10.0, commitment=0.25), "rotation")


def _nearest_codes(config: RunConfig, losses: ImageLossConfig, relaxation: Literal["ibq", "rotation"]) -> RunConfig:
    """Return a run with euclidean codes and the lean convolutions, by a relaxation of which nothing is random."""
    published = config.image.model
    model = replace(
        published, codes="euclidean", architecture="lean", hidden_dim=published.hidden_dim * 3 // 2,
        width_multipliers=(1, *(2**halving for halving in range(len(published.width_multipliers) - 1))),
        blocks_per_group=1, attention="none", codebook_dim=32, latent_dim=32, pixels="signed",
    )  # fmt: skip
    image = replace(
        config.image, model=model, losses=losses, relaxation=relaxation, pixel_noise=0.0, revive_below=0.1,
        batch_size=max(16, config.image.batch_size), optimizer=_LEAN,
    )  # fmt: skip
    return replace(config, image=image)


def vqgan(config: RunConfig) -> RunConfig:
    """Return a run with a VQ-GAN: short codes of length 1, attention, a perceptual and an adversarial term.

    The convolutions are the lean ones with attention among them; those of the source, `architecture: attentive`, take
    more time than a short run has.

    Source: Esser et al. 2021; the codes as in Yu et al. 2022.
    """
    losses = ImageLossConfig(
        likelihood=0.0, l1=2.0, commitment=0.25, perceptual=0.1, adversarial=0.5, lecam=0.05,
        discriminator_dim=config.image.model.hidden_dim, discriminator_layers=2,
    )  # fmt: skip
    short = _nearest_codes(config, losses, "rotation")
    model = replace(short.image.model, codes="cosine", codebook_dim=8, attention="middle")
    return replace(short, image=replace(short.image, model=model))


def _short_run(
    recipe: str,
    *,
    image_side: int,
    vae: DiscreteVAEConfig,
    text: TextStage,
    layers: int,
    heads: int,
    clip_layers: int,
    clip_heads: int,
    patch_size: int,
    image_batch: int,
) -> RunConfig:
    """Return a run for minutes or hours on one machine; the three models have their sizes from the arguments.

    The discrete VAE's schedules are those that learnt most in few steps: see docs/log.md. β is the paper's measure of
    the KL against sub-pixels, so it goes with the area that a token stands for.
    """
    image = ImageStage(
        model=vae,
        batch_size=image_batch,
        optimizer=_SHORT_VAE,
        losses=ImageLossConfig(kl=10 * (vae.down_factor / 8) ** 2),
        final_relaxation_temperature=0.1,
        relaxation_steps=0.8,
        pixel_noise=0.05,
    )
    tower = TowerConfig(num_layers=clip_layers, num_heads=clip_heads, head_dim=32)
    transformer = TransformerConfig(
        text_len=text.text_len,
        text_vocab_size=text.vocab_size,
        grid_size=vae.grid_size,
        image_vocab_size=vae.image_vocab_size,
        num_layers=layers,
        num_heads=heads,
        head_dim=32,
    )
    clip = CLIPConfig(
        image_size=(image_side, image_side),
        patch_size=patch_size,
        text_len=text.text_len,
        text_vocab_size=text.vocab_size,
        embed_dim=tower.dim,
        text=tower,
        image=tower,
    )
    config = RunConfig(
        recipe=recipe,
        text=text,
        image=image,
        transformer=TransformerStage(model=transformer, batch_size=64, optimizer=_SHORT_TRANSFORMER),
        ranker=RankerStage(model=clip, batch_size=128, optimizer=_SHORT_CLIP),
    )
    return modern(config)


def tiny() -> RunConfig:
    """Pictures of 16 pixels in a grid of 4: seconds, for tests."""
    return _short_run(
        "tiny",
        image_side=16,
        vae=DiscreteVAEConfig(
            image_size=(16, 16), image_vocab_size=32, hidden_dim=16, width_multipliers=(1, 2, 2), blocks_per_group=1,
            latent_dim=16,
        ),
        text=TextStage(vocab_size=300, text_len=16),
        layers=3, heads=2, clip_layers=1, clip_heads=2, patch_size=4, image_batch=32,
    )  # fmt: skip


def pocket() -> RunConfig:
    """Pictures of 64 pixels in a grid of 8: minutes on a laptop's processor."""
    return _short_run(
        "pocket",
        image_side=64,
        vae=DiscreteVAEConfig(
            image_size=(64, 64), image_vocab_size=512, hidden_dim=32, width_multipliers=(1, 2, 4, 4),
            blocks_per_group=1, latent_dim=128,
        ),
        text=TextStage(vocab_size=4096, text_len=256),
        layers=6, heads=6, clip_layers=3, clip_heads=4, patch_size=8, image_batch=8,
    )  # fmt: skip


def small() -> RunConfig:
    """Pictures of 64 pixels in a grid of 16: hours on a laptop's processor, minutes on a GPU."""
    return _short_run(
        "small",
        image_side=64,
        vae=DiscreteVAEConfig(
            image_size=(64, 64), image_vocab_size=1024, hidden_dim=32, width_multipliers=(1, 2, 4),
            blocks_per_group=1, latent_dim=128,
        ),
        text=TextStage(vocab_size=8192, text_len=256),
        layers=8, heads=8, clip_layers=4, clip_heads=6, patch_size=8, image_batch=8,
    )  # fmt: skip


def medium() -> RunConfig:
    """Pictures of 128 pixels in a grid of 16: days on a processor, an hour on a GPU."""
    return _short_run(
        "medium",
        image_side=128,
        vae=DiscreteVAEConfig(
            image_size=(128, 128), image_vocab_size=4096, hidden_dim=64, width_multipliers=(1, 2, 4, 4),
            latent_dim=128,
        ),
        text=TextStage(vocab_size=16384, text_len=256),
        layers=12, heads=16, clip_layers=6, clip_heads=8, patch_size=16, image_batch=32,
    )  # fmt: skip


def large() -> RunConfig:
    """Pictures of 256 pixels in a grid of 32 with DALL·E's vocabularies: hours on a large GPU."""
    return _short_run(
        "large",
        image_side=256,
        vae=DiscreteVAEConfig(
            image_size=(256, 256), image_vocab_size=8192, hidden_dim=128, width_multipliers=(1, 2, 4, 8),
            latent_dim=128,
        ),
        text=TextStage(vocab_size=16384, text_len=256),
        layers=16, heads=32, clip_layers=8, clip_heads=16, patch_size=32, image_batch=32,
    )  # fmt: skip


def dalle_v1() -> RunConfig:
    """DALL·E as published: 256 pixels, a grid of 32, 8192 codes, 12 billion parameters.

    Two things differ. The transformer's learning rate falls by a cosine to 1/32 where the paper halved it five times as
    the loss went flat; and its weights are averaged at every update where the paper did so at each 25th, with the same
    memory. CLIP has the sizes and the length of training of its own paper's smallest vision transformer.

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
            ema_decay=0.99 ** (1 / 25),
            optimizer=OptimizerConfig(warmup_steps=5_000),
        ),
        ranker=RankerStage(steps=400_000, batch_size=32_768),
    )


VARIANTS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "paper": paper,
    "strided": strided,
    "ibq": ibq,
    "vqvae": vqvae,
    "vqgan": vqgan,
}
"""What may be changed about a recipe, by the name that is put behind its own."""


def _varied(recipe: Callable[[], RunConfig], variant: str) -> RunConfig:
    config = VARIANTS[variant](recipe())
    return replace(config, recipe=f"{config.recipe}-{variant}")


LADDER = (pocket, small, medium, large)
"""What `train` chooses from by the time that it is given, smallest first."""

RECIPES: dict[str, Callable[[], RunConfig]] = {
    **{recipe.__name__: recipe for recipe in (tiny, *LADDER, dalle_v1)},
    **{
        f"{recipe.__name__}-{variant}": partial(_varied, recipe, variant)
        for recipe in (tiny, *LADDER)
        for variant in VARIANTS
    },
}
