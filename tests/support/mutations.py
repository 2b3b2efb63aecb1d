"""Files with damage, as seeds make it: flipped bits, changed numbers, cuts, repeats, insertions and splices."""

import random

_BOUNDARIES = (0, 1, 0x7F, 0x80, 0xFF)


def mutated(raw: bytes, other: bytes, seed: int) -> bytes:
    """Return a file with up to four kinds of damage.

    Args:
        other: Another file, which pieces are taken from.
    """
    chance, changed = random.Random(seed), bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        chance.choice((_flip, _overwrite, _number, _cut, _drop, _repeat, _insert, _splice))(changed, other, chance)
    return bytes(changed)


def _place(raw: bytearray, chance: random.Random) -> int:
    """Return a place, half of the time near the beginning, where headers are."""
    return chance.randrange(min(len(raw), 256) if chance.random() < 0.5 else len(raw)) if raw else 0


def _flip(raw: bytearray, other: bytes, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        if raw:
            raw[_place(raw, chance)] ^= 1 << chance.randrange(8)


def _overwrite(raw: bytearray, other: bytes, chance: random.Random) -> None:
    at = _place(raw, chance)
    size = min(chance.randint(1, 16), len(raw) - at)
    raw[at : at + size] = bytes(chance.choice(_BOUNDARIES) for _ in range(size))


def _number(raw: bytearray, other: bytes, chance: random.Random) -> None:
    at, size = _place(raw, chance), chance.choice((2, 4, 8))
    value = chance.choice((0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1, 65_535))
    number = (value % 2 ** (8 * size)).to_bytes(size, chance.choice(("little", "big")))
    raw[at : at + size] = number[: len(raw) - at]


def _cut(raw: bytearray, other: bytes, chance: random.Random) -> None:
    del raw[_place(raw, chance) :]


def _drop(raw: bytearray, other: bytes, chance: random.Random) -> None:
    at = _place(raw, chance)
    del raw[at : at + chance.choice((1, 2, 16, 512))]


def _repeat(raw: bytearray, other: bytes, chance: random.Random) -> None:
    at = _place(raw, chance)
    raw[at:at] = raw[at : at + chance.choice((1, 16, 512))] * chance.choice((1, 2, 100))


def _insert(raw: bytearray, other: bytes, chance: random.Random) -> None:
    at = _place(raw, chance)
    raw[at:at] = chance.randbytes(chance.choice((1, 2, 16, 512)))


def _splice(raw: bytearray, other: bytes, chance: random.Random) -> None:
    at, start = _place(raw, chance), chance.randrange(len(other))
    size = chance.choice((4, 64, 1024, len(other)))
    raw[at : at + size] = other[start : start + size]
