"""Measurements of speed and memory, compared with the machine's limits and with other projects' code.

Run from a checkout, each with `--help`:

    python -m benchmarks.decode          drawing image tokens
    python -m benchmarks.train_step      one update of the transformer
    python -m benchmarks.scaling         growth with the size of the picture, full against sparse attention

Every contender has its own process (`benchmarks.worker`) and the same number of threads. They take turns, so other load
on the machine affects all of them equally.
"""
