"""The transformer as drawing uses it: it reads captions once, then image tokens a few at a time, through a KV cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from types import FunctionType, MethodType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.devices import has_bfloat16_units
from trencadis.transformer.kernels.cache_attention import (
    CaptionGroups,
    Windows,
    attention_with_lse,
    concatenated,
    join,
    masked_cache_attention,
)
from trencadis.transformer.kernels.decoding_linear import Weights, packed
from trencadis.transformer.kv_cache import KVCache
from trencadis.transformer.model import Block, Transformer


@dataclass(frozen=True)
class Reads:
    """Which image tokens a pass reads: some of each stream.

    Args:
        slots: Of each stream in the cache.
        captions: Of each stream in the cache; streams of one caption lie together.
        positions: Raster indices that each stream reads, as many as every other stream's, all before them being read.
    """

    slots: tuple[int, ...]
    captions: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]

    @cached_property
    def runs(self) -> list[tuple[int, int, tuple[int, ...]]]:
        """Streams whose slots follow each other and that read the same positions: (streams, first slot, positions).

        They follow each other as the streams do. Attention to a position of a run is computed in one call.
        """
        numbered = enumerate(zip(self.slots, self.positions, strict=True))
        runs = []
        for (_, positions), members in groupby(numbered, key=lambda one: (one[1][0] - one[0], one[1][1])):
            slots = [slot for _, (slot, _) in members]
            runs.append((len(slots), slots[0], positions))
        return runs


class KVDecoder:
    """A transformer prepared for drawing: it reads tokens into a cache and returns the logits of the next ones.

    On a CPU a stream's logits are the same bit for bit whatever is read beside it, and whether its tokens are read one
    or several a pass.

    Args:
        transformer: In evaluation mode. Its weights are copied now; build another decoder after training on.
        weights: Type that its weights are rounded to.
        is_compiled: Read single tokens by a compiled step, which pays on a GPU, for a decoder that draws often.

    Attributes:
        cache_dtype: Type of cached keys and values, which queries are rounded to as well.

    Raises:
        ConfigError: The device has no products for such weights.
    """

    def __init__(self, transformer: Transformer, weights: Weights = "float32", *, is_compiled: bool = False) -> None:
        self.transformer, self.weights, self.is_compiled = transformer, weights, is_compiled
        self.config, self.stream = transformer.config, transformer.stream
        with torch.no_grad():
            self.blocks: list[Any] = [packed(block, weights, compiles=is_compiled) for block in transformer.blocks]
            self.image_head = packed(transformer.image_head, weights, compiles=is_compiled)
        kernel_size, patterns = self.config.kernel_size, transformer.patterns
        windows = {
            pattern: Windows(pattern, self.stream, kernel_size=kernel_size, device=self.device)
            for pattern in set(patterns)
        }
        self.windows = [windows[pattern] for pattern in patterns]
        self._groups = lru_cache(maxsize=16)(CaptionGroups)
        full = transformer.image_head.weight.dtype
        self.cache_dtype = torch.bfloat16 if weights != "float32" and has_bfloat16_units(self.device) else full
        self._compiled: dict[int, Callable[..., Tensor]] = {}

    @property
    def device(self) -> torch.device:
        return self.transformer.image_head.weight.device

    def new_cache(self, slots: int, captions: int) -> KVCache:
        return KVCache(self.config, slots=slots, captions=captions, device=self.device, dtype=self.cache_dtype)

    @torch.inference_mode()
    def read_caption(
        self, text_tokens: Int[Tensor, " text_len"], cache: KVCache, caption: int
    ) -> Float[Tensor, " image_vocab_size"]:
        """Read a padded caption into the cache, and return the logits of the first image token.

        Captions are read one at a time, so that their keys and values do not depend on each other.
        """
        x = self.transformer.embed_text(text_tokens[None])
        rotary = self.transformer.rotary(slice(0, self.stream.text_len))
        for block, (text_keys, text_values) in zip(self.blocks, cache.text, strict=True):
            queries, keys, values = block.attention.project(block.attention_norm(x), rotary)
            text_keys[:, caption], text_values[:, caption] = keys[0], values[0]
            x = _finished(block, x, F.scaled_dot_product_attention(queries, keys, values, is_causal=True))
        return self._logits(x[0, -1:])[0]

    @torch.inference_mode()
    def read_prefix(
        self, image_tokens: Int[Tensor, " prefix"], cache: KVCache, slots: Sequence[int], caption: int
    ) -> Float[Tensor, " image_vocab_size"]:
        """Read the first image tokens of streams that share them and the caption; return the logits of the next one."""
        text_len, prefix = self.stream.text_len, len(image_tokens)
        x = self.transformer.embed_image(image_tokens[None], slice(0, prefix))
        rotary = self.transformer.rotary(slice(text_len, text_len + prefix))
        own = torch.tensor(slots, device=self.device)[:, None]
        for layer, block in enumerate(self.blocks):
            queries, keys, values = block.attention.project(block.attention_norm(x), rotary)
            windows = self.windows[layer]
            for held, new in zip(cache.image[layer], (keys, values), strict=True):
                held[own, :, windows.place_table[:prefix]] = new[0].transpose(0, 1).to(held.dtype)
            visible = windows.visible[:prefix, windows.place_table[:prefix]]
            mask = F.pad(visible, (text_len, 0), value=True)
            text = [tensor[:, caption] for tensor in cache.text[layer]]
            keys, values = (torch.cat([a, b[0]], dim=1)[None] for a, b in zip(text, (keys, values), strict=True))
            x = _finished(block, x, F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask))
        return self._logits(x[0, -1:])[0]

    @torch.inference_mode()
    def read(
        self, image_tokens: Int[Tensor, "streams new"], reads: Reads, cache: KVCache
    ) -> Float[Tensor, "streams new image_vocab_size"]:
        """Read image tokens, and return the logits of the token that follows each.

        A layer reads the caption and its own window only. What was read at these positions before is overwritten.
        """
        index = torch.tensor(reads.positions, device=self.device)
        x = self.transformer.embed_image(image_tokens, index)
        rotary = self.transformer.rotary(self.stream.text_len + index[:, None])
        groups = self._groups(tuple(c for c in reads.captions for _ in range(index.shape[1])), self.device)
        slots = torch.tensor(reads.slots, device=self.device)
        for layer, block in enumerate(self.blocks):
            queries, keys, values = block.attention.project(block.attention_norm(x), rotary)
            self._write(layer, index, slots, keys, values, cache)
            x = _finished(block, x, self._attend(layer, reads, groups, queries.to(self.cache_dtype), cache))
        return self._logits(x)

    def _write(self, layer: int, index: Tensor, slots: Tensor, keys: Tensor, values: Tensor, cache: KVCache) -> None:
        places = self.windows[layer].place_table[index]
        for held, new in zip(cache.image[layer], (keys, values), strict=True):
            held[slots[:, None], :, places] = new.transpose(1, 2).to(held.dtype)

    def _attend(
        self,
        layer: int,
        reads: Reads,
        groups: CaptionGroups,
        queries: Float[Tensor, "streams heads new head_dim"],
        cache: KVCache,
    ) -> Float[Tensor, "streams heads new head_dim"]:
        """Attend to each stream's caption and to its window of the picture, and join the two."""
        streams, heads, new, head_dim = queries.shape
        rows = queries.transpose(1, 2).reshape(streams * new, heads, head_dim)
        from_text, text_lse = groups.attend(rows, *cache.text[layer])
        windows, (image_keys, image_values) = self.windows[layer], cache.image[layer]
        found, sizes = [], [size for size, _, _ in reads.runs]
        for part, (size, first, positions) in zip(torch.split(queries, sizes), reads.runs, strict=True):
            keys, values = (tensor.narrow(0, first, size) for tensor in (image_keys, image_values))
            columns = []
            for column, position in zip(part.split(1, dim=2) if new > 1 else (part,), positions, strict=True):
                window = windows.slices[position]
                start, length = window.start, window.stop - window.start
                own = (tensor.narrow(2, start, length) for tensor in (keys, values))
                columns.append(attention_with_lse(column, *own, windows.biases[position]))
            found.append(concatenated(columns, dim=2))
        from_image, image_lse = concatenated(found, dim=0)
        from_text = from_text.view(streams, new, heads, head_dim).transpose(1, 2)
        return join(from_text, text_lse.view(streams, new, heads).transpose(1, 2), from_image, image_lse)

    def step_all(
        self,
        image_tokens: Int[Tensor, " streams"],
        positions: Int[Tensor, " streams"],
        captions: Int[Tensor, " streams"],
        text: list[tuple[Tensor, Tensor]],
        image: list[tuple[Tensor, Tensor]],
    ) -> Float[Tensor, "streams image_vocab_size"]:
        """Read one image token of each of the cache's first slots, free ones included; for GPUs.

        Everything is a tensor on the device and has the same shape at each step, so that it compiles to one graph a
        number of streams.

        Args:
            positions: Raster index of each stream's token.
            captions: Where each stream's caption is cached.
            text: The cache's captions.
            image: The cache's pictures.
        """
        streams = torch.arange(len(image_tokens), device=image_tokens.device)
        heads = torch.arange(self.config.num_heads, device=image_tokens.device)
        reads_caption = captions[:, None] == torch.arange(text[0][0].shape[1], device=captions.device)
        x = self.transformer.embed_image(image_tokens[:, None], positions[:, None])
        rotary = self.transformer.rotary(self.stream.text_len + positions[:, None, None])
        for layer, block in enumerate(self.blocks):
            queries, keys, values = block.attention.project(block.attention_norm(x), rotary)
            windows = self.windows[layer]
            place = windows.place_table[positions][:, None]
            for held, new in zip(image[layer], (keys, values), strict=True):
                held[streams[:, None], heads, place] = new[:, :, 0].to(held.dtype)
            own = image[layer][0][: len(streams)], image[layer][1][: len(streams)]
            queries = queries[:, :, 0].to(self.cache_dtype)
            seen = masked_cache_attention(queries, text[layer], reads_caption, own, windows.visible[positions])
            x = _finished(block, x, seen[:, :, None])
        return self._logits(x[:, 0])

    @torch.inference_mode()
    def read_compiled(
        self, image_tokens: Int[Tensor, " streams"], reads: Reads, cache: KVCache, *, backend: str | Any = "inductor"
    ) -> Float[Tensor, "streams image_vocab_size"]:
        """Do what `read` does for one token of each stream, by `step_all` compiled.

        There is one graph for each power of two of slots. Free slots among them compute what nobody looks at.
        """
        size = min(1 << max(reads.slots).bit_length(), cache.slots)
        if size not in self._compiled:
            step = _with_own_code(self.step_all)
            self._compiled[size] = torch.compile(step, backend=backend, fullgraph=True, dynamic=False)
        slots = torch.tensor(reads.slots, device=self.device)
        inputs = torch.zeros(3, size, dtype=torch.long, device=self.device)
        inputs[0, slots] = image_tokens
        inputs[1, slots] = torch.tensor(reads.positions, device=self.device)[:, 0]
        inputs[2, slots] = torch.tensor(reads.captions, device=self.device)
        return self._compiled[size](*inputs, cache.text, cache.image)[slots]

    def _logits(self, x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows image_vocab_size"]:
        return self.image_head(self.transformer.norm(x))  # type: ignore[no-any-return]


def _finished(block: Block, x: Tensor, seen: Tensor) -> Tensor:
    """Return the residual stream after a block, given what its attention saw."""
    x = x + block.attention.merge(seen)
    return x + block.mlp(block.mlp_norm(x))  # type: ignore[no-any-return]


def _with_own_code(method: Any) -> Callable[..., Tensor]:
    """Return a bound method with a code object of its own: dynamo compiles a code object at most 8 times."""
    plain = method.__func__
    code = plain.__code__.replace()
    return MethodType(FunctionType(code, plain.__globals__, plain.__name__, plain.__defaults__), method.__self__)
