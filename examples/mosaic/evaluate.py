"""Measure a model on every claim, with the judge."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mosaic import measures
from mosaic.claims import Case, all_cases
from mosaic.draw import draw
from mosaic.drawings import PROTOCOL, Artist
from mosaic.judge import read
from mosaic.report import markdown
from mosaic.scenes import scene
from trencadis import DALLE
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow, to_tensor
from trencadis.image.metrics import psnr
from trencadis.storage import write_picture, write_whole

JUDGE_SEED = 1
SHOWN = 4
RIGHT, WRONG, FRAME, TILE = "#2a9d3a", "#c62828", 4, 96


def evaluate(model: DALLE, out: Path, *, captions: int, candidates: int, scenes: int) -> str:
    """Draw, judge, write `evaluation.json`, `evaluation.md` and `sheet.png` into `out`, and return the tables.

    Args:
        captions: Of each claim.
        candidates: Drawings of each caption.
        scenes: Real pictures that the judge is measured on, as they are and through the image tokenizer.

    Raises:
        UserError: The model or `out` cannot be used.
    """
    cases = all_cases(captions)
    artist = Artist(model, candidates=candidates, folder=out / "drawings")
    drawn = artist.draw(cases)
    report: dict[str, Any] = {
        "protocol": PROTOCOL,
        "model": model.name or "a model",
        "model_sha256": model.digest(),
        "settings": asdict(model.sampling)
        | {"weights": model.weights, "captions": captions, "candidates": candidates, "scenes": scenes},
        "shares": measures.shares(cases, drawn, candidates),
        "parts": measures.parts(cases, drawn),
        "variety": measures.variety(cases, drawn),
        "judge": judge_on(scenes, lambda pictures: _rebuilt(artist, pictures)),
    }
    text = markdown(report)
    write_whole(out / "evaluation.json", json.dumps(report | {"judge": _listed(report["judge"])}, default=_plain))
    write_whole(out / "evaluation.md", text)
    write_picture(out / "sheet.png", _sheet(cases, artist))
    return text


def judge_on(
    count: int, rebuilt: Callable[[Sequence[Image.Image]], list[Image.Image]] | None = None
) -> dict[str, dict[str, Any]]:
    """Measure the judge on whole scenes, and on the same after `rebuilt`.

    Returns:
        For each: the share of scenes read without a fault, the confusions, and the mean PSNR in decibels.
    """
    scenes = [scene(JUDGE_SEED, index) for index in range(count)]
    real = [draw(each) for each in scenes]
    kinds = {"real": real} | ({"reconstructed": rebuilt(real)} if rebuilt else {})
    found = {}
    for name, pictures in kinds.items():
        right, confused = measures.judge_itself(scenes, pictures, read)
        error = None if pictures is real else decibels(pictures, real)
        found[name] = {"share": right, "confused": confused, "decibels": error}
    return found


def decibels(pictures: Sequence[Image.Image], others: Sequence[Image.Image]) -> float:
    """Return the mean peak signal-to-noise ratio of pictures of one size, in decibels."""
    images, originals = (torch.stack([to_tensor(each) for each in side]) for side in (pictures, others))
    return float(psnr(images, originals).mean())


@torch.inference_mode()
def _rebuilt(artist: Artist, pictures: Sequence[Image.Image]) -> list[Image.Image]:
    tokenizer = artist.model.image_tokenizer
    height, width = tokenizer.image_size
    found: list[Image.Image] = []
    for start in range(0, len(pictures), 32):
        fitted = [picture.resize((width, height)) for picture in pictures[start : start + 32]]
        images = artist.images(tokenizer.encode(torch.stack([to_tensor(each) for each in fitted])))
        found += [each.resize(pictures[0].size) for each in to_pillow(images)]
    return found


def _sheet(cases: Sequence[Case], artist: Artist) -> Image.Image:
    """Return the first drawings of some captions of each claim, framed green if right."""
    tiles, labels = [], []
    for own in measures.by_claim(cases).values():
        for case in own[:SHOWN]:
            kept = artist.draw([case])[case.name]
            image = to_pillow(artist.images(artist.grid(kept.tokens[:1])))[0]
            tile = Image.new("RGB", (TILE, TILE), RIGHT if kept.right[0] else WRONG)
            tile.paste(image.resize((TILE - 2 * FRAME, TILE - 2 * FRAME), Image.Resampling.LANCZOS), (FRAME, FRAME))
            tiles.append(tile)
            labels.append(case.caption)
    return contact_sheet(tiles, labels, 2 * SHOWN, tile_size=TILE)


def _listed(judged: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    def rows(confused: Counter[tuple[str, str, str]]) -> list[list[Any]]:
        return [[*key, count] for key, count in confused.most_common()]

    return {name: one | {"confused": rows(one["confused"])} for name, one in judged.items()}


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value)
