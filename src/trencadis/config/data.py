"""Config of the dataset: where the pairs are, which are left out and how pictures are made to fit."""

from dataclasses import dataclass, field
from typing import Literal

from trencadis.config.checks import AT, SettingError, check_least, check_ranges

Fit = Literal["crop", "pad", "auto"]


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Which pairs are left out. Source: Ramesh et al. 2021, section 2.3.

    Args:
        min_caption_chars: Shortest caption kept, in characters.
        language: ISO 639-1 code that captions must be in, such as en; needs the `language` extra.
        boilerplate: Leave out captions such as "photographed on 3 May 2011".
        min_aspect_ratio: Narrowest picture kept, as width over height.
        max_aspect_ratio: Widest picture kept, as width over height.
        min_image_side: Smallest short edge kept, in pixels.
        max_image_pixels: Largest picture kept, in pixels; larger ones are refused before they are decoded.
    """

    min_caption_chars: int = 3
    language: str | None = None
    boilerplate: bool = True
    min_aspect_ratio: float = 0.5
    max_aspect_ratio: float = 2.0
    min_image_side: int = 16
    max_image_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        check_least(self, 0, "min_caption_chars")
        check_ranges(self, min_aspect_ratio=(0.001, 1000), max_aspect_ratio=(0.001, 1000))
        check_least(self, 1, "min_image_side", "max_image_pixels")
        if self.min_aspect_ratio > self.max_aspect_ratio:
            given = f"{AT}min_aspect_ratio {self.min_aspect_ratio:g} and {AT}max_aspect_ratio {self.max_aspect_ratio:g}"
            raise SettingError(given, expected="the first not above the second", remedy="change one of them")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the pairs come from and how pictures are made to fit. docs/preprocessing.md shows it.

    Args:
        path: A folder, a tar shard, or a glob or brace range of shards.
        fit: `crop` cuts random crops as the paper does. `pad` extends each picture to the crop's aspect with the colour
            of its border, and no crop cuts it. `auto` pads drawings on a plain ground and crops all other pictures.
        flip: Mirror pictures at random while the image tokenizer trains. Never done where captions are looked at.
        filters: Which pairs are left out.
        held_out: Least share of the pairs that no stage trains on; they are for validation. Of few pairs it is up to a
            tenth, so that there are 32 to measure on.
    """

    path: str = ""
    fit: Fit = "auto"
    flip: bool = True
    filters: FilterConfig = field(default_factory=FilterConfig)
    held_out: float = 0.02

    def __post_init__(self) -> None:
        check_ranges(self, held_out=(1e-6, 0.99))
