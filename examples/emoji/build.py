"""Build the styled-emoji dataset: about 19,000 pictures in eight styles, and recoloured ones, with captions.

    python examples/emoji/build.py --out emoji

The packages come from npm (`packages.py`), the captions from CLDR (`captions.py`). `DIR/train` and `DIR/heldout` each
get pictures and a `metadata.jsonl` that `trencadis` reads. The same versions give the same bytes.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import packages
from captions import captions
from catalog import Emoji, read_catalog
from icons import keyed, read_names
from packages import BuildError
from pictures import draw, encode, on_white
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from shapes import (
    COLOURS_EACH,
    PALETTE,
    SHAPE_WEIGHT,
    Coloured,
    can_recolour,
    colour_captions,
    colours_for,
    one_colour,
    plain_shapes,
    recolour,
)
from split import LATER_STYLES, Cells, Drawn, Split, find_cells, thumbnail

Drawings = dict[str, dict[str, bytes]]
SHORTCODES = ("cldr", "emojibase", "joypixels", "iamcal", "github")
"""Files of shortcodes in emojibase's package, the most literal first."""


@dataclass(frozen=True)
class Row:
    """One pair, before it is written.

    Attributes:
        name: File name without folder and extension.
        split: `train`, or why it is held out.
        picture: The encoded file.
        captions: The simplest first.
        weight: The share of epochs in which it appears, in (0, 1].
        notes: More fields of its line: style, concept, tone, gender, colour, licence.
    """

    name: str
    split: Split
    picture: bytes
    captions: Sequence[str]
    weight: float
    notes: dict[str, str]

    def as_json(self) -> str:
        """Its line of `metadata.jsonl`."""
        row = {"file_name": f"images/{self.name}.webp", "captions": list(self.captions), "weight": self.weight}
        kept = {key: value for key, value in self.notes.items() if value}
        split = {} if self.split == "train" else {"split": self.split}
        return json.dumps(row | kept | split, ensure_ascii=False)


@dataclass(frozen=True)
class Picture:
    """An emoji drawn in one style."""

    drawn: Drawn
    encoded: bytes
    own_colour: Coloured | None


def pictures(emoji: Sequence[Emoji], drawings: Drawings, size: int, done: Callable[[], None]) -> list[Picture]:
    """Draw every emoji in every style that has it: one style after the other, in catalogue order."""

    def one(job: tuple[Emoji, str]) -> Picture:
        item, style = job
        drawing = draw(drawings[style][item.key], style, size)
        flat = on_white(drawing)
        own = one_colour(drawing) if can_recolour(item) else None
        done()
        return Picture(Drawn(item, style, thumbnail(flat)), encode(flat), own)

    jobs = [(item, style) for style in sorted(drawings) for item in emoji if item.key in drawings[style]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, jobs))


def emoji_rows(drawn: Iterable[Picture], cells: Cells) -> Iterator[Row]:
    """The rows of the original drawings."""
    for picture in drawn:
        item, style = picture.drawn.emoji, picture.drawn.style
        split = cells.split_of(item, style)
        said = captions(item.label, item.tags, style)
        if picture.own_colour and picture.own_colour.name and not item.colour:
            said += colour_captions(item.label, picture.own_colour.name, style)[:2]
        yield Row(f"{style}-{item.key}", split, picture.encoded, said, item.weight, _notes(item, style))


def _notes(item: Emoji, style: str) -> dict[str, str]:
    return {
        "style": style,
        "label": item.label,
        "concept": item.concept,
        "tone": "/".join(item.tones),
        "gender": item.gender,
        "colour": item.colour,
        "licence": (packages.STYLES | packages.NAMED_STYLES)[style].licence,
    }


def coloured_rows(drawn: Sequence[Picture], drawings: Drawings, cells: Cells, size: int) -> Iterator[Row]:
    """Recoloured drawings of emoji with one clear colour in several styles; never of held-out pictures.

    The later styles are recoloured as the first ones are.
    """
    by_key: dict[str, list[tuple[str, Emoji, Coloured]]] = {}
    colours_of: dict[str, set[str]] = {}
    for picture in drawn:
        item, style = picture.drawn.emoji, picture.drawn.style
        if item.colour:
            colours_of.setdefault(item.concept, set()).add(item.colour)
        if picture.own_colour and cells.split_of(item, style) == "train":
            by_key.setdefault(item.key, []).append((style, item, picture.own_colour))
    for key, sources in by_key.items():
        deciding = [own for style, _, own in sources if style not in LATER_STYLES]
        if sum(own.name != "" for own in deciding) < 2:
            continue
        first = sources[0][1]
        concept = cells.concepts.name(first.concept)
        native = {own.nearest for own in deciding} | colours_of.get(first.concept, set())
        for colour in colours_for(concept, native, len(PALETTE) if first.colour else COLOURS_EACH):
            split: Split = "colour_cell" if cells.holds_colour(colour, concept) else "train"
            for style, item, own in sources:
                if own.nearest == colour:
                    continue
                drawing = recolour(draw(drawings[style][key], style, size), own, colour)
                said = colour_captions(item.concept if item.colour else item.label, colour, style)
                notes = _notes(item, style) | {"colour": colour}
                yield Row(f"{style}-{key}-{colour}", split, encode(on_white(drawing)), said, SHAPE_WEIGHT, notes)


