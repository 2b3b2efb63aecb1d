"""A run's config as plain data: to and from `config.yaml`, with overrides laid over it."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trencadis.config import ImageStage, RunConfig, StageConfig
from trencadis.config.losses import PIXEL_TERMS
from trencadis.errors import ConfigError, ModelError
from trencadis.pretrained import config_from_dict
from trencadis.storage import write_whole

Settings = dict[str, Any]


def to_settings(config: RunConfig) -> Settings:
    """Return a config as nested dictionaries, lists and scalars, as YAML holds them."""
    plain: Settings = _plain(dataclasses.asdict(config))
    return plain


def from_settings(settings: Settings) -> RunConfig:
    """Return the config that settings stand for; what is absent has its default.

    Raises:
        ConfigError: A name is unknown, a value has the wrong kind, or a number is out of its range.
    """
    config = parse_settings(settings)
    check_ranges(config)
    return config


def parse_settings(settings: Settings) -> RunConfig:
    """Return the same without a look at ranges, which may depend on settings that are not chosen yet.

    Raises:
        ConfigError: A name is unknown, or a value has the wrong kind.
    """
    for field in dataclasses.fields(RunConfig):
        part = settings.get(field.name, {})
        if dataclasses.is_dataclass(field.type) and not isinstance(part, dict):
            remedy = f"put the settings of {field.name} under it"
            raise ConfigError(f"{field.name} {part}", expected="a mapping of settings", remedy=remedy)
    try:
        config: RunConfig = config_from_dict(RunConfig, settings)
    except ModelError as error:
        raise ConfigError(error.given, expected="the settings of a run", remedy="mend that setting") from error
    return config


def check_ranges(config: RunConfig) -> None:
    """Refuse numbers that no run can be made with; models check their own sizes.

    Raises:
        ConfigError: A number is out of its range.
    """
    checks: list[tuple[str, float | None, float, float]] = [
        ("hours", config.hours, 0, math.inf),
        ("threads", config.threads, 1, 4096),
        ("save_every_s", config.save_every_s, 0, math.inf),
        ("data.min_crop", config.data.min_crop, 0.01, 1),
        ("data.held_out", config.data.held_out, 1e-6, 0.99),
        ("text.text_len", config.text.text_len, 2, 256),
        ("text.vocab_size", config.text.vocab_size, 256, 16384),
        ("text.dropout", config.text.dropout, 0, 1),
        ("image.codebook_decay", config.image.codebook_decay, 0, 0.99999),
        ("image.revive_below", config.image.revive_below, 0, 1),
        ("image.pixel_noise", config.image.pixel_noise, 0, 0.124),
        ("image.final_relaxation_temperature", config.image.final_relaxation_temperature, 1e-3, 100),
        ("transformer.caption_dropout", config.transformer.caption_dropout, 0, 1),
        ("transformer.token_variants", config.transformer.token_variants, 1, 1000),
        ("transformer.text_weight", config.transformer.text_weight, 0, 1),
        ("transformer.checkpointed_blocks", config.transformer.checkpointed_blocks, 0, math.inf),
    ]
    for name in ("image", "transformer", "ranker"):
        stage: StageConfig = getattr(config, name)
        checks += [
            (f"{name}.steps", stage.steps, 1, math.inf),
            (f"{name}.batch_size", stage.batch_size, 1, math.inf),
            (f"{name}.microbatches", stage.microbatches, 1, stage.batch_size),
            (f"{name}.ema_decay", stage.ema_decay, 0, 1),
            (f"{name}.optimizer.learning_rate", stage.optimizer.learning_rate, 0, math.inf),
            (f"{name}.optimizer.decay_end", stage.optimizer.decay_end, 1e-6, 1),
            (f"{name}.optimizer.muon_learning_rate", stage.optimizer.muon_learning_rate, 0, math.inf),
            (f"{name}.optimizer.muon_momentum", stage.optimizer.muon_momentum, 0, 0.9999),
            (f"{name}.optimizer.muon_weight_decay", stage.optimizer.muon_weight_decay, 0, math.inf),
        ]
    for name, value, low, high in checks:
        if value is not None and not low <= value <= high:
            expected = f"{low:g} or more" if high == math.inf else f"a number in [{low:g}, {high:g}]"
            raise ConfigError(f"{name} {value}", expected=expected, remedy=f"change {name}")
    if config.image.pretrained is None:
        _check_relaxation(config.image)
    _check_losses(config.image)


_RELAXATIONS = {
    "categorical": ("gumbel", "straight_through", "ibq"),
    "euclidean": ("gumbel", "straight_through", "ibq", "rotation"),
    "cosine": ("rotation",),
}
"""What each kind of codes can be learnt by. Logits have no vectors to average, and cosines are too alike for logits."""


def _check_relaxation(config: ImageStage) -> None:
    """Refuse a relaxation that the codes cannot be learnt by."""
    codes, known = config.model.codes, _RELAXATIONS[config.model.codes]
    if config.relaxation not in known:
        given = f"image.relaxation {config.relaxation} for {codes} codes"
        raise ConfigError(given, expected=" or ".join(known), remedy="change it or image.model.codes")


def _check_losses(config: ImageStage) -> None:
    """Refuse a loss that does not see the pixels, or that asks for what these pictures and this decoder do not give."""
    losses = config.losses
    side, needed = min(config.model.image_size), 3 * 2**losses.discriminator_layers
    if losses.adversarial and side < needed:
        given = f"image.losses.discriminator_layers {losses.discriminator_layers} for pictures of {side} pixels"
        expected = f"{needed} pixels or more along each side"
        raise ConfigError(given, expected=expected, remedy="lower image.losses.discriminator_layers")
    if config.model.pixels == "signed" and losses.likelihood and config.pretrained is None:
        remedy = "set image.losses.likelihood to 0 and image.losses.l1, l2 or rmse above it"
        given = f"image.losses.likelihood {losses.likelihood} for image.model.pixels signed"
        raise ConfigError(given, expected="0: signed pixels have no likelihood", remedy=remedy)
    if losses.perceptual_network is not None and not losses.perceptual:
        given = f"image.losses.perceptual_network {losses.perceptual_network} with image.losses.perceptual 0"
        remedy = "raise image.losses.perceptual, or drop the network"
        raise ConfigError(given, expected="a weight above 0", remedy=remedy)
    if not any(getattr(losses, name) for name in PIXEL_TERMS):
        expected = f"one of image.losses.{', '.join(PIXEL_TERMS[:-1])} and {PIXEL_TERMS[-1]} above 0"
        raise ConfigError("a loss that no pixel is in", expected=expected, remedy="raise one of them")


def lay_over(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> Settings:
    """Return settings in which every leaf of `overrides` has replaced its counterpart; neither argument changes."""
    merged = dict(settings)
    for name, value in overrides.items():
        under = merged.get(name)
        merged[name] = lay_over(under, value) if isinstance(value, dict) and isinstance(under, dict) else _plain(value)
    return merged


def contradictions(settings: Mapping[str, Any], overrides: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of the leaves of `overrides` that differ from `settings`."""
    names: list[str] = []
    for name, value in overrides.items():
        there = settings.get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            names += contradictions(there, value, f"{prefix}{name}.")
        elif _plain(value) != there:
            names.append(prefix + name)
    return names


def read_settings(path: Path) -> Settings:
    """Return what a YAML file holds.

    Raises:
        ConfigError: It cannot be read, or is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: {reason}", expected="a YAML file of settings", remedy="mend the file") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        given = f"{path} holds a {type(content).__name__}"
        raise ConfigError(given, expected="a mapping of settings", remedy="start from a run's config.yaml")
    return content


def write_settings(path: Path, settings: Settings) -> None:
    """Write a YAML file, whole or not at all."""
    write_whole(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
