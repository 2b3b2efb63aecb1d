"""Seeds as pure functions of what they are for, so that nothing random needs a state to be saved."""

import hashlib

Key = int | str


def derive_seed(*keys: Key) -> int:
    """Return a seed in 0..2^63-1 for these keys; the same on every machine and in every process.

    Example: `derive_seed(run_seed, "augment", epoch, sample_id)`.
    """
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    # File names that are not UTF-8 come from the system with surrogates in them.
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def derive_uniform(*keys: Key) -> float:
    """Return a number in [0, 1) for these keys."""
    return derive_seed(*keys) / 2.0**63
