"""Small ICC profiles, and what colours in them are in sRGB by the definitions alone."""

import itertools
import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
XY = tuple[float, float]

SRGB_PRIMARIES: tuple[XY, ...] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3_PRIMARIES: tuple[XY, ...] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_PRIMARIES: tuple[XY, ...] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
_D65: XY = (0.3127, 0.3290)
_D50 = np.array([0.9642, 1.0, 0.8249])


def srgb_linear(coded: ArrayLike) -> Floats:
    """Return light in [0, 1] of sRGB's coded values in [0, 1]."""
    values: Floats = np.asarray(coded, float)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_coded(light: ArrayLike) -> Floats:
    values: Floats = np.clip(np.asarray(light, float), 0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def gamma(exponent: float) -> Callable[[ArrayLike], Floats]:
    return lambda coded: np.power(np.asarray(coded, float), exponent)


def in_srgb(colour: Sequence[int], primaries: Sequence[XY], linear: Callable[[ArrayLike], Floats]) -> list[int]:
    """Return an 8-bit colour of an RGB space with the white of daylight as 8-bit sRGB, cut to its gamut."""
    light = linear(np.array(colour) / 255)
    seen = np.linalg.inv(_to_xyz(SRGB_PRIMARIES)) @ _to_xyz(primaries) @ light
    return [round(float(value) * 255) for value in srgb_coded(seen)]


def lab_in_srgb(lightness: float, a: float, b: float) -> tuple[int, ...]:
    """Return CIE Lab, whose white is that of profiles, as 8-bit sRGB, cut to its gamut."""
    y = (lightness + 16) / 116
    cubes = np.array([y + a / 500, y, y - b / 200])
    xyz = _D50 * np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29))
    light = np.linalg.inv(_adaptation() @ _to_xyz(SRGB_PRIMARIES)) @ xyz
    return tuple(round(float(value) * 255) for value in srgb_coded(light))


def rgb_profile(primaries: Sequence[XY], linear: Callable[[ArrayLike], Floats], padding: int = 0) -> bytes:
    """Return a matrix profile; `padding` makes it larger by that many bytes that mean nothing."""
    columns = (_adaptation() @ _to_xyz(primaries)).T
    tags = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(linear))
    if padding:
        tags[b"pad "] = b"data" + bytes(8 + padding)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(linear: Callable[[ArrayLike], Floats]) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(linear)})


def cmyk_profile(lab: Callable[[int, int, int, int], tuple[float, float, float]]) -> bytes:
    """Return a printer's profile with the colour of each mix of full inks, which are 0 or 1, as CIE Lab."""
    grid = (lab(*inks) for inks in itertools.product((0, 1), repeat=4))
    cells = b"".join(bytes((round(L * 2.55), round(a) + 128, round(b) + 128)) for L, a, b in grid)
    straight = bytes(range(256))
    table = (
        b"mft1"
        + bytes(4)
        + bytes((4, 3, 2, 0))
        + struct.pack(">9i", *(65_536 * x for x in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    )
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table + straight * 4 + cells + straight * 3})


def _to_xyz(primaries: Sequence[XY]) -> Floats:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    return columns * np.linalg.solve(columns, _white())


def _white() -> Floats:
    x, y = _D65
    return np.array([x / y, 1, (1 - x - y) / y])


def _adaptation() -> Floats:
    """Return Bradford's adaptation of daylight to the white of profiles."""
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adaptation: Floats = np.linalg.inv(cone) @ np.diag((cone @ _D50) / (cone @ _white())) @ cone
    return adaptation


def _xyz(values: Floats) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65_536) for value in values))


def _curve(linear: Callable[[ArrayLike], Floats]) -> bytes:
    values = (linear(np.linspace(0, 1, 1024)) * 65_535).round().astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + values.tobytes()


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"a test's profile\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": described, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(_D50), **tags}
    directory, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        directory += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(float(value) * 65_536) for value in _D50))
    return header + bytes(128 - len(header)) + directory + body
