"""The transformer over the stream: masks, attention, model, and the decoder that reads it through a KV cache."""

from trencadis.transformer.adapter import Adapter, UsedAdapter
from trencadis.transformer.kernels.decoding_linear import Weights
from trencadis.transformer.kv_cache import KVCache, slot_bytes
from trencadis.transformer.kv_decoder import KVDecoder, Reads
from trencadis.transformer.masks import ImageBlocks, Pattern, image_visibility, layer_patterns, visibility
from trencadis.transformer.model import Logits, Losses, Transformer

__all__ = [
    "Adapter",
    "ImageBlocks",
    "KVCache",
    "KVDecoder",
    "Logits",
    "Losses",
    "Pattern",
    "Reads",
    "Transformer",
    "UsedAdapter",
    "Weights",
    "image_visibility",
    "layer_patterns",
    "slot_bytes",
    "visibility",
]
