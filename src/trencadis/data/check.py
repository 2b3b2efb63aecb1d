"""Figures of a dataset and a contact sheet, for `trencadis data check`."""

import base64
import html
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from trencadis.config import DataConfig, FilterConfig
from trencadis.data.contact_sheet import TILE_SIZE, contact_sheet, is_shown, titled
from trencadis.data.curation import DAMAGED
from trencadis.data.image_files import decode_picture
from trencadis.data.pairs import Curated, Dropped, Omitted
from trencadis.data.training_sheet import evenly, training_sections
from trencadis.errors import UserError
from trencadis.protocols import PairSource
from trencadis.spelling import counted, encodable, number_text
from trencadis.storage import SHEET_MARK, png_bytes

EXAMPLES = 5
_PAGE_HEAD = """<title>Contact sheet</title><style>
body {font: 14px/1.4 sans-serif; margin: 1em; color: #222; background: #fff}
div {display: flex; flex-wrap: wrap; gap: 12px}
figure {margin: 0; width: 128px; overflow-wrap: anywhere}
figure > :first-child {display: block; margin: 0 auto; max-width: 128px}
span {width: 128px; height: 128px; background: #ddd}
</style>"""
_SHEET_KEPT, _SHEET_DROPPED, _SHEET_COLUMNS = 64, 16, 8


@dataclass(frozen=True)
class Spread:
    least: float
    median: float
    most: float

    def __str__(self) -> str:
        return f"{number_text(self.least)} to {number_text(self.most)}, median {number_text(self.median)}"


@dataclass(frozen=True)
class Report:
    """The figures that `trencadis data check` prints.

    Captions and pictures are those of the kept pairs; spreads are None where no pair is kept. Sides are in pixels.

    Args:
        pairs: Those that are kept, and everything captioned or pictorial that is left out.
        held_out: Kept pairs that the dataset itself sets aside for validation.
        expected_per_epoch: Kept pairs in an average epoch, by their weights.
        dropped: How much is left out by each reason, most first.
        examples: Some of them by reason, all of those that are damaged: name and detail.
        aspect_ratios: Width over height.
    """

    pairs: int
    kept: int
    held_out: int
    expected_per_epoch: float
    dropped: dict[str, int]
    examples: dict[str, list[tuple[str, str]]]
    captions: int
    distinct_captions: int
    caption_chars: Spread | None
    caption_words: Spread | None
    captions_per_pair: Spread | None
    image_heights: Spread | None
    image_widths: Spread | None
    short_sides: Spread | None
    aspect_ratios: Spread | None


def report_of(curated: Curated) -> Report:
    captions = [caption for pair in curated.kept for caption in pair.captions]
    sizes = [pair.image_size for pair in curated.kept]
    return Report(
        pairs=len(curated.kept) + len(curated.left_out),
        kept=len(curated.kept),
        held_out=sum(pair.held_out for pair in curated.kept),
        expected_per_epoch=sum((pair.weight for pair in curated.kept), 0.0),
        dropped=curated.counts(),
        examples={reason: [(_name(one), one.detail) for one in some] for reason, some in _examples(curated).items()},
        captions=len(captions),
        distinct_captions=len(set(captions)),
        caption_chars=_spread([len(caption) for caption in captions]),
        caption_words=_spread([len(caption.split()) for caption in captions]),
        captions_per_pair=_spread([len(pair.captions) for pair in curated.kept]),
        image_heights=_spread([height for height, _ in sizes]),
        image_widths=_spread([width for _, width in sizes]),
        short_sides=_spread([min(size) for size in sizes]),
        aspect_ratios=_spread([width / height for height, width in sizes]),
    )


def _examples(curated: Curated) -> dict[str, list[Dropped | Omitted]]:
    examples: dict[str, list[Dropped | Omitted]] = {reason: [] for reason in curated.counts()}
    for one in curated.left_out:
        if one.reason in DAMAGED or len(examples[one.reason]) < EXAMPLES:
            examples[one.reason].append(one)
    return examples


def _name(one: Dropped | Omitted) -> str:
    return one.sample_id if isinstance(one, Dropped) else one.name


def left_out_line(curated: Curated) -> str:
    """Return one line that says how many are kept, and how many are left out by each reason; empty if none is."""
    if not curated.left_out:
        return ""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in curated.counts().items())
    return f"{counted(len(curated.kept), 'pair')}; left out: {counts} (`trencadis data check` names them)"


@dataclass(frozen=True)
class Section:
    """Pictures under a title, each with a label; None for those that cannot be read."""

    title: str
    images: list[Image.Image | None]
    labels: list[str]


