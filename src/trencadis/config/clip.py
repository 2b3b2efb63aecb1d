"""CLIP's config."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """One of CLIP's two transformers."""

    num_layers: int = 12
    num_heads: int = 8
    head_dim: int = 64

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """CLIP: a text transformer and a vision transformer in one space. Defaults are near the published ViT-B/32.

    Args:
        image_size: Height and width in pixels that the picture is resized to; multiples of `patch_size`.
        patch_size: Side of a patch in pixels.
        text_len: Text positions.
        text_vocab_size: Ids of the text tokenizer.
        embed_dim: Width of the shared space.
        text: The text tower.
        image: The image tower.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 32
    text_len: int = 256
    text_vocab_size: int = 16384
    embed_dim: int = 512
    text: TowerConfig = field(default_factory=TowerConfig)
    image: TowerConfig = field(default_factory=lambda: TowerConfig(num_heads=12))
