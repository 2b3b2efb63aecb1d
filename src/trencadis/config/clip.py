"""CLIP's config."""

from dataclasses import dataclass, field

from trencadis.config.checks import AT, SettingError, check_least


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """One of CLIP's two transformers."""

    num_layers: int = 12
    num_heads: int = 8
    head_dim: int = 64

    def __post_init__(self) -> None:
        check_least(self, 1, "num_layers", "num_heads", "head_dim")

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class CLIPSizes:
    """What is CLIP's own: all but the sizes of text and pictures. Defaults are near the published ViT-B/32.

    Args:
        patch_size: Side of a patch in pixels.
        embed_dim: Width of the shared space.
        text: The text tower.
        image: The image tower.
    """

    patch_size: int = 32
    embed_dim: int = 512
    text: TowerConfig = field(default_factory=TowerConfig)
    image: TowerConfig = field(default_factory=lambda: TowerConfig(num_heads=12))

    def __post_init__(self) -> None:
        check_least(self, 1, "patch_size", "embed_dim")


@dataclass(frozen=True, kw_only=True)
class CLIPConfig(CLIPSizes):
    """CLIP: a text transformer and a vision transformer in one space.

    Args:
        image_size: Height and width in pixels that the picture is resized to; multiples of `patch_size`.
        text_len: Text positions, the end of the caption included.
        text_vocab_size: Ids of the text tokenizer.
    """

    image_size: tuple[int, int] = (224, 224)
    text_len: int = 256
    text_vocab_size: int = 16384

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 1, "image_size", "text_vocab_size")
        check_least(self, 2, "text_len")
        if any(side % self.patch_size for side in self.image_size):
            given = f"{AT}image_size {self.image_size[0]}×{self.image_size[1]} with patches of {self.patch_size}"
            remedy = f"change {AT}image_size or {AT}patch_size"
            raise SettingError(given, expected="sides in multiples of patch_size", remedy=remedy)
