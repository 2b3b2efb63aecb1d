"""The result of curation: which pairs are kept, and which are dropped and why."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trencadis.errors import ConfigError, DataError
from trencadis.randomness import derive_seed, derive_uniform
from trencadis.storage import write_whole


@dataclass(frozen=True, slots=True)
class KeptPair:
    """A pair that passed the filters.

    Args:
        captions: Those that passed; at least one.
        weight: Share of epochs in which it appears, in (0, 1].
        image_size: Height and width of its picture in pixels, upright.
        stamp: `curation.pair_stamp` of what was judged.
    """

    index: int
    sample_id: str
    captions: tuple[str, ...]
    weight: float
    image_size: tuple[int, int]
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
    """The kept and the dropped pairs of a source, in its order, with the `curation.fingerprint` of the filters."""

    kept: tuple[KeptPair, ...]
    dropped: tuple[Dropped, ...]
    fingerprint: str

    def counts(self) -> dict[str, int]:
        """Return the number of dropped pairs by reason, most first."""
        return dict(Counter(pair.reason for pair in self.dropped).most_common())

    def split(self, held_out: float, seed: int) -> tuple[tuple[KeptPair, ...], tuple[KeptPair, ...]]:
        """Return pairs for training and pairs for validation, chosen by a hash of the sample id.

        A pair stays on its side when others are added or removed. If one side would be empty and there are two pairs,
        it gets the one whose hash is nearest.

        Args:
            held_out: Share of the pairs for validation, in [0, 1).
            seed: Of the choice.

        Raises:
            ConfigError: `held_out` is out of its range.
        """
        if not 0 <= held_out < 1:
            raise ConfigError(f"held_out {held_out}", expected="0 or more and below 1", remedy="choose one in between")
        chances = [derive_uniform(seed, "held out", pair.sample_id) for pair in self.kept]
        limit = held_out
        if held_out > 0 and len(chances) > 1:
            ranked = sorted(chances)
            limit = min(held_out if ranked[0] < held_out else ranked[1], ranked[-1])
        pairs = list(zip(self.kept, chances, strict=True))
        train = tuple(pair for pair, chance in pairs if chance >= limit)
        return train, tuple(pair for pair, chance in pairs if chance < limit)

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
            return cls(kept, tuple(Dropped(**pair) for pair in content["dropped"]), str(content["fingerprint"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            given = f"{path} cannot be read: {' '.join(str(error).split())[:100]}"
            raise DataError(given, expected="curated pairs as JSON", remedy="delete it; it is written again") from error


def _kept_from_json(pair: dict[str, Any]) -> KeptPair:
    height, width = pair["image_size"]
    return KeptPair(**{**pair, "captions": tuple(pair["captions"]), "image_size": (height, width)})
