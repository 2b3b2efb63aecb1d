"""CLIP's config."""

from dataclasses import dataclass, field
from typing import Annotated

from trencadis.config.base import Config, Count, Range


@dataclass(frozen=True, kw_only=True)
class TowerConfig(Config):
    """One of CLIP's two transformers."""

    num_layers: Count = 12
    num_heads: Count = 8
    head_dim: Count = 64

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class CLIPSizes(Config):
    """What is CLIP's own: all but the sizes of text and pictures. Defaults are near the published ViT-B/32.

    Args:
        patch_size: Side of a patch in pixels.
        embed_dim: Width of the shared space.
    """

    patch_size: Count = 32
    embed_dim: Count = 512
    text: TowerConfig = field(default_factory=TowerConfig)
    image: TowerConfig = field(default_factory=lambda: TowerConfig(num_heads=12))


@dataclass(frozen=True, kw_only=True)
class CLIPConfig(CLIPSizes):
    """CLIP: a text transformer and a vision transformer in one space.

    Args:
        image_size: Height and width in pixels that the picture is resized to; multiples of `patch_size`.
        text_len: Text positions, the end of the caption included.
        text_vocab_size: Ids of the text tokenizer.
    """

    image_size: tuple[Count, Count] = (224, 224)
    text_len: Annotated[int, Range(2)] = 256
    text_vocab_size: Count = 16384

    def __post_init__(self) -> None:
        super().__post_init__()
        is_whole = all(side % self.patch_size == 0 for side in self.image_size)
        self._require(is_whole, "image_size", "patch_size", expected="sides in multiples of patch_size")
