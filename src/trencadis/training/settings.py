"""A run's config as plain data: to and from `config.yaml`, with overrides laid over it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trencadis.config import RunConfig
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
        ConfigError: A name is unknown, or a value has the wrong kind.
    """
    try:
        config: RunConfig = config_from_dict(RunConfig, settings)
    except ModelError as error:
        raise ConfigError(error.given, expected="the settings of a run", remedy="mend that setting") from error
    return config


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