def shape_rows(size: int) -> Iterator[Row]:
    """Plain coloured shapes."""
    for shape in plain_shapes():
        picture = encode(on_white(draw(shape.svg.encode(), "flat", size)))
        notes = {
            "style": "flat",
            "label": shape.shape,
            "concept": shape.shape,
            "colour": shape.colour,
            "licence": "CC0-1.0",
        }
        split: Split = "colour_cell" if shape.is_held else "train"
        yield Row(f"shape-{shape.name}", split, picture, shape.captions, SHAPE_WEIGHT, notes)


def write(rows: Iterable[Row], folder: Path) -> Counter[str]:
    """Write `train/` and `heldout/` under a folder and count the rows of each split."""
    counts: Counter[str] = Counter()
    lines: dict[str, list[str]] = {"train": [], "heldout": []}
    for name in lines:
        (folder / name / "images").mkdir(parents=True)
    for row in rows:
        side = "train" if row.split == "train" else "heldout"
        (folder / side / "images" / f"{row.name}.webp").write_bytes(row.picture)
        lines[side].append(row.as_json() + "\n")
        counts[row.split] += 1
    for name, written in lines.items():
        (folder / name / "metadata.jsonl").write_text("".join(written), encoding="utf-8")
    return counts


def build(emoji: Sequence[Emoji], drawings: Drawings, out: Path, size: int, progress: Progress) -> Counter[str]:
    """Draw, split and write; `out` appears only when it is complete.

    Raises:
        BuildError: `out` exists and is not empty.
    """
    refuse_occupied(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-building-"))
    try:
        total = sum(item.key in keys for keys in drawings.values() for item in emoji)
        task = progress.add_task("drawing", total=total)
        drawn = pictures(emoji, drawings, size, lambda: progress.advance(task))
        cells = find_cells([picture.drawn for picture in drawn])
        rows = [*emoji_rows(drawn, cells), *coloured_rows(drawn, drawings, cells, size), *shape_rows(size)]
        counts = write(progress.track(rows, description="writing"), folder)
        folder.chmod(0o755)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return counts


def refuse_occupied(out: Path) -> None:
    """Raise `BuildError` if `out` exists and is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BuildError(f"{out} exists and is not empty: name another folder with --out, or remove it")


def load(cache: Path, progress: Progress) -> tuple[list[Emoji], Drawings]:
    """Fetch the packages and read the catalogue and every drawing."""
    task = progress.add_task("fetching", total=1 + len(packages.STYLES) + len(packages.NAMED_STYLES))
    labels = packages.fetch(packages.LABELS, cache)
    emoji = read_catalog(packages.member(labels, "package/en/data.json"))
    shortcodes = (packages.member(labels, f"package/en/shortcodes/{name}.json") for name in SHORTCODES)
    names = read_names(((item.label, item.key) for item in emoji), shortcodes)
    progress.advance(task)
    drawings = packages.all_drawings(cache, lambda: progress.advance(task))
    for style, package in packages.NAMED_STYLES.items():
        drawings[style] = keyed(packages.icons_of(packages.fetch(package, cache)), names)
        progress.advance(task)
    return emoji, drawings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Build the styled-emoji dataset.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write: train/ and heldout/")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels, 16 to 512 (128)")
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "trencadis", "npm")
    parser.add_argument(
        "--cache", type=Path, default=default, metavar="DIR", help=f"where tarballs are kept ({default})"
    )
    options = parser.parse_args(arguments)
    if not 16 <= options.size <= 512:
        parser.error(f"--size is {options.size}, expected 16 to 512")
    columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    try:
        refuse_occupied(options.out)
        with Progress(*columns, console=console, transient=True) as progress:
            emoji, drawings = load(options.cache, progress)
            counts = build(emoji, drawings, options.out, options.size, progress)
    except BuildError as fault:
        print(f"build.py: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("build.py: interrupted, nothing was written", file=sys.stderr)
        return 130
    held = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if name != "train")
    print(f"{options.out}: {counts['train']:,} pairs to train on; held out: {held}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
