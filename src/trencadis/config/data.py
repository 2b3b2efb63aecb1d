"""Config of the dataset: where the pairs are, which are left out and how pictures are cut."""

from dataclasses import dataclass, field

from trencadis.config.checks import check_least, check_ranges


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Which pairs are left out. Source: Ramesh et al. 2021, section 2.3.

    Args:
        min_caption_chars: Shortest caption kept, in characters.
        language: ISO 639-1 code that captions must be in, or None for any; needs the `language` extra.
        boilerplate: Leave out captions such as "photographed on 3 May 2011".
        min_aspect_ratio: Narrowest picture kept, as width over height.
        max_aspect_ratio: Widest picture kept.
        min_image_side: Smallest short edge kept, in pixels.
        max_image_pixels: Pictures of more pixels are refused before they are decoded.
    """

    min_caption_chars: int = 3
    language: str | None = None
    boilerplate: bool = True
    min_aspect_ratio: float = 0.5
    max_aspect_ratio: float = 2.0
    min_image_side: int = 16
    max_image_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        check_least(self, 0, "min_caption_chars", "min_aspect_ratio", "max_aspect_ratio", "min_image_side")
        check_least(self, 1, "max_image_pixels")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the pairs come from and how pictures are cut.

    Args:
        path: A folder, a tar shard, or a glob or brace range of shards.
        min_crop: Shortest side of the random crop, as a share of the largest crop that fits.
        flip: Mirror pictures at random while the image tokenizer trains. Never done where captions are looked at.
        filters: Which pairs are left out.
        held_out: Least share of the pairs that no stage trains on; they are for validation. Of few pairs it is up to a
            tenth, so that there are 32 to measure on.
    """

    path: str = ""
    min_crop: float = 0.8
    flip: bool = True
    filters: FilterConfig = field(default_factory=FilterConfig)
    held_out: float = 0.02

    def __post_init__(self) -> None:
        check_ranges(self, min_crop=(0.01, 1), held_out=(1e-6, 0.99))
