"""Jacobi decoding: several tokens a pass, and the very picture that one at a time gives.

The noise of a draw is a pure function of seed, position and token, so the token at a position is a function of the
tokens before it: the argmax of their logits and the noise. A picture solves these equations, and it is the only one
that does. A pass reads a window, the last accepted token and drafts after it, and draws all of the window's tokens from
the logits. The first is right, as it was drawn from accepted tokens. The next is right if the draft before it is the
token that has just been drawn there, and so on: the verified prefix is accepted. What was drawn after it is the next
pass's drafts. Every pass accepts at least one token.

Any draft leads to the same picture, a good one sooner. First drafts repeat the row above: of the ways tried that takes
the fewest passes, and it needs no logits.

Source: Song et al. 2021, "Accelerating feedforward computation via parallel nonlinear equation solving"; with sampling,
Wiggers and Hoogeboom 2020, "Predictive sampling with forecasting autoregressive models".
"""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from trencadis.sampling.drawing import Drawing


class JacobiDrawing(Drawing):
    """The pictures of a request, several tokens a pass; each picture at its own rate.

    Attributes:
        accepted: Tokens of each picture that are final, in raster order.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        image_len = self._stream.image_len
        self._window = max(1, min(self.request.sampling.jacobi_window, image_len - 1))
        self._kept = torch.tensor(self.kept, device=self.raster.device)
        self._places = torch.tensor(self.positions, device=self.raster.device)
        self.accepted: Int[Tensor, " batch"] = torch.full_like(self.seeds, self.prefix)

    @property
    def drawn(self) -> int:
        return int(self.accepted.min())

    def settle(self, drawn: Int[Tensor, "batch new"]) -> None:
        """Accept the verified prefix of the tokens drawn at `positions`, keep the others as drafts, and move on."""
        read = self.raster.gather(1, self._places)
        drawn = read.where((self._places < self.accepted[:, None]) | self._kept[self._places], drawn)
        self.raster.scatter_(1, self._places, drawn)
        self.accepted = self._places[:, 0] + count_right(read, drawn)
        self._move()

    def _move(self) -> None:
        """Move to the first token that is not accepted; where nothing was drawn yet, the draft is the row above.

        The last windows lie at the end of the picture, and begin with accepted tokens.
        """
        end = self._places[:, -1:] + 1
        starts = self.accepted.clamp(max=self._stream.image_len - self._window)
        self._places = starts[:, None] + torch.arange(self._window, device=starts.device)
        columns = self._stream.grid_size[1]
        rows_up = ((self._places - end) // columns + 1).clamp(min=0)  # to the nearest row that has a token there
        above = self._places - rows_up * columns
        drafts = self.raster.gather(1, above.where(above >= 0, end - 1))
        kept = self._kept[self._places]
        self.raster.scatter_(1, self._places, self.raster.gather(1, self._places).where(kept, drafts))
        self.positions = tuple(tuple(row) for row in self._places.tolist())


def count_right(read: Int[Tensor, "batch window"], drawn: Int[Tensor, "batch window"]) -> Int[Tensor, " batch"]:
    """Return the length of the verified prefix: the first token, and each that follows drafts equal to what was drawn.

    Args:
        read: The drafts at the positions.
        drawn: The tokens drawn there, from logits that the drafts before them gave.
    """
    return 1 + (read == drawn)[:, :-1].long().cumprod(1).sum(1)
