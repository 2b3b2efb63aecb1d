"""Figures of a dataset and a contact sheet, for `trencadis data check`."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from trencadis.config import DataConfig, FilterConfig
from trencadis.data.contact_sheet import TILE_SIZE, contact_sheet, titled
from trencadis.data.image_files import decode_picture
from trencadis.data.pairs import Curated, Dropped
from trencadis.data.training_sheet import evenly, training_sections
from trencadis.errors import UserError
from trencadis.protocols import PairSource
from trencadis.spelling import number_text

EXAMPLES = 5
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
        expected_per_epoch: Kept pairs in an average epoch, by their weights.
        dropped: Number of pairs left out by each reason, most first.
        examples: Some of them by reason: name and detail.
        aspect_ratios: Width over height.
    """

    pairs: int
    kept: int
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
        pairs=len(curated.kept) + len(curated.dropped),
        kept=len(curated.kept),
        expected_per_epoch=sum((pair.weight for pair in curated.kept), 0.0),
        dropped=curated.counts(),
        examples={
            reason: [(pair.sample_id, pair.detail) for pair in pairs] for reason, pairs in _examples(curated).items()
        },
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


def _examples(curated: Curated) -> dict[str, list[Dropped]]:
    examples: dict[str, list[Dropped]] = {reason: [] for reason in curated.counts()}
    for pair in curated.dropped:
        if len(examples[pair.reason]) < EXAMPLES:
            examples[pair.reason].append(pair)
    return examples


def sheet_of(source: PairSource, curated: Curated, config: DataConfig, image_size: tuple[int, int]) -> Image.Image:
    """Return a page with kept pairs, evenly over the source, some that are left out, and crops for training."""
    kept = [(pair.index, pair.captions[0]) for pair in evenly(curated.kept, _SHEET_KEPT)]
    turns = zip_longest(*_examples(curated).values())  # the first of each reason, then the second of each, …
    examples = [pair for turn in turns for pair in turn if pair is not None][:_SHEET_DROPPED]
    dropped = [(pair.index, f"{pair.reason}: {pair.sample_id}") for pair in examples]
    sections = []
    for title, tiles in ((f"kept: {len(curated.kept):,}", kept), (f"left out: {len(curated.dropped):,}", dropped)):
        if tiles:
            images = [_picture(source, index, config.filters) for index, _ in tiles]
            sections.append((title, contact_sheet(images, [label for _, label in tiles], _SHEET_COLUMNS)))
    if curated.kept:
        sections += training_sections(source, curated.kept, image_size, config, seed=0)
    return titled(sections)


def report_lines(report: Report, path: str | Path) -> list[str]:
    left_out = report.pairs - report.kept
    lines = [f"{path}: {report.pairs:,} pairs, {report.kept:,} kept, {left_out:,} left out"]
    for reason, count in report.dropped.items():
        lines += ["", f"left out, {reason}: {count:,}"]
        lines += [f"    {name}" + (f"  ({detail})" if detail else "") for name, detail in report.examples[reason]]
        lines += [f"    and {count - EXAMPLES:,} more"] if count > EXAMPLES else []
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
