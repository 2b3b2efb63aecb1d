"""The engine: draws the pictures of many requests in one batch, which requests enter and leave between two passes.

    engine = Engine(decoder, slots=32)
    drawing = engine.admit(request)        # reads the caption, and draws the first token
    while not drawing.done:
        engine.step()                      # one pass over the weights for everything that is being drawn

A picture depends on its own request and seed only: not on what is drawn beside it, nor on when it entered. Not for
several threads at a time.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.sampling.drawing import Drawing, Request
from trencadis.sampling.filters import draw, filter_logits, guide
from trencadis.sampling.jacobi import JacobiDrawing
from trencadis.transformer.kv_decoder import KVDecoder, Reads


class Engine:
    """Slots of a KV cache, and the drawings in them.

    Args:
        decoder: Of the transformer to draw from.
        slots: Streams that fit at a time; a request takes `Request.num_slots`.

    Attributes:
        drawings: What is being drawn, in order of admission.
        passes: Passes over the weights so far, captions included.
    """

    def __init__(self, decoder: KVDecoder, slots: int) -> None:
        if decoder.is_compiled:  # for powers of two only
            slots = 1 << (slots - 1).bit_length()
        self.decoder, self.drawings, self.passes = decoder, list[Drawing](), 0
        self._cache = decoder.new_cache(slots, captions=slots)
        self._free = list(range(slots))
        self._captions = _Captions(slots)
        self._rows = lru_cache(maxsize=4)(_Rows)

    @property
    def free_slots(self) -> int:
        return len(self._free)

    @torch.inference_mode()
    def admit(self, request: Request) -> Drawing:
        """Take slots for a request, read its captions and prefix, and draw its first tokens.

        The caller has seen to it that `free_slots` suffice. A request that fails gives its slots back.
        """
        assert request.num_slots <= self.free_slots, f"{request.num_slots} slots of {self.free_slots}"
        slots, self._free = tuple(self._free[: request.num_slots]), self._free[request.num_slots :]
        texts = [request.text_tokens]
        if request.sampling.guided:
            padding = self.decoder.stream.padding()
            texts.append(padding if request.negative_tokens is None else request.negative_tokens)
        captions = [self._captions.take(tuple(text.tolist())) for text in texts]
        try:
            drawing = self._begun(request, slots, texts, captions)
        except BaseException:  # memory ran out, or somebody interrupted it
            self._give_back(slots, captions)
            raise
        self.drawings.append(drawing)
        self._drop_finished()
        return drawing

    def _begun(self, request: Request, slots: tuple[int, ...], texts: list[Tensor], captions: list[int]) -> Drawing:
        """Read the captions and the prefix into the cache and draw the first tokens."""
        pictures = len(request.seeds)
        first = [self._read_caption(text, caption) for text, caption in zip(texts, captions, strict=True)]
        kind = JacobiDrawing if request.sampling.decoder == "jacobi" else Drawing
        of_streams = tuple(caption for caption in captions for _ in range(pictures))
        drawing = kind(request, self.decoder.stream, slots, of_streams, self.decoder.device)
        logits = [
            self._read_prefix(drawing, half) if drawing.prefix else row[None].expand(pictures, -1)
            for half, row in enumerate(first)
        ]
        self._draw(self._rows((drawing,), self.decoder.device), torch.cat(logits)[:, None])
        return drawing

    @torch.inference_mode()
    def step(self, drawings: Iterable[Drawing] | None = None) -> list[Drawing]:
        """Draw a token of each picture, or several by Jacobi decoding, and return the drawings that are finished.

        Args:
            drawings: Which ones go on, of `Engine.drawings`; None is all of them. A pass for few takes less time.
        """
        chosen = self.drawings if drawings is None else drawings
        by_window = sorted(chosen, key=lambda drawing: len(drawing.positions[0]))
        for _, group in groupby(by_window, key=lambda drawing: len(drawing.positions[0])):
            rows = self._rows(tuple(group), self.decoder.device)
            self._draw(rows, self._read(rows))
        return self._drop_finished()

    def cancel(self, drawing: Drawing) -> None:
        """Drop a drawing and free its slots; one that is finished has none."""
        if drawing in self.drawings:
            self.drawings.remove(drawing)
            self._give_back(drawing.slots, drawing.captions[:: len(drawing.seeds)])  # once a half, as they were taken

    def _give_back(self, slots: Iterable[int], captions: Iterable[int]) -> None:
        self._free = sorted([*self._free, *slots])
        for caption in captions:
            self._captions.release(caption)

    def _drop_finished(self) -> list[Drawing]:
        finished = [drawing for drawing in self.drawings if drawing.done]
        for drawing in finished:
            self.cancel(drawing)
        return finished

    def _read_caption(self, text_tokens: Int[Tensor, " text_len"], caption: int) -> Float[Tensor, " vocab"]:
        """Return the logits of the first image token; the caption is read into its place if it is new."""
        if caption not in self._captions.logits:
            self.passes += 1
            tokens = text_tokens.to(self.decoder.device)
            self._captions.logits[caption] = self.decoder.read_caption(tokens, self._cache, caption)
        return self._captions.logits[caption]

    def _read_prefix(self, drawing: Drawing, half: int) -> Float[Tensor, "pictures vocab"]:
        """Read the kept tokens that the pictures begin with, for the first or the second half of the streams."""
        self.passes += 1
        pictures = len(drawing.seeds)
        slots = list(drawing.slots[half * pictures : (half + 1) * pictures])
        prefix, caption = drawing.raster[0, : drawing.prefix], drawing.captions[half * pictures]
        return self.decoder.read_prefix(prefix, self._cache, slots, caption).expand(pictures, -1)

    def _read(self, rows: "_Rows") -> Float[Tensor, "streams new vocab"]:
        """Read the tokens before the positions that are drawn next."""
        self.passes += 1
        before: list[tuple[int, ...]] = []
        positions: list[tuple[int, ...]] = []
        for drawing in rows.drawings:
            own = [tuple(index - 1 for index in row) for row in drawing.positions]
            before += own
            positions += own * (len(drawing.slots) // len(own))
        raster = torch.cat([drawing.raster for drawing in rows.drawings])
        tokens = raster.gather(1, torch.tensor(before, device=raster.device))[rows.of_streams]
        reads = Reads(rows.slots, rows.captions, tuple(positions))
        if self.decoder.is_compiled and tokens.shape[1] == 1:
            return self.decoder.read_compiled(tokens[:, 0], reads, self._cache)[:, None]
        return self.decoder.read(tokens, reads, self._cache)

    def _draw(self, rows: "_Rows", logits: Float[Tensor, "streams new vocab"]) -> None:
        """Guide, filter and draw the rows of all drawings together, each by its own settings."""
        positions = torch.tensor([row for drawing in rows.drawings for row in drawing.positions], device=logits.device)
        scales = rows.scales.gather(1, positions)
        guided = guide(logits[rows.own].float(), logits[rows.partner].float(), scales)
        filtered = filter_logits(guided, temperature=rows.temperature, top_k=rows.top_k, top_p=rows.top_p)
        drawn = draw(filtered, rows.seeds, positions)
        counts = [len(drawing.seeds) for drawing in rows.drawings]
        for drawing, tokens in zip(rows.drawings, torch.split(drawn, counts), strict=True):
            drawing.settle(tokens)


class _Rows:
    """The pictures of some drawings, a row each: what stays the same from pass to pass.

    Attributes:
        own: Stream of each picture.
        partner: Its unconditional stream; a picture without guidance is its own partner.
        of_streams: Row of each stream.
        scales: Of guidance, for every raster index.
    """

    def __init__(self, drawings: tuple[Drawing, ...], device: torch.device) -> None:
        self.drawings = drawings
        own: list[int] = []
        partner: list[int] = []
        of_streams: list[int] = []
        for drawing in drawings:
            count, is_guided = len(drawing.seeds), drawing.request.sampling.guided
            rows, streams = range(len(own), len(own) + count), range(len(of_streams), len(of_streams) + count)
            own += streams
            partner += [stream + count for stream in streams] if is_guided else streams
            of_streams += [*rows, *rows] if is_guided else rows
        self.own, self.partner, self.of_streams = (
            torch.tensor(index, device=device) for index in (own, partner, of_streams)
        )
        self.slots = tuple(slot for drawing in drawings for slot in drawing.slots)
        self.captions = tuple(caption for drawing in drawings for caption in drawing.captions)
        self.scales = torch.cat([drawing.scales.expand(len(drawing.seeds), -1) for drawing in drawings])
        self.seeds = torch.cat([drawing.seeds for drawing in drawings])[:, None]
        settings = [drawing.request.sampling for drawing in drawings for _ in drawing.request.seeds]
        self.temperature = torch.tensor([s.temperature for s in settings], device=device)[:, None]
        self.top_k = self.top_p = None
        if any(s.top_k is not None for s in settings):
            self.top_k = torch.tensor([s.top_k or 2**31 for s in settings], device=device)[:, None]
        if any(s.top_p is not None for s in settings):
            # 2 keeps every token, rounding of the sum of probabilities included.
            top_p = [2.0 if s.top_p in (None, 1) else s.top_p for s in settings]
            self.top_p = torch.tensor(top_p, device=device)[:, None]


class _Captions:
    """Captions in the cache, each once for all drawings that share it."""

    def __init__(self, places: int) -> None:
        self.logits: dict[int, Float[Tensor, " vocab"]] = {}
        self._free = list(range(places))
        self._place_by_tokens: dict[tuple[int, ...], int] = {}
        self._uses: dict[int, int] = {}

    def take(self, tokens: tuple[int, ...]) -> int:
        """Return the place of a caption; a new one has no logits yet."""
        if tokens not in self._place_by_tokens:
            self._place_by_tokens[tokens] = self._free.pop(0)
        place = self._place_by_tokens[tokens]
        self._uses[place] = self._uses.get(place, 0) + 1
        return place

    def release(self, place: int) -> None:
        self._uses[place] -= 1
        if not self._uses[place]:
            self._place_by_tokens = {key: other for key, other in self._place_by_tokens.items() if other != place}
            self.logits.pop(place, None)  # it has none where its reading failed
            del self._uses[place]
            self._free = sorted([*self._free, place])
