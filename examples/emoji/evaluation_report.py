"""An evaluation as JSON, as tables and as a sheet."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import GROUPS, Picture
from intervals import Figure
from measures import Judged, choices_of, groups_of
from PIL import Image, ImageDraw

from trencadis.data.contact_sheet import contact_sheet
from trencadis.storage import write_picture, write_whole

SHOWN = 48
RIGHT, WRONG = "#2a9d3a", "#c62828"
TILE, FRAME = 128, 5
NAMES = {
    "seen": "seen captions",
    "cells": "held-out cells, all three",
    "role_cell": "held-out roles",
    "colour_cell": "held-out colours",
    "style_cell": "held-out styles",
    "concept": "concepts never seen",
    "first": "first",
    "clip": "best by CLIP",
    "likelihood": "best by likelihood",
    "both": "best by both",
    "log_probability": "best by ln p(picture given caption)",
    "mean": "mean of all",
    "any": "any (upper bound)",
}


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write everything that was measured."""
    write_whole(path, json.dumps(report, indent=1, ensure_ascii=False, default=dataclasses.asdict) + "\n")


def markdown(report: dict[str, Any], judged: Sequence[Judged]) -> str:
    """Return the tables of a report."""
    settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items() if value is not None)
    lines = [f"# Evaluation of {report['model']}", "", f"Model {report['model_sha256'][:12]}; {settings}.", ""]
    lines += ["Right among 100 real pictures of the style, in per cent, with 95 % intervals.", ""]
    figures = {(row["judge"], row["group"], row["choice"], row["top"]): row["share"] for row in report["shares"]}
    choices, groups = choices_of(judged), groups_of(judged)
    for judge in judged[0].places:
        for top in (1, 5):
            lines += [f"## Top-{top} by {judge}", "", _row(["", "captions", *[_name(each) for each in choices]])]
            lines += [_row(["---"] * (len(choices) + 2))]
            for group, members in groups.items():
                cells = [str(figures[judge, group, choice, top]) for choice in choices]
                lines.append(_row([_name(group), str(len(members)), *cells]))
            lines.append("")
    lines += _bounds(report) + _gains(report)
    lines += ["## Bits per image token of real pictures", "", _row(["captions", "bits"]), _row(["---"] * 2)]
    lines += [_row([_name(group), f"{bits:.2f}"]) for group, bits in report["bits_per_token"].items()]
    about = "Pictures at most a third as far from one training picture as from the next, by 16×16 pixels, in per cent."
    lines += ["", "## Copies", "", about, "", _row(["pictures", "share"]), _row(["---"] * 2)]
    lines += [_row([name, _text(figure)]) for name, figure in report["copies"].items()]
    return "\n".join(lines) + "\n"


def _bounds(report: dict[str, Any]) -> list[str]:
    judges = list(report["ceiling"])
    lines = ["## Bounds, top-1", "", _row(["", *judges]), _row(["---"] * (1 + len(judges)))]
    about = {"ceiling": "real pictures through the image tokenizer", "floor": "drawings of another caption"}
    lines += [_row([said, *[_text(report[name][judge]) for judge in judges]]) for name, said in about.items()]
    return [*lines, _row(["chance", *["1"] * len(judges)]), ""]


def _gains(report: dict[str, Any]) -> list[str]:
    rows = [row for row in report["gains"] if row["group"] in ("seen", "cells")]
    lines = ["## What a ranker adds to the first, top-1", "", "In percentage points.", ""]
    lines += [_row(["judge", "captions", "choice", "gain"]), _row(["---"] * 4)]
    return [
        *lines,
        *[_row([row["judge"], _name(row["group"]), _name(row["choice"]), _text(row["gain"])]) for row in rows],
        "",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _name(key: str) -> str:
    return NAMES.get(key, key)


def _text(figure: Figure | None) -> str:
    return "–" if figure is None else str(figure)


def shown(judged: Sequence[Judged]) -> list[Judged]:
    """Return captions for the sheet: as many of each group as there is room for."""
    by_group = [[one for one in judged if one.group == group] for group in GROUPS]
    present = [members for members in by_group if members]
    return [one for members in present for one in members[: max(1, SHOWN // len(present))]]


def sheet(rows: Sequence[tuple[Picture, Image.Image, Image.Image, Image.Image, bool, bool]]) -> Image.Image:
    """Return a sheet of rows of captions: the real picture, the first drawing and the best one.

    Args:
        rows: Picture, its image, the first drawing, the best one, and whether the two drawings are right.
    """
    tiles: list[Image.Image] = []
    labels: list[str] = []
    for picture, real, first, best, first_right, best_right in rows:
        tiles += [_framed(real, None), _framed(first, first_right), _framed(best, best_right)]
        labels += [picture.caption, "first", f"best ({_name(picture.group)})"]
    return contact_sheet(tiles, labels, 12, tile_size=TILE, label_lines=2)


def _framed(image: Image.Image, is_right: bool | None) -> Image.Image:
    tile = image.resize((TILE, TILE), Image.Resampling.LANCZOS)
    if is_right is not None:
        box = (0, 0, TILE - 1, TILE - 1)
        ImageDraw.Draw(tile).rectangle(box, outline=RIGHT if is_right else WRONG, width=FRAME)
    return tile


def write_report(out: Path, report: dict[str, Any], judged: Sequence[Judged], picture: Image.Image) -> str:
    """Write `evaluation.json`, `evaluation.md` and `sheet.png`; returns the tables."""
    tables = markdown(report, judged)
    write_json(out / "evaluation.json", report)
    write_whole(out / "evaluation.md", tables)
    write_picture(out / "sheet.png", picture)
    return tables
