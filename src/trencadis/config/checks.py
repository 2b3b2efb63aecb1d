"""Ranges of settings, checked where they are declared: each config's `__post_init__` calls these."""

import math

from trencadis.errors import ConfigError

Number = float | int


def check_range(name: str, value: Number | None, low: Number, high: Number = math.inf) -> None:
    """Refuse a number outside [low, high], or one that is not a number; None is left alone.

    Raises:
        ConfigError: It is outside; the message has `name`, and whoever builds nested configs puts the path before it.
    """
    if value is not None and not low <= value <= high:
        expected = f"{low:g} or more" if high == math.inf else f"a number in [{low:g}, {high:g}]"
        raise ConfigError(f"{name} {value}", expected=expected, remedy=f"change {name}")
