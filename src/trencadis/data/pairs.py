"""Which pairs of a source are kept, which are dropped, and what it could not offer as a pair; each with its reason."""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trencadis.errors import ConfigError, DataError
from trencadis.randomness import derive_seed, derive_uniform
from trencadis.storage import write_whole

# Why a source omits something.
OTHER_FORMAT = "picture of a format that is not read"
LONE_CAPTION = "caption without a picture"
UNLISTED = "picture that the table does not list"
LOOSE_PICTURE = "loose picture beside shards"
NO_FOLDER = "annotations without their pictures"
OTHER_DATASET = "another dataset in the folder"
BROKEN_ROW = "broken row"
DAMAGED_SHARD = "damaged shard"
COMPRESSED_SHARD = "compressed shard"
NO_FILE = "link in a shard"
SAME_KEY = "another picture of the same key"
DAMAGED_TABLE = "damaged table"

# A split's name begins the name of its folder or files: train2017, val, test-00000-of-00002.parquet.
_SPLIT = re.compile(r"(train|training)|(val|valid|validation|dev|test|testing)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Omitted:
    """Something captioned or pictorial that a source does not offer as a pair, and why; `detail` may be empty."""

    name: str
    reason: str
    detail: str = ""


@runtime_checkable
class ListedSource(Protocol):
    """A source that accounts for everything at its path. All sources of this package do."""

    @property
    def omitted(self) -> Sequence[Omitted]:
        """What is captioned or pictorial there and is not one of its pairs."""

    @property
    def held_out(self) -> Collection[int]:
        """Indices of the pairs that the dataset itself sets aside; empty where it has no split of its own."""


def split_of(name: str) -> str:
    """Return `train` or `held out` where a file or a folder of a path is named after a split; else an empty text."""
    words = (re.match(r"[A-Za-z]*", part) for part in name.split("/"))
    found = next(filter(None, (_SPLIT.fullmatch(word[0]) for word in words if word)), None)
    return "" if found is None else "train" if found[1] else "held out"


def held_out_names(names: Iterable[str]) -> frozenset[str]:
    """Return those names that are of a split which is held out; none where no other is for training."""
    splits = {name: split_of(name) for name in names}
    is_split = "train" in splits.values()
    return frozenset(name for name, split in splits.items() if is_split and split == "held out")


@dataclass(frozen=True, slots=True)
class KeptPair:
    """A pair that passed the filters.

    Args:
        captions: Those that passed; at least one.
        weight: Share of epochs in which it appears, in (0, 1].
        image_size: Height and width of its picture in pixels, upright.
        held_out: Whether the dataset itself sets it aside for validation.
        stamp: `curation.pair_stamp` of what was judged.
    """

    index: int
    sample_id: str
    captions: tuple[str, ...]
    weight: float
    image_size: tuple[int, int]
    held_out: bool = False
    stamp: str = field(default="", compare=False)

    def caption(self, seed: int, epoch: int) -> str:
        """Return the one of its captions that an epoch uses."""
        return self.captions[derive_seed(seed, epoch, self.sample_id, "caption") % len(self.captions)]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A pair that is left out, for one of a few reasons; `detail` says more about this pair and may be empty."""

    index: int
    sample_id: str
    reason: str
    detail: str
    stamp: str = field(default="", compare=False)  # as of a `KeptPair`


@dataclass(frozen=True)
class Curated:
    """The kept and the dropped pairs of a source, in its order, with the `curation.fingerprint` of the filters.

    What the source omits is beside them.
    """

    kept: tuple[KeptPair, ...]
    dropped: tuple[Dropped, ...]
    fingerprint: str
    omitted: tuple[Omitted, ...] = ()

    @property
    def left_out(self) -> tuple[Dropped | Omitted, ...]:
        """Everything captioned or pictorial that is not kept."""
        return self.dropped + self.omitted

    def counts(self) -> dict[str, int]:
        """Return how much is left out by each reason, most first."""
        return dict(Counter(one.reason for one in self.left_out).most_common())

    def split(self, held_out: float, seed: int) -> tuple[tuple[KeptPair, ...], tuple[KeptPair, ...]]:
        """Return pairs for training and pairs for validation: as the dataset splits them, else by a hash of sample ids.

        By hash, a pair stays on its side when others are added or removed. If one side would be empty and there are two
        pairs, it gets the one whose hash is nearest.

        Args:
            held_out: Share of the pairs for validation, in [0, 1).
            seed: Of the choice.

        Raises:
            ConfigError: `held_out` is out of its range.
        """
        if not 0 <= held_out < 1:
            raise ConfigError(f"held_out {held_out}", expected="0 or more and below 1", remedy="choose one in between")
        train, given = self._sides(lambda pair: pair.held_out)
        if train and given and held_out > 0:
            return train, given
        chances = [derive_uniform(seed, "held out", pair.sample_id) for pair in self.kept]
        limit = held_out
        if held_out > 0 and len(chances) > 1:
            ranked = sorted(chances)
            limit = min(held_out if ranked[0] < held_out else ranked[1], ranked[-1])
        held = {pair.sample_id for pair, chance in zip(self.kept, chances, strict=True) if chance < limit}
        return self._sides(lambda pair: pair.sample_id in held)

    def _sides(self, is_held_out: Callable[[KeptPair], bool]) -> tuple[tuple[KeptPair, ...], tuple[KeptPair, ...]]:
        held = [is_held_out(pair) for pair in self.kept]
        train = tuple(pair for pair, out in zip(self.kept, held, strict=True) if not out)
        return train, tuple(pair for pair, out in zip(self.kept, held, strict=True) if out)

    def save(self, path: str | Path) -> None:
        """Write a JSON file, whole or not at all."""
        write_whole(Path(path), json.dumps(asdict(self), ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Curated":
        """Read what `save` wrote.

        Raises:
            DataError: The file is absent or damaged.
        """
        try:
            content = json.loads(Path(path).read_text("utf-8"))
            kept = tuple(_kept_from_json(pair) for pair in content["kept"])
            dropped = tuple(Dropped(**pair) for pair in content["dropped"])
            omitted = tuple(Omitted(**one) for one in content["omitted"])
            return cls(kept, dropped, str(content["fingerprint"]), omitted)
        except (OSError, ValueError, KeyError, TypeError) as error:
            given = f"{path} cannot be read: {' '.join(str(error).split())[:100]}"
            raise DataError(given, expected="curated pairs as JSON", remedy="delete it; it is written again") from error


def _kept_from_json(pair: dict[str, Any]) -> KeptPair:
    height, width = pair["image_size"]
    return KeptPair(**{**pair, "captions": tuple(pair["captions"]), "image_size": (height, width)})
