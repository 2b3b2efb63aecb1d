"""`trencadis reconstruct`: pictures to tokens and back, side by side."""

import json
from pathlib import Path

import jsonargparse

from trencadis.cli.arguments import existing_file

HELP = "shows what is left of pictures once they are tokens"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", type=existing_file(), help="PNG, JPEG or WebP")
    add("--model", type=str, default="emoji", help="a shipped model, a model directory, or a hub id such as owner/name")
    add("--out", type=Path, default="reconstructed.png", help="file for the sheet: originals above reconstructions")
    add("--json", action="store_true", help="print each picture's fidelity and tokens as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    """Write the sheet and print each picture's PSNR and SSIM."""
    import torch
    from PIL import Image, ImageOps

    from trencadis.data import read_picture
    from trencadis.data.pixels import to_pillow, to_tensor
    from trencadis.data.sheet import contact_sheet
    from trencadis.image import psnr, ssim
    from trencadis.image.loading import load_image_tokenizer
    from trencadis.model_directory import find_model
    from trencadis.storage import write_picture

    paths: list[Path] = arguments.images
    pictures = [read_picture(path) for path in paths]
    directory = find_model(arguments.model)
    tokenizer = load_image_tokenizer(directory / "image" if (directory / "image").is_dir() else directory)
    height, width = tokenizer.image_size
    fitted = [to_tensor(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)) for picture in pictures]
    tokens = [tokenizer.encode(original[None]) for original in fitted]
    drawn = torch.cat([tokenizer.decode(grid) for grid in tokens])
    originals = torch.stack(fitted)
    rows = [
        {"path": str(path), "psnr": p, "ssim": s, "tokens": grid[0].tolist()}
        for path, p, s, grid in zip(
            paths, psnr(drawn, originals).tolist(), ssim(drawn, originals).tolist(), tokens, strict=True
        )
    ]
    labels = [path.name for path in paths] + [f"{row['psnr']:.1f} dB, SSIM {row['ssim']:.2f}" for row in rows]
    write_picture(arguments.out, contact_sheet(to_pillow(torch.cat([originals, drawn])), labels, len(paths)))
    if arguments.json:
        print(json.dumps({"sheet": str(arguments.out), "pictures": rows}, ensure_ascii=False))
    else:
        for row in rows:
            print(f"{row['path']}   PSNR {row['psnr']:.2f} dB   SSIM {row['ssim']:.3f}")
        print(f"{arguments.out}   originals above reconstructions")
    return 0
