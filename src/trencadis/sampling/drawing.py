"""A request, and the pictures that the engine draws for it."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from trencadis.sampling.filters import guidance_scales
from trencadis.sampling.options import ImagePrompt, Sampling
from trencadis.stream import Stream


@dataclass(frozen=True, kw_only=True)
class Request:
    """Pictures of one caption.

    Args:
        text_tokens: The padded caption.
        seeds: One a picture, in 0..2^63-1.
        sampling: How tokens are drawn.
        negative_tokens: A padded caption that guidance moves away from; None is the empty one.
        image_prompt: Tokens that stay, the same for every picture.
    """

    text_tokens: Int[Tensor, " text_len"]
    seeds: tuple[int, ...]
    sampling: Sampling
    negative_tokens: Int[Tensor, " text_len"] | None = None
    image_prompt: ImagePrompt | None = None

    @property
    def num_slots(self) -> int:
        """Streams that it takes: under guidance each picture has two."""
        return len(self.seeds) * (2 if self.sampling.guided else 1)


class Drawing:
    """The pictures of a request as they are drawn, one token a pass.

    Args:
        request: What is drawn.
        stream: Of the model.
        slots: Streams in the KV cache: the pictures', then, under guidance, their unconditional partners'.
        captions: Where each stream's caption is cached.
        device: Of the model.

    Attributes:
        raster: Image tokens; those at `positions` and behind them are not drawn yet.
        positions: Raster indices that the next logits are for, of each picture.
    """

    def __init__(
        self, request: Request, stream: Stream, slots: tuple[int, ...], captions: tuple[int, ...], device: torch.device
    ) -> None:
        sampling, image_len = request.sampling, stream.image_len
        self.request, self.slots, self.captions, self._stream = request, slots, captions, stream
        self.seeds = torch.tensor(request.seeds, dtype=torch.long, device=device)
        scales = guidance_scales(sampling.guidance_scale, sampling.guidance_schedule, image_len)
        self.scales = (scales if sampling.guided else torch.ones(image_len)).to(device)
        self.raster = torch.zeros(len(request.seeds), image_len, dtype=torch.long, device=device)
        self.kept = [False] * image_len
        if request.image_prompt is not None:
            kept = request.image_prompt.kept.flatten().cpu()
            self.kept = kept.tolist()
            tokens = request.image_prompt.image_tokens.flatten().cpu()
            self.raster[:, kept.to(device)] = tokens[kept].to(device)
        # The first kept tokens are read in one pass; the last token of all is never read.
        self.prefix = min((*self.kept, False).index(False), image_len - 1)
        self.positions: tuple[tuple[int, ...], ...] = ((self.prefix,),) * len(request.seeds)

    @property
    def image_tokens(self) -> Int[Tensor, "batch rows columns"]:
        """The grids; a view of what is still being drawn."""
        return self.raster.view(-1, *self._stream.grid_size)

    @property
    def drawn(self) -> int:
        """How many tokens of every picture stand, in raster order."""
        return self.positions[0][0]

    @property
    def done(self) -> bool:
        return self.drawn == self._stream.image_len

    def settle(self, drawn: Int[Tensor, "batch new"]) -> None:
        """Take the tokens that were drawn at `positions`, and move on."""
        position = self.positions[0][0]
        if not self.kept[position]:
            self.raster[:, position] = drawn[:, 0]
        self.positions = ((position + 1,),) * len(self.positions)
