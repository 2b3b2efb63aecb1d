"""Tensors as a checkpoint describes them: checked while they are only numbers, read when they are needed."""

import mmap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.importers.refusal import refusal, shown
from trencadis.progress import track

MAX_DIMENSIONS = 8


class Bytes:
    """The content of a file that is not empty, mapped into memory: what is not used is not read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            # Private and writable, as torch asks of a buffer; nothing is written.
            self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def __len__(self) -> int:
        return len(self.mapped)

    def part(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start`; fewer where the file ends before."""
        return bytes(self.mapped[start : start + size])


@dataclass(eq=False)
class Storage:
    """A one-dimensional array of `count` numbers, which tensors are views of.

    Args:
        key: Its name in the file.
        start: Where it begins in the file; -1 until that is known.
        checksum: CRC-32 of the bytes, where the container has one.
    """

    content: Bytes
    key: str
    dtype: torch.dtype
    count: int
    start: int = -1
    checksum: int | None = None

    @property
    def size_bytes(self) -> int:
        return self.count * self.dtype.itemsize

    def verify(self) -> None:
        """Compare the bytes with their checksum, once."""
        if self.checksum is not None:
            with memoryview(self.content.mapped) as view, view[self.start : self.start + self.size_bytes] as part:
                found = zlib.crc32(part)
            if found != self.checksum:
                raise refusal(self.content.path, f"is damaged: storage {shown(self.key)} differs from its checksum")
            self.checksum = None


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage, not read yet. `offset` and `stride` count elements, as torch does.

    Raises:
        ModelError: It reaches outside its storage, or holds an element twice.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.stride)
        if len(self.shape) != len(self.stride) or len(self.shape) > MAX_DIMENSIONS or min(numbers) < 0:
            raise self._misfit("that are impossible")
        if not prod(self.shape):
            return
        last = 0
        for stride, size in sorted(zip(self.stride, self.shape, strict=True)):
            if size > 1 and stride <= last:
                raise self._misfit("that overlaps itself")
            last += (size - 1) * stride
        if self.offset + last >= self.storage.count:
            raise self._misfit(f"that goes beyond its storage of {self.storage.count:,} numbers")

    def _misfit(self, fault: str) -> Exception:
        shape, stride = (shown(str(list(numbers[: MAX_DIMENSIONS + 1]))) for numbers in (self.shape, self.stride))
        return refusal(self.storage.content.path, f"holds a tensor of shape {shape}, strides {stride} {fault}")

    @property
    def dtype(self) -> torch.dtype:
        return self.storage.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def read(self) -> Tensor:
        """Return the tensor, in memory of its own; raise a `ModelError` if it is damaged."""
        storage = self.storage
        assert storage.start >= 0
        if not prod(self.shape):
            return torch.empty(self.shape, dtype=self.dtype)
        storage.verify()
        size = self.dtype.itemsize
        span = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.stride, strict=True))
        raw = torch.frombuffer(
            storage.content.mapped, dtype=torch.uint8, count=span * size, offset=storage.start + self.offset * size
        )
        # Copied as bytes first: numbers need not be aligned in the file.
        return raw.clone().view(self.dtype).as_strided(self.shape, self.stride)


Tensors = Mapping[str, StoredTensor | Tensor]
"""Tensors of a checkpoint by name; those of safetensors are mapped from the file."""


def read_tensors(tensors: Tensors, path: Path) -> dict[str, Float[Tensor, "..."]]:
    """Return the tensors of a file in float32, contiguous, independent of the file.

    Raises:
        ModelError: They take more memory than the file has bytes, hold no floats, or are damaged.
    """
    total, size = sum(tensor.nbytes for tensor in tensors.values()), path.stat().st_size
    if total > size:
        raise refusal(path, f"describes {total:,} bytes of weights and has {size:,} in all")
    read = {}
    for name, tensor in track(tensors.items(), "reading the weights", len(tensors)):
        if not tensor.dtype.is_floating_point:
            raise refusal(path, f"has {tensor.dtype} weights", expected="floats")
        values = tensor.read() if isinstance(tensor, StoredTensor) else tensor
        read[name] = values.to(torch.float32, copy=True).contiguous()
    return read


def are_counts(values: Any) -> bool:
    return isinstance(values, tuple | list) and all(type(value) is int for value in values)
