"""No config can be made with an impossible number, whichever field it is in and whoever makes it."""

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from trencadis.config import (
    AttentiveConfig,
    CLIPConfig,
    ImageStage,
    LeanConfig,
    OptimizerConfig,
    PublishedConfig,
    RunConfig,
    TransformerConfig,
)
from trencadis.config.plain import nest, overlay, setting_names
from trencadis.errors import ConfigError
from trencadis.recipes import RECIPES


def configs(config_type: type[Any]) -> Iterator[type[Any]]:
    """Yield a config's type and those of all configs in it, of every kind."""
    yield config_type
    for hint in get_type_hints(config_type).values():
        for kind in (hint, *get_args(hint)):
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                yield from configs(kind)


def kinds(hint: Any) -> set[Any]:
    """Return the types of a field's values, those inside of tuples too."""
    inner = () if typing.get_origin(hint) is typing.Literal else get_args(hint)
    return set().union(*map(kinds, inner)) if inner else {hint}


def numbers() -> Iterator[tuple[type[Any], str]]:
    """Yield every field that holds a number, with its config."""
    for config_type in dict.fromkeys(
        found for root in (RunConfig, TransformerConfig, CLIPConfig) for found in configs(root)
    ):
        hints = get_type_hints(config_type)
        for field in dataclasses.fields(config_type):
            if kinds(hints[field.name]) & {int, float}:
                yield config_type, field.name


NUMBERS = list(numbers())


def with_number(config_type: type[Any], name: str, number: float) -> Any:
    """Return a config with a number in one of its fields, or in the first place of its tuple."""
    hint, value = get_type_hints(config_type)[name], getattr(config_type(), name)
    is_tuple = isinstance(value, tuple) or any(typing.get_origin(part) is tuple for part in get_args(hint))
    return config_type(**{name: (number, *(value or (1, 1))[1:]) if is_tuple else number})


def test_the_walk_finds_the_configs() -> None:
    assert len(NUMBERS) > 90
    assert {(OptimizerConfig, "beta2"), (ImageStage, "batch_size"), (TransformerConfig, "grid_size")} <= set(NUMBERS)


@pytest.mark.parametrize(("config_type", "name"), NUMBERS, ids=[f"{kind.__name__}.{name}" for kind, name in NUMBERS])
def test_every_number_has_a_range(config_type: type[Any], name: str) -> None:
    is_real = float in kinds(get_type_hints(config_type)[name])
    for number in (-1.0, math.nan, math.inf) if is_real else (-1,):
        with pytest.raises(ConfigError, match=name):
            with_number(config_type, name, number)


SETTINGS = [name for name in setting_names(RunConfig) if not name.startswith("image.model.")]

TEXTS = {
    *("recipe", "data.path", "data.caption_column", "data.file_column", "data.filters.language"),
    *("start.model", "image.pretrained", "image.losses.perceptual_network", "decoder.losses.perceptual_network"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_fault_names_the_whole_path(name: str) -> None:
    """A text is no number, and -1 is out of every range; what takes any text is left out."""
    config = RECIPES["tiny"]()
    if name in TEXTS:
        return
    if name.startswith("decoder.architecture.") and not name.endswith("kind"):  # of the first kind that has it
        kinds = (PublishedConfig(), AttentiveConfig(), LeanConfig())
        setting = name.rpartition(".")[2]
        architecture = next(kind for kind in kinds if setting in {field.name for field in dataclasses.fields(kind)})
        decoder = dataclasses.replace(config.decoder, architecture=architecture)
        config = dataclasses.replace(config, decoder=decoder)
    for value in ("many", "-1"):
        with pytest.raises(ConfigError, match=rf"^{name}\b.*; expected .*; change {name}"):
            overlay(config, nest([(name, value)]))


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("transformer.optimizer.beta2", 1.5, r"transformer\.optimizer\.beta2 1\.5; expected a number in \[0, 0\.9"),
        ("image.optimizer.weight_decay", -1, r"image\.optimizer\.weight_decay -1\.0; expected 0 or more"),
        (
            "image.relaxation",
            "rotation",
            r"image\.relaxation rotation and image\.model\.codes\.kind categorical; e",
        ),
        ("image.model.codes.kind", "cosine", r"image\.relaxation gumbel and .* cosine; expected relaxation rotation"),
        ("image.model.pixels", "signed", r"image\.losses\.likelihood 1\.0 and image\.model\.pixels signed"),
        ("image.model.image_size", [30, 32], r"image\.model\.image_size \[30, 32\]; .*multiples of 4"),
        ("image.model.architecture.hidden_dim", 18, r"image\.model\.architecture\.hidden_dim 18 .*multiples of 4"),
        (
            "transformer.microbatches",
            65,
            r"transformer\.microbatches 65 and transformer\.batch_size 64; expe",
        ),
        ("ranker.microbatches", 2, r"ranker\.microbatches 2; expected 1"),
        ("ranker.image_size", [6, 8], r"ranker\.image_size \[6, 8\] and .*patch_size 4; expected sides in multiples"),
        (
            "transformer.model.head_dim",
            6,
            r"transformer\.model\.head_dim 6 and .* rotary; expected .* multiples of 4",
        ),
        ("transformer.model.kernel_size", 4, r"transformer\.model\.kernel_size 4; expected an odd number"),
        ("image.losses.likelihood", 0, r"image\.losses\.likelihood 0\.0 and .*; expected a pixel term above 0"),
    ],
)
def test_settings_that_contradict_each_other(name: str, value: object, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        overlay(RECIPES["tiny"](), nest([(name, value)]))
