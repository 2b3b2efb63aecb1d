"""Tensors as a checkpoint describes them: checked while they are only numbers, read when they are wanted."""

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
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


class Bytes:
    """A file's content, mapped into memory: what is not looked at is not read.

    Args:
        path: The file; it is there and is not empty.
    """

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
    """Numbers of one type in a row, which tensors are views of.

    Args:
        content: The file that they are in.
        key: Its name in the file.
        dtype: Type of the numbers.
        count: How many the file says that there are.
        start: Where they begin in the file; below 0 until they have been found, `count` of them.
        checksum: CRC-32 of their bytes, where the container has one.
    """

    content: Bytes
    key: str
    dtype: torch.dtype
    count: int
    start: int = -1
    checksum: int | None = None

    @property
    def size_bytes(self) -> int:
        """Size in the file."""
        return self.count * self.dtype.itemsize

    def verify(self) -> None:
        """Compare the bytes with their checksum, once.

        Raises:
            ModelError: They differ.
        """
        if self.checksum is not None:
            with memoryview(self.content.mapped) as view, view[self.start : self.start + self.size_bytes] as part:
                found = zlib.crc32(part)
            if found != self.checksum:
                raise refusal(self.content.path, f"is damaged: storage {shown(self.key)} differs from its checksum")
            self.checksum = None


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage, not read yet.

    Args:
        storage: What it is a view of.
        offset: Its first element's place in the storage.
        shape: Its sizes.
        stride: Elements from one index to the next, of each dimension.

    Raises:
        ModelError: It would reach outside its storage, or hold an element twice.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.stride)
        if len(self.shape) != len(self.stride) or len(self.shape) > MAX_DIMENSIONS or min(numbers) < 0:
            raise self._misfit("that cannot be")
        if not self.count:
            return
        last = 0
        for stride, size in sorted((stride, size) for stride, size in zip(self.stride, self.shape, strict=True)):
            if size > 1 and stride <= last:
                raise self._misfit("that overlaps itself")
            last += (size - 1) * stride
        if self.offset + last >= self.storage.count:
            raise self._misfit(f"that goes beyond its storage of {self.storage.count} numbers")

    def _misfit(self, fault: str) -> Exception:
        given = f"holds a tensor of shape {_brief(self.shape)}, strides {_brief(self.stride)} {fault}"
        return refusal(self.storage.content.path, given)

    @property
    def count(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    def read(self) -> Float[Tensor, "..."]:
        """Return the tensor in float32, contiguous, in memory of its own.

        Raises:
            ModelError: It holds no floats, or is damaged.
        """
        storage = self.storage
        path = storage.content.path
        if not storage.dtype.is_floating_point:
            raise refusal(path, f"has {storage.dtype} where weights should be", expected="weights of floats")
        assert storage.start >= 0
        if not self.count:
            return torch.empty(self.shape)
        storage.verify()
        size = storage.dtype.itemsize
        span = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.stride, strict=True))
        raw = torch.frombuffer(
            storage.content.mapped, dtype=torch.uint8, count=span * size, offset=storage.start + self.offset * size
        )
        # Copied as bytes first: numbers need not be aligned in the file, and the file may change later.
        return raw.clone().view(storage.dtype).as_strided(self.shape, self.stride).float().contiguous()


def read_tensors(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Return tensors of one file by their names, each in float32.

    Raises:
        ModelError: They would take more memory than the file has bytes, hold no floats, or are damaged.
    """
    for tensor in tensors.values():
        content = tensor.storage.content
        total = sum(other.count * other.storage.dtype.itemsize for other in tensors.values())
        if total > len(content):
            raise refusal(content.path, f"says that it holds {total} bytes of weights and has {len(content)} in all")
        break
    return {name: tensor.read() for name, tensor in track(tensors.items(), "reading the weights", len(tensors))}


def _brief(numbers: tuple[int, ...]) -> str:
    return shown(str(list(numbers[: MAX_DIMENSIONS + 1])))


def are_counts(values: Any) -> bool:
    """Whether it is a tuple or a list of whole numbers, and nothing else."""
    return isinstance(values, tuple | list) and all(type(value) is int for value in values)
