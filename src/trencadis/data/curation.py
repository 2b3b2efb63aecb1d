"""Which pairs are trained on, and why the others are left out."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from trencadis.config import FilterConfig
from trencadis.data.caption_filters import CaptionFilter
from trencadis.data.files import SizedSource
from trencadis.data.image_files import decode_picture, picture_size
from trencadis.data.pairs import (
    BROKEN_ROW,
    COMPRESSED_SHARD,
    DAMAGED_SHARD,
    DAMAGED_TABLE,
    Curated,
    Dropped,
    KeptPair,
    ListedSource,
)
from trencadis.data.prefetch import prefetch
from trencadis.errors import DataError, PictureError, UserError
from trencadis.memory import in_memory
from trencadis.progress import track
from trencadis.protocols import PairSource

NO_CAPTION = "no caption"
UNREADABLE_CAPTION = "unreadable caption"
NO_PICTURE = "no picture"
UNREADABLE_PICTURE = "unreadable picture"
TOO_MANY_PIXELS = "too many pixels"
TOO_SMALL = "picture too small"
TOO_NARROW = "picture too narrow"
TOO_WIDE = "picture too wide"
# What is at fault in itself, whatever the filters are.
DAMAGED = frozenset(
    {BROKEN_ROW, COMPRESSED_SHARD, DAMAGED_SHARD, DAMAGED_TABLE, UNREADABLE_CAPTION, UNREADABLE_PICTURE, NO_PICTURE}
)
# Pixels of the short edge at which a picture is decoded to see whether it is whole, where the format allows it.
_JUDGED_SIDE = 64
_DETAIL_CHARS = 200
_STAMP_CHARS = 16  # 64 bits: two captions of one picture differ in them


def curate(source: PairSource, filters: FilterConfig, *, progress: bool = False) -> Curated:
    """Judge each pair of a source: its captions, and its picture, which is decoded.

    Raises:
        DataError: Nothing is left.
    Source: Ramesh et al. 2021, section 2.3.
    """
    curated = examine(source, filters, progress=progress)
    require_kept(curated)
    return curated


def require_kept(curated: Curated) -> None:
    """Raise a `DataError` with the count of each reason if no pair is kept."""
    if curated.kept:
        return
    counts = ", ".join(f"{count:,} {reason}" for reason, count in curated.counts().items())
    given = f"none of {len(curated.left_out):,} pairs is left ({counts})" if counts else "the dataset has no pair"
    remedy = "run `trencadis data check` to see which, then loosen the filters or correct the data"
    raise DataError(given, expected="at least one captioned picture", remedy=remedy)


def require_whole(curated: Curated) -> None:
    """Raise a `DataError` that names what is damaged, if anything is."""
    damaged = [one for one in curated.left_out if one.reason in DAMAGED]
    if not damaged:
        return
    first = damaged[0]
    name = first.sample_id if isinstance(first, Dropped) else first.name
    more = f", and {len(damaged) - 1:,} more" if len(damaged) > 1 else ""
    given = f"{first.reason}: {name}" + (f" ({first.detail})" if first.detail else "") + more
    remedy = "correct what `trencadis data check` lists, or leave it out without strict"
    raise DataError(given, expected="nothing damaged, as strict is asked", remedy=remedy)


def examine(
    source: PairSource, filters: FilterConfig, *, indices: Sequence[int] | None = None, progress: bool = False
) -> Curated:
    """Judge each pair, or those of some indices, as `curate` does; return the verdicts even if nothing is left."""
    judge = partial(_judge, source, filters, CaptionFilter(filters))
    indices = range(len(source)) if indices is None else indices
    verdicts: Iterable[KeptPair | Dropped] = prefetch(judge, indices, ahead=64)
    if progress:
        verdicts = track(verdicts, "checking pairs", len(indices))
    judged = list(verdicts)
    kept = tuple(pair for pair in judged if isinstance(pair, KeptPair))
    dropped = tuple(pair for pair in judged if isinstance(pair, Dropped))
    if isinstance(source, ListedSource):
        kept = tuple(replace(pair, held_out=pair.index in source.held_out) for pair in kept)
        return Curated(kept, dropped, fingerprint(filters), tuple(source.omitted))
    return Curated(kept, dropped, fingerprint(filters))


class _UnfitError(Exception):
    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail


def _judge(source: PairSource, filters: FilterConfig, caption_filter: CaptionFilter, index: int) -> KeptPair | Dropped:
    sample_id, stamp = source.sample_id(index), pair_stamp(source, index)
    try:
        with in_memory(f"judging {sample_id}"):
            captions = _fitting_captions(source, index, caption_filter)
            image_size = _fitting_size(source, index, filters)
    except _UnfitError as unfit:
        return Dropped(index, sample_id, unfit.reason, unfit.detail, stamp)
    return KeptPair(index, sample_id, captions, source.weight(index), image_size, stamp=stamp)


def _fitting_captions(source: PairSource, index: int, caption_filter: CaptionFilter) -> tuple[str, ...]:
    try:
        captions = source.captions(index)
    except UserError as error:
        raise _UnfitError(UNREADABLE_CAPTION, error.given) from error
    if not captions:
        raise _UnfitError(NO_CAPTION)
    verdicts = [caption_filter.judge(caption) for caption in captions]
    fitting = tuple(verdict.caption for verdict in verdicts if verdict.fault is None)
    if not fitting:
        raise _UnfitError(verdicts[0].fault or "", captions[0][:_DETAIL_CHARS])
    return fitting


def _fitting_size(source: PairSource, index: int, filters: FilterConfig) -> tuple[int, int]:
    try:
        raw = source.image_bytes(index)
    except UserError as error:
        raise _UnfitError(NO_PICTURE, error.given) from error
    try:
        height, width = picture_size(raw)
        fault = _size_fault(height, width, filters)
        if fault is not None:
            raise _UnfitError(fault, f"{width:,} × {height:,}")
        decode_picture(raw, max_image_pixels=filters.max_image_pixels, enough=_JUDGED_SIDE)
    except PictureError as error:
        raise _UnfitError(UNREADABLE_PICTURE, error.given) from error
    return height, width


def _size_fault(height: int, width: int, filters: FilterConfig) -> str | None:
    if height * width > filters.max_image_pixels:
        return TOO_MANY_PIXELS
    if min(height, width) < filters.min_image_side:
        return TOO_SMALL
    if width < filters.min_aspect_ratio * height:
        return TOO_NARROW
    if width > filters.max_aspect_ratio * height:
        return TOO_WIDE
    return None


def fingerprint(filters: FilterConfig) -> str:
    """Return a SHA-256 of the filters: verdicts of the same filters hold for the same pairs."""
    return hashlib.sha256(repr(filters).encode()).hexdigest()


def pair_stamp(source: PairSource, index: int) -> str:
    """Return what tells whether a pair has changed: a hash of its captions and weight, and its picture's size in bytes.

    It is the same for a copy of the pair, for its captions in another order, and on another machine.
    """
    captions: list[str] | None = None
    with suppress(UserError):
        captions = sorted(source.captions(index))
    size_bytes = source.image_size_bytes(index) if isinstance(source, SizedSource) else None
    digest = hashlib.sha256(repr((captions, source.weight(index))).encode()).hexdigest()
    return f"{digest[:_STAMP_CHARS]}-{size_bytes}"
