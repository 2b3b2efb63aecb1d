"""The machine's limits, measured in the same run as the figures that are compared with them.

*linear read*: bytes per second of weights that `F.linear` reads with a batch of one. It reads all matrices of a
decoding step, one after the other, so that each has left the cache when its turn comes again.
*plain read*: the rate of a sum over the same bytes, which is nearer to the memory's own rate.
*matmul*: operations per second of a float32 product of two 2048×2048 matrices, by torch's own operator.
*fastest matmul*: the same by torch's own operator or oneDNN, whichever is faster. On a CPU, torch's own operator is
MKL's, which uses older instructions on CPUs that are not Intel's.
*bfloat16*: the same by torch's own operator in bfloat16, where the measured work computes its products in it.
Each is the best of all its samples, taken before, between and after the measured work.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.machine import last_level_cache_bytes
from benchmarks.work import FLOAT32_BYTES
from trencadis.training.mixed_precision import Precision

MATMUL_SIDE = 2048
PASSES = 3  # per sample
# Not a public operator; torch's compiler and trencadis' layers call it.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


class Ceilings:
    """Samples of the machine's rates.

    Args:
        shapes: (rows, columns) of the matrices to read.
        precision: Type of the products of the measured work.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], *, precision: Precision = "float32") -> None:
        sizes = [rows * columns for rows, columns in shapes]
        self._weights = torch.rand(sum(sizes))
        self._matrices = [
            part.view(shape) for part, shape in zip(torch.split(self._weights, sizes), shapes, strict=True)
        ]  # views of one tensor, so that the memory is allocated once
        self._inputs = [torch.rand(1, columns) for _, columns in shapes]
        self._square = torch.rand(MATMUL_SIDE, MATMUL_SIDE)
        self._narrow = self._square.bfloat16() if precision == "bfloat16" else None
        self.samples: dict[str, list[float]] = {}

    @torch.inference_mode()
    def sample(self) -> None:
        """Take a sample of each rate."""
        size_bytes = self._weights.numel() * FLOAT32_BYTES
        for _ in range(PASSES):
            self._time("linear_read_gb_s", size_bytes, self._read)
            self._time("plain_read_gb_s", size_bytes, self._weights.sum)
            operations = 2 * len(self._square) ** 3
            self._time("matmul_gflop_s", operations, lambda: self._square @ self._square)
            if (narrow := self._narrow) is not None:
                self._time("bfloat16_gflop_s", operations, partial(torch.mm, narrow, narrow))
            if ONEDNN:
                self._time("onednn_matmul_gflop_s", operations, self._multiply_by_onednn)

    def _read(self) -> None:
        for row, matrix in zip(self._inputs, self._matrices, strict=True):
            F.linear(row, matrix)

    def _multiply_by_onednn(self) -> None:
        torch.ops.mkldnn._linear_pointwise(self._square, self._square, None, "none", [], "")

    def _time(self, name: str, amount: float, work: Callable[[], object]) -> None:
        began_s = time.perf_counter()
        work()
        self.samples.setdefault(name, []).append(amount / (time.perf_counter() - began_s) / 1e9)

    def best(self, name: str) -> float:
        """Return the best sample of a rate so far, in 10⁹ per second."""
        return max(self.samples[name])

    def figures(self) -> dict[str, Any]:
        """Return the best of each, every sample, and whether the matrices fit into the cache."""
        size_bytes, cache_bytes = self._weights.numel() * FLOAT32_BYTES, last_level_cache_bytes()
        return {
            **{name: self.best(name) for name in self.samples},
            "fastest_matmul_gflop_s": max(self.best(name) for name in self.samples if name.endswith("matmul_gflop_s")),
            "samples": self.samples,
            "weights_bytes": size_bytes,
            "cache_bytes": cache_bytes,
            # If the weights are not much larger than the cache, part of them stays in it.
            "fits_cache": None if cache_bytes is None else size_bytes < 2 * cache_bytes,
        }
