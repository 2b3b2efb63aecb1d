"""Finds the pairs that are known in a source that may list more, in another order, or under longer names."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from trencadis.data import Curated, Dropped, KeptPair, pair_stamp
from trencadis.protocols import PairSource


@dataclass(frozen=True)
class Comparison:
    """What became of known pairs in a source."""

    kept: tuple[KeptPair, ...]  # those that are there unchanged, in their order and by their names, at their new index
    dropped: tuple[Dropped, ...]  # the same of dropped ones
    absent: tuple[KeptPair, ...]  # kept ones that are gone or have changed
    changed: frozenset[str]  # the names of those absent ones that are there, but with other captions or pixels
    unknown: tuple[int, ...]  # where the source has pairs that are none of these


def compare(known: Curated, source: PairSource) -> Comparison:
    """Find the known pairs in a source: by captions, size of the picture, and as much of the name as both have.

    The name is the sample id. Where a data set is joined with others, or its shards are, it gets longer in front.
    """
    if not known.kept and not known.dropped:  # of a new run: nothing has to be read yet
        return Comparison((), (), (), frozenset(), tuple(range(len(source))))
    stamps = [pair_stamp(source, index) for index in range(len(source))]
    names = [_name(source.sample_id(index)) for index in range(len(source))]
    everything: list[KeptPair | Dropped] = [*known.kept, *known.dropped]
    place = _places([(_name(pair.sample_id), pair.stamp) for pair in everything], list(zip(names, stamps, strict=True)))
    kept = tuple(replace(pair, index=place[n]) for n, pair in enumerate(known.kept) if n in place)
    dropped = tuple(
        replace(pair, index=place[n]) for n, pair in enumerate(known.dropped, len(known.kept)) if n in place
    )
    absent = tuple(pair for n, pair in enumerate(known.kept) if n not in place)
    taken, there = set(place.values()), set(names)
    changed = frozenset(pair.sample_id for pair in absent if _name(pair.sample_id) in there)
    unknown = tuple(index for index in range(len(source)) if index not in taken)
    return Comparison(kept, dropped, absent, changed, unknown)


def _name(sample_id: str) -> tuple[str, ...]:
    """Return the parts of a sample id; file systems differ in how they compose characters."""
    return tuple(unicodedata.normalize("NFC", sample_id).split("/"))


Pair = tuple[tuple[str, ...], str]  # name and stamp


def _places(known: Sequence[Pair], there: Sequence[Pair]) -> dict[int, int]:
    """Return where each known pair is: under its own name, else under the name that ends most alike."""
    index_of = {pair: index for index, pair in enumerate(there)}
    places = {number: index_of[pair] for number, pair in enumerate(known) if pair in index_of}
    taken = set(places.values())
    free: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, (name, stamp) in enumerate(there):
        if index not in taken:
            free[name[-1], stamp].append(index)
    rest = [number for number in range(len(known)) if number not in places]
    for number in sorted(rest, key=lambda number: known[number]):
        name, stamp = known[number]
        if candidates := free[name[-1], stamp]:
            best = min(candidates, key=lambda index: (-_shared_end(name, there[index][0]), there[index][0]))
            candidates.remove(best)
            places[number] = best
    return places


def _shared_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Return how many parts two names have in common at their end."""
    both = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], both))
