"""A complete DALL·E: a discrete VAE, one transformer over captions and pictures, and CLIP to rank what it draws.

The public names are imported when they are first used, so that `import trencadis` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trencadis.drawn import Drawn
    from trencadis.image import DiscreteVAE
    from trencadis.parts import register
    from trencadis.pipeline import DALLE
    from trencadis.ranking import CLIP
    from trencadis.text import CaptionTokenizer
    from trencadis.transformer import Transformer

__all__ = ["CLIP", "DALLE", "CaptionTokenizer", "DiscreteVAE", "Drawn", "Transformer", "register"]

_MODULE_BY_NAME = {
    "CLIP": "ranking",
    "DALLE": "pipeline",
    "CaptionTokenizer": "text",
    "DiscreteVAE": "image",
    "Drawn": "drawn",
    "Transformer": "transformer",
    "register": "parts",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module 'trencadis' has no attribute {name!r}")
    return getattr(importlib.import_module(f"trencadis.{_MODULE_BY_NAME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
