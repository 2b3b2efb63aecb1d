"""Configs as plain data, as YAML and JSON hold them, and settings laid over a config by name.

Every fault names the whole dotted path of its setting. A config of several kinds, such as an image tokenizer's
architecture, says which by its `kind`.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from trencadis.config.base import SettingError
from trencadis.errors import ConfigError

ConfigT = TypeVar("ConfigT")
Settings = dict[str, Any]
_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_ACCEPTED: dict[Any, tuple[type, ...]] = {int: (int, str), float: (int, float, str), str: (str,)}
_NULL = (None, "null", "none")
_BOOLS = {"true": True, "false": False}


def to_plain(value: Any) -> Any:
    """Return a config as nested dictionaries, lists and scalars."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_plain(inner) for name, inner in value.items()}
    return [to_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def from_plain(config_type: type[ConfigT], settings: object) -> ConfigT:
    """Return the config that settings describe; what is absent has its default. Raises what `overlay` does."""
    return overlay(config_type(), settings)


def overlay(config: ConfigT, settings: object, at: str = "") -> ConfigT:
    """Return a config with the given settings in place of its own; nested ones keep what is not given.

    Where another `kind` is given, the fields that both kinds have are kept and the others have their defaults.

    Args:
        settings: Nested mappings. Numbers may be texts, as the command line and YAML's `1e-4` have them.
        at: Path to the config for messages, with a dot at its end.

    Raises:
        ConfigError: A name is unknown, a value has the wrong type, or a number is out of its range.
    """
    if not isinstance(settings, Mapping):
        given = f"{at.rstrip('.')} {settings}".strip()
        raise ConfigError(given, expected="a mapping of settings", remedy="write them as `name: value`")
    hints = get_type_hints(type(config))
    changes = {}
    for name, value in settings.items():
        if name not in hints:
            known = difflib.get_close_matches(str(name), hints, n=1, cutoff=0.5) or sorted(hints)
            raise ConfigError(f"unknown setting {at}{name}", expected=" or ".join(known), remedy="correct the name")
        current = getattr(config, name)
        if _kinds(hints[name]) or dataclasses.is_dataclass(current):
            changes[name] = _nested(hints[name], current, value, f"{at}{name}.")
        else:
            changes[name] = _read(hints[name], value, f"{at}{name}")
    try:
        return dataclasses.replace(config, **changes)  # type: ignore[type-var]
    except SettingError as error:
        raise error.under(at) from error


def differing(one: Any, other: Any, at: str = "") -> list[str]:
    """Return the dotted names of the leaves in which two configs, or their plain forms, differ."""
    one, other = to_plain(one), to_plain(other)
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [at]
    return [
        path
        for name in {**one, **other}
        for path in differing(one.get(name), other.get(name), f"{at}.{name}".removeprefix("."))
    ]


def nest(values: Iterable[tuple[str, Any]]) -> Settings:
    """Return nested settings for dotted names and their values."""
    settings: Settings = {}
    for name, value in values:
        for part in reversed(name.split(".")):
            value = {part: value}
        settings = merge(settings, value)
    return settings


def merge(settings: Mapping[str, Any], others: Mapping[str, Any]) -> Settings:
    """Return nested settings in which every leaf of `others` has replaced its counterpart."""
    merged = dict(settings)
    for name, value in others.items():
        under = merged.get(name)
        is_nested = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[name] = merge(under, value) if is_nested else value  # type: ignore[arg-type]
    return merged


def setting_names(config_type: type[Any], at: str = "") -> Iterator[str]:
    """Yield the dotted name of every leaf of a config, of each kind that a nested config can have."""
    for name, hint in get_type_hints(config_type).items():
        kinds = [kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)]
        nested = (inner for kind in kinds for inner in setting_names(kind, f"{at}{name}."))  # type: ignore[arg-type]
        yield from dict.fromkeys(nested) if kinds else (f"{at}{name}",)


def _nested(hint: Any, current: Any, settings: object, at: str) -> Any:
    """Return the nested config with settings laid over it, which may ask for another kind, or for none."""
    kinds = _kinds(hint)
    if settings in _NULL and NoneType in get_args(hint):
        return None
    given = settings if isinstance(settings, Mapping) else {}
    if current is not None and not (kinds and "kind" in given):
        return overlay(current, settings, at)
    kind = str(given.get("kind", "null"))
    if kind not in kinds:
        raise ConfigError(f"{at}kind {kind}", expected=f"one of {', '.join(kinds)}", remedy=f"change {at}kind")
    if current is None:
        return overlay(kinds[kind](), given, at)
    if isinstance(current, kinds[kind]):
        return overlay(current, settings, at)
    default = kinds[kind]()
    kept = {name: value for name, value in to_plain(current).items() if name in to_plain(default)}
    return overlay(default, {**kept, **given}, at)


def _kinds(hint: Any) -> dict[str, Any]:
    """Return the configs that a setting can be, by their kind; none for other settings."""
    members = [member for member in get_args(hint) if dataclasses.is_dataclass(member)]
    return {kind: member for member in members for kind in get_args(get_type_hints(member)["kind"])}


def _read(hint: Any, value: object, path: str) -> Any:
    try:
        return _fit(hint, value)
    except (KeyError, TypeError, ValueError) as error:
        given = f"{path} {'null' if value is None else value}"
        raise ConfigError(given, expected=_described(hint), remedy=f"change {path}") from error


def _fit(hint: Any, value: object) -> Any:
    """Return a value as a type's; raises what conversions raise where it is none."""
    inner, origin = get_args(hint), get_origin(hint)
    if NoneType in inner:
        return None if value in _NULL else _fit(inner[0], value)
    if origin is Literal:
        return {str(choice): choice for choice in inner}[str(value)]
    if origin is tuple:
        parts = value.strip("[]() ").split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise TypeError(value)
        types = inner[:1] * len(parts) if Ellipsis in inner else inner
        return tuple(_fit(part_type, part) for part_type, part in zip(types, parts, strict=True))
    if hint is bool:
        return _BOOLS[str(value).lower()]
    if isinstance(value, bool) or not isinstance(value, _ACCEPTED[hint]):
        raise TypeError(value)
    return hint(value)


def _described(hint: Any) -> str:
    inner, origin = get_args(hint), get_origin(hint)
    if NoneType in inner:
        return f"{_described(inner[0])} or null"
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin is tuple:
        return f"a list of {'' if Ellipsis in inner else f'{len(inner)} '}values, each {_described(inner[0])}"
    return _WORDS[hint]
