"""`trencadis reconstruct`: pictures to tokens and back, side by side."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from trencadis.cli.arguments import MAX_SIDE, add_model, existing_path, integer, output_sheet
from trencadis.cli.pictures import Pictures
from trencadis.console import say, say_json
from trencadis.errors import ConfigError
from trencadis.spelling import printable

if TYPE_CHECKING:
    from PIL import Image

    from trencadis.protocols import ImageTokenizer

HELP = "shows what is left of pictures once they are tokens"
COLUMNS = 8  # of a band of the sheet
MOST_SHOWN = 256  # pictures on the sheet; the figures are of all
DIFFERENCE_GAIN = 4
SMALLEST_TILE, LARGEST_TILE = 128, 256  # longer side, in pixels
NARROWEST_TILE = 96  # so that labels can be read

Tile = tuple["Image.Image", str]


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    existing = existing_path("a picture or a folder that exists")
    add("images", nargs="+", metavar="IMAGE", type=existing, help="pictures, and folders of them at any depth")
    add_model(parser, about="a shipped model, a model or tokenizer directory, or a hub id")
    about = "of pictures, in multiples of what a token stands for (default: the model's)"
    add("--image-size", nargs=2, metavar=("HEIGHT", "WIDTH"), type=integer(1, MAX_SIDE, example=64), help=about)
    about = "file for the sheet: originals, reconstructions and differences; only a sheet is replaced"
    add("--out", type=output_sheet(), default="reconstructed.png", help=about)
    add("--json", action="store_true", help="print each picture's fidelity and tokens, and the means, as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    """Write the sheet and print each picture's PSNR and SSIM, and their means."""
    from trencadis.data.contact_sheet import banded_sheet
    from trencadis.image.loading import load_image_tokenizer
    from trencadis.model_directory import find_model
    from trencadis.progress import track
    from trencadis.storage import write_sheet

    pictures = Pictures(arguments.images, output=arguments.out)
    tokenizer = load_image_tokenizer(find_model(arguments.model, revision=arguments.revision))
    size = _size(tokenizer, arguments.image_size)
    found: list[dict[str, Any]] = []
    columns: list[tuple[Tile, Tile, Tile]] = []
    drawn_size = _drawn_size(tokenizer, size)
    for path, picture in track(pictures.fitted(drawn_size), "reconstructing pictures", len(pictures)):
        figures, tiles = _reconstructed(tokenizer, size, path, picture)
        found.append(figures)
        columns += [tiles] if len(columns) < MOST_SHOWN else []
    write_sheet(
        arguments.out, banded_sheet(list(zip(*columns, strict=True)), COLUMNS, tile_size=_tile_size(drawn_size))
    )
    pictures.tell_left_out()
    means = {name: _mean([row[name] for row in found]) for name in ("psnr", "ssim")}
    if arguments.json:
        left_out = [{"path": str(each.path), "reason": each.reason} for each in pictures.left_out]
        sheet = {
            "sheet": str(arguments.out),
            "image_size": size,
            "drawn_size": drawn_size,
            "mean": means,
            "pictures": found,
        }
        say_json(sheet | {"left_out": left_out})
    else:
        _print(found, means)
        shown = f"; the first {MOST_SHOWN} of {len(found):,}" if len(found) > MOST_SHOWN else ""
        rows = f"originals, reconstructions, and differences times {DIFFERENCE_GAIN}"
        say(f"{arguments.out}   from the top: {rows}{shown}")
    return 0


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _size(tokenizer: "ImageTokenizer", asked: list[int] | None) -> tuple[int, int]:
    if asked is None:
        return tokenizer.image_size
    height, width = asked
    factor = tokenizer.down_factor
    if height % factor or width % factor:
        near = " ".join(str(max(round(side / factor), 1) * factor) for side in asked)
        expected = f"multiples of {factor}, the pixels that a token stands for along each side"
        raise ConfigError(f"--image-size {height} {width}", expected=expected, remedy=f"give {near}")
    return height, width


def _drawn_size(tokenizer: "ImageTokenizer", size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of what the tokens of a picture of a size are decoded to."""
    (height, width), (drawn_height, drawn_width) = tokenizer.image_size, tokenizer.drawn_size
    return size[0] * drawn_height // height, size[1] * drawn_width // width


def _reconstructed(
    tokenizer: "ImageTokenizer", size: tuple[int, int], path: Path, picture: "Image.Image"
) -> tuple[dict[str, Any], tuple[Tile, Tile, Tile]]:
    """Return the figures of a picture that is encoded at a size, and its three tiles on the sheet from the top."""
    import torch
    import torch.nn.functional as F

    from trencadis.data.pixels import to_pillow, to_tensor
    from trencadis.image import psnr, ssim
    from trencadis.image.metrics import WINDOW_SIZE
    from trencadis.memory import in_memory

    original = to_tensor(picture)[None]
    with in_memory(f"reconstructing {path} at {size[1]}×{size[0]} pixels", remedy="give a smaller --image-size"):
        tokens = tokenizer.encode(F.interpolate(original, size, mode="area"))
        drawn = tokenizer.decode(tokens)
    decibels = float(psnr(drawn, original))
    figures = {
        "path": str(path),
        "exact": math.isinf(decibels),
        "psnr": None if math.isinf(decibels) else decibels,
        "ssim": float(ssim(drawn, original)) if min(picture.size) >= WINDOW_SIZE else None,
        "tokens": tokens[0].tolist(),
    }
    first, second, third = to_pillow(torch.cat([original, drawn, (DIFFERENCE_GAIN * (drawn - original)).abs()]))
    difference = f"difference\N{NO-BREAK SPACE}× {DIFFERENCE_GAIN}"
    return figures, ((first, printable(path.name)), (second, _label(figures)), (third, difference))


def _label(figures: dict[str, Any]) -> str:
    """Return the text below a reconstruction, with no line break inside a figure."""
    parts = [part.replace(" ", "\N{NO-BREAK SPACE}") for part in _figures(figures, 1, 2)]
    return ", ".join(parts).removeprefix("PSNR\N{NO-BREAK SPACE}")


def _figures(figures: dict[str, Any], psnr_decimals: int, ssim_decimals: int) -> list[str]:
    decibels, similarity = figures["psnr"], figures["ssim"]
    return [
        "PSNR exact" if decibels is None else f"PSNR {decibels:.{psnr_decimals}f} dB",
        *([] if similarity is None else [f"SSIM {similarity:.{ssim_decimals}f}"]),
    ]


def _print(found: list[dict[str, Any]], means: dict[str, Any]) -> None:
    for row in found:
        say("   ".join([row["path"], *_figures(row, 2, 3)]))
    if len(found) > 1:
        exact = sum(row["exact"] for row in found)
        note = f" (PSNR without the {exact} that are exact)" if 0 < exact < len(found) else ""
        say("   ".join([f"mean of {len(found):,}{note}", *_figures(means, 2, 3)]))


def _tile_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a tile: the pictures' aspect, and room for the label."""
    scale = min(max(max(size), SMALLEST_TILE), LARGEST_TILE) / max(size)
    height, width = (max(round(side * scale), 1) for side in size)
    return height, max(width, NARROWEST_TILE)
