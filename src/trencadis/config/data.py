"""Config of the dataset: where the pairs are, which are left out and how pictures are made to fit."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from trencadis.config.base import Config, Count, PathNote, Range, Whole

Fit = Literal["crop", "pad", "auto"]
Aspect = Annotated[float, Range(0.001, 1000)]


@dataclass(frozen=True, kw_only=True)
class FilterConfig(Config):
    """Which pairs are left out. Source: Ramesh et al. 2021, section 2.3.

    Args:
        min_caption_chars: Shortest caption kept, in letters, digits and symbols: a Chinese word or a number has one.
        language: ISO 639-1 code that captions must be in, such as en; needs the `language` extra.
        boilerplate: Leave out captions such as "photographed on 3 May 2011" or a file's name, and cut off credits.
        min_aspect_ratio: Narrowest picture kept, as width over height.
        max_aspect_ratio: Widest picture kept, as width over height.
        min_image_side: Smallest short edge kept, in pixels.
        max_image_pixels: Largest picture kept, in pixels; larger ones are refused before they are decoded.
    """

    min_caption_chars: Whole = 1
    language: str | None = None
    boilerplate: bool = True
    min_aspect_ratio: Aspect = 0.5
    max_aspect_ratio: Aspect = 2.0
    min_image_side: Count = 16
    max_image_pixels: Count = 100_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        is_met = self.min_aspect_ratio <= self.max_aspect_ratio
        self._require(is_met, "min_aspect_ratio", "max_aspect_ratio", expected="the first not above the second")


@dataclass(frozen=True, kw_only=True)
class ReadingConfig(Config):
    """What files are taken for. docs/data.md shows every layout.

    Args:
        caption_column: Column of a table that holds the captions, such as my_caption; by default a known one.
        file_column: Column of a table that holds the paths of pictures; by default a known one.
        class_folders: Take a folder's name as the caption of pictures in it that have no other.
        strict: Refuse a dataset of which a part is damaged, instead of leaving out that part.
    """

    caption_column: str | None = None
    file_column: str | None = None
    class_folders: bool = False
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class DataConfig(ReadingConfig):
    """Where the pairs come from and how pictures are made to fit. docs/preprocessing.md shows it.

    Args:
        path: A folder, a table, a tar shard, or a glob or brace range of shards; several are separated by `::`.
        fit: `crop` cuts random crops as the paper does. `pad` extends each picture to the crop's aspect with the colour
            of its border, and no crop cuts it. `auto` pads drawings on a plain ground and crops all other pictures.
        flip: Mirror pictures at random while the image tokenizer trains. Never done where captions are looked at.
        filters: Which pairs are left out.
        held_out: Least share of the pairs that no stage trains on; they are for validation. Of few pairs it is up to a
            tenth, so that there are 32 to measure on.
    """

    path: Annotated[str, PathNote("::")] = ""
    fit: Fit = "auto"
    flip: bool = True
    filters: FilterConfig = field(default_factory=FilterConfig)
    held_out: Annotated[float, Range(1e-6, 0.99)] = 0.02