def sections_of(source: PairSource, curated: Curated, filters: FilterConfig) -> list[Section]:
    """Return kept pairs, evenly over the source, and some that are left out."""
    kept = [(pair.index, pair.captions[0]) for pair in evenly(curated.kept, _SHEET_KEPT)]
    turns = zip_longest(*_examples(curated).values())  # the first of each reason, then the second of each, …
    examples = [one for turn in turns for one in turn if isinstance(one, Dropped)][:_SHEET_DROPPED]
    dropped = [(pair.index, f"{pair.reason}: {pair.sample_id}") for pair in examples]
    titled_tiles = (f"kept: {len(curated.kept):,}", kept), (f"left out: {len(curated.left_out):,}", dropped)
    return [
        Section(title, [_picture(source, index, filters) for index, _ in tiles], [label for _, label in tiles])
        for title, tiles in titled_tiles
        if tiles
    ]


def sheet_of(
    sections: Sequence[Section],
    source: PairSource,
    curated: Curated,
    config: DataConfig,
    image_size: tuple[int, int],
) -> Image.Image:
    """Return a picture with the sections, and with crops for training."""
    sheets = [(one.title, contact_sheet(one.images, one.labels, _SHEET_COLUMNS)) for one in sections]
    if curated.kept:
        sheets += training_sections(source, curated.kept, image_size, config, seed=0)
    return titled(sheets)


def page_of(sections: Sequence[Section]) -> str | None:
    """Return the sections as a web page where the sheet would show boxes: a browser has fonts for more scripts.

    None where the sheet shows every character.
    """
    if all(is_shown(label) for one in sections for label in one.labels):
        return None
    parts = [f'<!doctype html><meta charset="utf-8"><meta name="generator" content="{SHEET_MARK}">', _PAGE_HEAD]
    for one in sections:
        parts.append(f"<h2>{html.escape(one.title)}</h2><div>")
        for image, label in zip(one.images, one.labels, strict=True):
            parts.append(
                f"<figure>{_as_html(image)}<figcaption dir=auto>{html.escape(encodable(label))}</figcaption></figure>"
            )
        parts.append("</div>")
    return "\n".join(parts) + "\n"


def _as_html(image: Image.Image | None) -> str:
    if image is None:
        return "<span></span>"
    shown = image.copy()
    shown.thumbnail((TILE_SIZE, TILE_SIZE), Image.Resampling.LANCZOS)
    return f'<img src="data:image/png;base64,{base64.b64encode(png_bytes(shown)).decode()}" alt="">'


def report_lines(report: Report, path: str | Path) -> list[str]:
    left_out = report.pairs - report.kept
    lines = [f"{path}: {counted(report.pairs, 'pair')}, {report.kept:,} kept, {left_out:,} left out"]
    for reason, count in report.dropped.items():
        lines += ["", f"left out, {reason}: {count:,}"]
        lines += [f"    {name}" + (f"  ({detail})" if detail else "") for name, detail in report.examples[reason]]
        more = count - len(report.examples[reason])
        lines += [f"    and {more:,} more"] if more else []
    if report.captions_per_pair:
        per_pair = f"{report.captions_per_pair.least:g} to {report.captions_per_pair.most:g} a pair"
        lines += [
            "",
            f"captions: {report.captions:,}, {report.distinct_captions:,} of them different; {per_pair}",
            f"    characters: {report.caption_chars}",
            f"    words: {report.caption_words}",
            "",
            "pictures:",
            f"    width: {report.image_widths} pixels",
            f"    height: {report.image_heights} pixels",
            f"    width over height: {report.aspect_ratios}",
        ]
    if report.held_out:
        lines += ["", f"held out, as the dataset is split: {report.held_out:,} of the {report.kept:,} pairs"]
    if report.expected_per_epoch < report.kept - 0.5:
        lines += ["", f"weights: an epoch holds about {report.expected_per_epoch:,.0f} of the {report.kept:,} pairs"]
    return ["".join(character if character.isprintable() else "�" for character in line) for line in lines]


def _spread(values: Sequence[int | float]) -> Spread | None:
    return Spread(float(min(values)), float(statistics.median(values)), float(max(values))) if values else None


def _picture(source: PairSource, index: int, filters: FilterConfig) -> Image.Image | None:
    try:
        raw = source.image_bytes(index)
        return decode_picture(raw, max_image_pixels=filters.max_image_pixels, enough=2 * TILE_SIZE)
    except UserError:
        return None
