"""Pictures that can be fetched for a while from an address that cannot be guessed."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Linked:
    content: bytes
    media_type: str
    until: float


class Links:
    """Holds pictures in memory. Used in one thread.

    Args:
        keep_s: Seconds that an address is good for.
        max_bytes: Of all pictures; the oldest go first.
        clock: Seconds.
    """

    def __init__(self, keep_s: float, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._max_bytes, self._clock = keep_s, max_bytes, clock
        self._held: dict[str, Linked] = {}
        self._size = 0

    def add(self, content: bytes, output_format: str) -> str:
        """Return the name of a picture in an address: 256 random bits and a suffix."""
        name = f"{secrets.token_urlsafe(32)}.{output_format}"
        self._held[name] = Linked(content, f"image/{output_format}", self._clock() + self._keep_s)
        self._size += len(content)
        self._drop_old()
        return name

    def get(self, name: str) -> Linked | None:
        self._drop_old()
        return self._held.get(name)

    def _drop_old(self) -> None:
        now = self._clock()
        while self._held:
            name, oldest = next(iter(self._held.items()))
            if oldest.until > now and self._size <= self._max_bytes:
                break
            self._size -= len(oldest.content)
            del self._held[name]
