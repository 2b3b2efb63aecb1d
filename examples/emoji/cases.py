"""What a model is asked to draw: captions of real pictures, and the other pictures that each drawing is compared with.

Everything here is a pure function of a picture's name, so every model gets the same captions, and the first 30 of 300
are those of a run with 30.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from trencadis.errors import DataError

CELLS = ("role_cell", "colour_cell", "style_cell")
GROUPS = ("seen", *CELLS, "concept")
OTHERS = 99
MOST_EVALUATED = 300
"""Captions of training pictures that an evaluation draws by default; it chooses the first ones."""

POOL = 200
"""Pictures of each style, from which the 99 others are drawn."""

SAME = 5e-4
"""Mean squared difference of 16×16 pixels in [0, 1], below which two pictures are one drawing."""

_SALT = "trencadis evaluation 1"


@dataclass(frozen=True)
class Picture:
    """A captioned picture of the dataset.

    Attributes:
        caption: The first of its captions that names its style.
        group: `seen`, or why it is held out.
        weight: The share of epochs in which it appears, in (0, 1].
    """

    path: Path
    caption: str
    group: str
    style: str
    concept: str
    weight: float

    @property
    def name(self) -> str:
        """Its file's name, the same in every build of the dataset."""
        return self.path.name


@dataclass(frozen=True)
class Case:
    """A caption to draw.

    Attributes:
        target: Index of its picture.
        others: Indices of pictures of the same style and other concepts.
    """

    target: int
    others: tuple[int, ...]


def read_dataset(data: Path) -> list[Picture]:
    """Read `train/` and `heldout/` of a build.

    Raises:
        DataError: They are not there, or are no build of this example.
    """
    found = []
    for folder in ("train", "heldout"):
        listing = data / folder / "metadata.jsonl"
        if not listing.is_file():
            expected = "a folder with train/ and heldout/"
            remedy = "build one with examples/emoji/build.py"
            raise DataError(f"{listing} is not there", expected=expected, remedy=remedy)
        try:
            for line in listing.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                captions = row["captions"]
                caption = next((each for each in captions if each.endswith(" style")), captions[0])
                group = row.get("split", "seen")
                place = listing.parent / row["file_name"]
                found.append(Picture(place, caption, group, row["style"], row["concept"], row["weight"]))
        except (ValueError, LookupError, TypeError) as error:
            expected = "lines with captions, style, concept and weight"
            given = f"{listing} has a line of another kind"
            raise DataError(given, expected=expected, remedy="build the dataset again") from error
    return found


def choose(pictures: Sequence[Picture], groups: Sequence[str], count: int) -> list[int]:
    """Choose pictures of some groups by a hash, in proportion to their weights, spread over concepts and styles.

    No concept comes twice before all have come once; within that, the styles take turns.

    Returns:
        Indices, `count` or as many as there are.
    """
    members = [at for at, one in enumerate(pictures) if one.group in groups]
    turns: dict[int, tuple[int, ...]] = dict.fromkeys(members, ())
    for key in (_concept, _style):
        counts: Counter[tuple[object, ...]] = Counter()
        for at in sorted(members, key=lambda at: (turns[at], _order(pictures[at]))):
            place = (turns[at], key(pictures[at]))
            turns[at] = (*turns[at], counts[place])
            counts[place] += 1
    return sorted(members, key=lambda at: (turns[at], _order(pictures[at])))[:count]


def chosen(pictures: Sequence[Picture], count: int) -> dict[str, list[int]]:
    """Return indices of the pictures whose captions are drawn, by group.

    There are `count` seen ones, `count` in the three kinds of held-out cells together, and a third of it of concepts
    never seen.
    """
    third = math.ceil(count / 3)
    return {group: choose(pictures, [group], count if group == "seen" else third) for group in GROUPS}


def spare(pictures: Sequence[Picture], count: int) -> list[int]:
    """Return indices of training pictures whose captions no evaluation draws: settings may be chosen on them."""
    return choose(pictures, ["seen"], MOST_EVALUATED + count)[MOST_EVALUATED:]


def pool(pictures: Sequence[Picture]) -> dict[str, list[int]]:
    """Return, for each style, indices of the pictures that others are drawn from."""
    styles = sorted({one.style for one in pictures})
    by_hash = sorted(range(len(pictures)), key=lambda at: _order(pictures[at], "pool"))
    return {style: [at for at in by_hash if pictures[at].style == style][:POOL] for style in styles}


def make_case(
    pictures: Sequence[Picture],
    target: int,
    candidates: Sequence[int],
    pixels: Callable[[Sequence[int]], Float[Tensor, "pictures 768"]],
) -> Case:
    """Choose the pictures that a drawing's target must beat, by a hash.

    Pictures with the target's drawing are left out: they are not wrong.

    Args:
        candidates: Pictures of the target's style.
        pixels: Their pixels at 16×16 in [0, 1].

    Raises:
        DataError: There are too few.
    """
    own = pictures[target]
    fit = [at for at in candidates if pictures[at].concept != own.concept]
    fit.sort(key=lambda at: _order(pictures[at], own.name))
    if fit:
        is_same = (pixels(fit) - pixels([target])).square().mean(1) < SAME
        fit = [at for at, same in zip(fit, is_same.tolist(), strict=True) if not same]
    if len(fit) < OTHERS:
        given = f"{len(fit)} pictures of other concepts in {own.style} style"
        raise DataError(given, expected=f"{OTHERS} or more", remedy="build the whole dataset")
    return Case(target, tuple(fit[:OTHERS]))


def first_seed(caption: str) -> int:
    """Return the seed of a caption's first candidate; the others have those that follow."""
    return int(_uniform("seed", caption) * 2**31)


def features_by_index(indices: Sequence[int], features: Tensor) -> Callable[[Sequence[int]], Tensor]:
    """Return a function from pictures' indices to their rows of `features`, whose rows are those of `indices`."""
    row_of = {index: row for row, index in enumerate(indices)}
    return lambda wanted: features[[row_of[index] for index in wanted]]


def _concept(picture: Picture) -> str:
    return picture.concept


def _style(picture: Picture) -> str:
    return picture.style


def _order(picture: Picture, purpose: str = "") -> float:
    """Return a number to sort by; the first ones are drawn in proportion to the weights."""
    return -math.log(_uniform(purpose, picture.name)) / picture.weight


def _uniform(*key: str) -> float:
    digest = hashlib.sha256("|".join((_SALT, *key)).encode()).digest()
    return (int.from_bytes(digest[:6]) + 1) / (2**48 + 1)
