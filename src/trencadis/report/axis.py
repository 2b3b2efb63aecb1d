"""Good places for the marks of an axis, and how their values are written."""

import math
from collections.abc import Sequence

Number = float | int

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # from, unit, sign


def linear_ticks(low: Number, high: Number, count: int = 5, finest: Number = 0) -> tuple[float, ...]:
    """Return multiples of 1, 2, 2.5 or 5 times a power of ten in `low`..`high`, `finest` apart or more.

    There is at most one more than `count`.
    """
    rough = max((high - low) / count, finest)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if finest and step % finest:
        step = 5 * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Through a decimal text, so that 3 × 0.1 is 0.3.
    return tuple(float(f"{number * step:.12g}") for number in range(first, last + 1))


def logarithmic_ticks(low: Number, high: Number) -> tuple[float, ...]:
    """Return powers of ten in `low`..`high`, both above 0; where these are few, 2 and 5 times them too.

    A range too narrow for these has the ticks of a linear axis.
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        ticks = [float(f"{factor}e{exponent}") for exponent in exponents for factor in factors]
        within = tuple(tick for tick in ticks if low <= tick <= high)
        if len(within) > 7:
            return within[:: math.ceil(len(within) / 7)]
        if len(within) >= 3:
            return within
    return linear_ticks(low, high, 4)


def number_text(value: Number, ticks: Sequence[Number] = ()) -> str:
    """Return a number as an axis or a table shows it, with as many decimals as tell `ticks` apart."""
    largest = max(map(abs, (value, *ticks)))
    if largest == 0:
        return "0"
    for least, unit, prefix in _PREFIXES:
        if largest >= least:
            return f"{value / unit:.4g}{prefix}".replace("-", "−") if value else "0"
    if largest < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa.removesuffix('.0')}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}" if value else "0"
    elif ticks:
        decimals = max(len(f"{tick:.12f}".rstrip("0").partition(".")[2]) for tick in ticks)
        text = f"{value:.{decimals}f}"
    else:
        text = f"{value:.4g}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")
