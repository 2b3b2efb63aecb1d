"""Ranges of settings, checked where they are declared: each config's `__post_init__` calls these."""

import math
from typing import Any

from trencadis.errors import ConfigError

Number = float | int
AT = "{at}"
"""Stands before every setting that a message names, for the path to it: `{at}beta2` becomes `image.optimizer.beta2`."""


class SettingError(ConfigError):
    """A setting is out of its range, or contradicts another one. The arguments name settings by `AT` and their name.

    Args:
        given: The setting and its value.
        expected: What would have been right.
        remedy: What to do about it.
        at: Path to the config that the setting is in, with a dot at its end.
    """

    def __init__(self, given: str, *, expected: str, remedy: str, at: str = "") -> None:
        self.texts = given, expected, remedy
        given, expected, remedy = (text.replace(AT, at) for text in self.texts)
        super().__init__(given, expected=expected, remedy=remedy)

    def under(self, at: str) -> "SettingError":
        """Return the same fault of a config that is nested in others."""
        given, expected, remedy = self.texts
        return SettingError(given, expected=expected, remedy=remedy, at=at)


def check_range(name: str, value: Number | None, low: Number, high: Number = math.inf) -> None:
    """Refuse a number outside [low, high], infinity and NaN; None is left alone.

    Raises:
        SettingError: It is outside.
    """
    if value is not None and not (low <= value <= high and math.isfinite(value)):
        expected = f"{low:g} or more" if high == math.inf else f"a number in [{low:g}, {high:g}]"
        raise SettingError(f"{AT}{name} {value}", expected=expected, remedy=f"change {AT}{name}")


def check_ranges(config: Any, **limits: tuple[Number, Number]) -> None:
    """Refuse a config with a number outside its limits, low and high; of a tuple every number is looked at.

    Raises:
        SettingError: One is outside.
    """
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            check_range(name, number, low, high)


def check_least(config: Any, low: Number, *names: str) -> None:
    """Refuse a config in which one of these fields is below `low`."""
    check_ranges(config, **dict.fromkeys(names, (low, math.inf)))
