"""One request's pictures on their way through the scheduler."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from trencadis.drawn import Drawn
from trencadis.generation import Prepared
from trencadis.sampling import Drawing, Partial


@dataclass(frozen=True)
class Queued:
    """The request waits; `position` requests get their first turn before it."""

    position: int


@dataclass(frozen=True)
class Progress:
    """How far the request's candidates are, all together."""

    drawn: int  # tokens
    total: int


@dataclass(frozen=True)
class PartialPicture:
    """A picture as it was after a pass: its tokens, which whoever shows it decodes."""

    picture: int  # of the request's candidates, in the order of their seeds
    index: int  # of the picture's partial pictures, from 0
    partial: Partial


@dataclass(frozen=True)
class Finished:
    drawn: Drawn


@dataclass(frozen=True)
class Failed:
    error: BaseException


Event = Queued | Progress | PartialPicture | Finished | Failed


@dataclass(eq=False)
class Job:
    """A request that draws.

    Args:
        prepared: What is drawn.
        client: Whose turn it takes: a key or an address.
        deadline: Of `time.monotonic`; later it fails.
        publish: Is given the events, in the scheduler's thread; it must not wait.
        partials: Partial pictures of each picture that is shown while it is drawn.
        shown: How many of the first candidates are shown while they are drawn.
    """

    prepared: Prepared
    client: str
    deadline: float
    publish: Callable[[Event], None]
    partials: int = 0
    shown: int = 1
    since: float = field(default_factory=time.monotonic)
    admitted: int = 0  # candidates
    drawings: list[tuple[int, Drawing]] = field(default_factory=list)  # each with its first candidate's number
    is_over: bool = False
    sent: dict[int, int] = field(default_factory=dict)  # partial pictures of each picture
    position: int | None = None  # that was last published
    rows_drawn: int = 0  # of each picture on average, as it was last published

    @property
    def candidates(self) -> int:
        return len(self.prepared.request.seeds)

    @property
    def slots_each(self) -> int:
        """Streams that a picture takes."""
        return self.prepared.request.num_slots // self.candidates

    @property
    def unseen(self) -> list[Drawing]:
        """What is drawn of it, if its client is to see partial pictures and has seen none yet."""
        return [] if self.sent or not self.partials else [drawing for _, drawing in self.drawings if not drawing.done]

    @property
    def is_drawn(self) -> bool:
        return self.admitted == self.candidates and all(drawing.done for _, drawing in self.drawings)

    @property
    def image_tokens(self) -> Int[Tensor, "candidates rows columns"]:
        """Those of all candidates, once they are drawn."""
        return torch.cat([drawing.image_tokens for _, drawing in self.drawings])
