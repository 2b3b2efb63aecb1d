"""The transformer over the stream: masks, attention, cache and model."""

from trencadis.transformer.cache import KeyValueCache
from trencadis.transformer.masks import Pattern, image_visibility, layer_patterns, visibility
from trencadis.transformer.model import Logits, Losses, Transformer

__all__ = [
    "KeyValueCache",
    "Logits",
    "Losses",
    "Pattern",
    "Transformer",
    "image_visibility",
    "layer_patterns",
    "visibility",
]
