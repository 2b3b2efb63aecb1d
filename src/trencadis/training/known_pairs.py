"""Which pairs a run has: chosen once, kept in its directory, and found again wherever its data is."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from trencadis.config import DataConfig
from trencadis.data import Curated, KeptPair, examine, fingerprint, open_source, require_kept, require_whole
from trencadis.data.check import left_out_line
from trencadis.errors import DataError, UserError
from trencadis.protocols import PairSource
from trencadis.randomness import derive_seed
from trencadis.run_directory import RunDirectory
from trencadis.storage import write_whole
from trencadis.training.run_pairs import RunPairs
from trencadis.training.same_pairs import Comparison, compare

VALIDATION_PAIRS = 256  # at most: enough for a mean, few enough to validate on a dozen times
ENOUGH_PAIRS = 32  # a small data set holds out this many,
LARGEST_SHARE = 0.1  # but no more than this share of it
DRAWN = 8  # the first held-out pairs, whose captions are drawn, stay the first ones
_NAMED = 5  # pairs in a message

Say = Callable[[str], None]
"""Takes a line for the user."""


def silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class KnownPairs:
    """The verdicts on all pairs, and the names of those that are held out, in the order they are measured on."""

    curated: Curated
    held_out: tuple[str, ...]

    def save(self, run: RunDirectory) -> None:
        content = asdict(self.curated) | {"held_out": self.held_out}
        write_whole(run.pairs, json.dumps(content, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, run: RunDirectory) -> "KnownPairs":
        """Read what `save` wrote; raises a `DataError` if it is absent or damaged."""
        curated = Curated.load(run.pairs)
        content = json.loads(run.pairs.read_text("utf-8"))
        if not isinstance(content.get("held_out"), list):
            remedy = "train into another --out"
            raise DataError(f"{run.pairs} is of an earlier version", expected="a split of the pairs", remedy=remedy)
        return cls(curated, tuple(content["held_out"]))

    def of(self, source: PairSource) -> RunPairs:
        """Return the pairs, whose indices are those of a source."""
        held_out = frozenset(self.held_out)
        by_name = {pair.sample_id: pair for pair in self.curated.kept}
        train = tuple(pair for pair in self.curated.kept if pair.sample_id not in held_out)
        validation = tuple(by_name[name] for name in self.held_out[:VALIDATION_PAIRS])
        return RunPairs(source, train, validation, len(self.curated.kept), self.curated.counts())


@dataclass(frozen=True)
class Grown:
    """The pairs of a run as they are in its data now. Those that stay are on the side of the split that they were on.

    Args:
        new: Pairs that the run did not have, or that have changed.
        absent: Pairs of the run that are gone or have changed.
    """

    pairs: RunPairs
    known: KnownPairs
    new: tuple[KeptPair, ...]
    absent: tuple[KeptPair, ...]


def read_pairs(
    config: DataConfig, seed: int, run: RunDirectory, say: Say = silent, *, before: RunDirectory | None = None
) -> RunPairs:
    """Open the dataset, filter it, and split it into training and validation pairs; say what is left out.

    The result does not depend on the order in which pairs are listed. It is kept in the run's directory, so that a
    resumed run does not read every picture again.

    Args:
        before: The run whose model is trained further. Pairs that it has too are on the side of the split that they are
            on there.

    Raises:
        DataError: The dataset cannot be used, or has fewer than two usable pairs.
    """
    known, source = _choose(config, seed, run)
    if before is not None:
        known = _split_as(before, known, source, seed)
    if line := left_out_line(known.curated):
        say(line)
    known.save(run)
    return known.of(source)


def resumed_pairs(config: DataConfig, seed: int, run: RunDirectory, say: Say = silent) -> RunPairs:
    """Return the pairs that a run was planned with, and say how many others there are by now.

    Raises:
        DataError: The dataset cannot be used, or pairs of the run are gone or have changed; the first are named.
    """
    known, source = _known(config, seed, run), _reopened(config, run)
    found = compare(known.curated, source)
    if found.absent:
        raise _absent(found, config.path, len(known.curated.kept))
    if count := sum(_has_caption(source, index) for index in found.unknown):
        say(f"pairs that came since the run was planned: {count:,}; they are trained on when it is continued")
    curated = replace(known.curated, kept=found.kept, dropped=found.dropped)
    return replace(known, curated=curated).of(source)


def grown_pairs(config: DataConfig, seed: int, run: RunDirectory) -> Grown:
    """Return the pairs that a run's data has now: those of the run first, then new ones. Nothing is written.

    Raises:
        DataError: The dataset cannot be used, or one side of the split would be empty.
    """
    before, source = _known(config, seed, run), _reopened(config, run)
    found = compare(before.curated, source)
    curated, judged = _judged(found, source, config)
    if config.strict:
        require_whole(curated)
    new = _renamed(sorted(judged, key=lambda pair: pair.sample_id), {pair.sample_id for pair in found.kept})
    curated = replace(curated, kept=found.kept + new)
    sides = dict.fromkeys((pair.sample_id for pair in curated.kept), False)
    sides |= dict.fromkeys(_held_out(curated, config, seed), True)
    sides |= {pair.sample_id: pair.sample_id in before.held_out for pair in before.curated.kept}
    there = {pair.sample_id for pair in curated.kept}
    # What is drawn of the first ones can be compared over the whole training.
    shown = tuple(name for name in before.held_out[:DRAWN] if name in there)
    others = (name for name, is_held_out in sides.items() if is_held_out and name in there - set(shown))
    known = KnownPairs(curated, shown + _mixed(others, seed))
    _require_both_sides(known, config)
    return Grown(known.of(source), known, new, found.absent)


def _choose(config: DataConfig, seed: int, run: RunDirectory) -> tuple[KnownPairs, PairSource]:
    source = open_source(config.path, config)
    try:
        known = Curated.load(run.pairs)  # of a start that was killed before it had planned
    except DataError:
        known = None
    if known is None or known.fingerprint != fingerprint(config.filters):
        known = Curated((), (), "")
    curated, _ = _judged(compare(known, source), source, config)
    curated = replace(curated, kept=tuple(sorted(curated.kept, key=lambda pair: pair.sample_id)))
    if config.strict:
        require_whole(curated)
    require_kept(curated)
    chosen = KnownPairs(curated, _mixed(_held_out(curated, config, seed), seed))
    _require_both_sides(chosen, config)
    return chosen, source


def _split_as(before: RunDirectory, known: KnownPairs, source: PairSource, seed: int) -> KnownPairs:
    """Return the pairs with those of another run on the side that they are on there, if both sides have some then."""
    try:
        others = KnownPairs.load(before)
    except DataError:
        return known
    names = frozenset(others.held_out)
    was = {pair.index: pair.sample_id in names for pair in compare(others.curated, source).kept}
    own = frozenset(known.held_out)
    kept = known.curated.kept
    held_out = [pair.sample_id for pair in kept if was.get(pair.index, pair.sample_id in own)]
    return replace(known, held_out=_mixed(held_out, seed)) if 0 < len(held_out) < len(kept) else known


def _has_caption(source: PairSource, index: int) -> bool:
    try:
        return bool(source.captions(index))
    except UserError:
        return False


def _reopened(config: DataConfig, run: RunDirectory) -> PairSource:
    try:
        return open_source(config.path, config)
    except DataError as error:
        remedy = f"name where the pictures are now, as in `trencadis train pictures --out {run.path}`"
        raise DataError(error.given, expected=error.expected, remedy=remedy) from error


def _known(config: DataConfig, seed: int, run: RunDirectory) -> KnownPairs:
    """Return the pairs of a run; if the file of them is gone or damaged, those of its data, if they are as many."""
    try:
        return KnownPairs.load(run)
    except DataError as damage:
        known, source = _choose(config, seed, run)
        if known.of(source).summary() == run.read_data():
            return known
        given = f"{damage.given}, and {config.path} holds other pairs than the run was planned with"
        remedy = "restore the file, or train into another --out"
        raise DataError(given, expected=damage.expected, remedy=remedy) from damage


def _judged(found: Comparison, source: PairSource, config: DataConfig) -> tuple[Curated, tuple[KeptPair, ...]]:
    """Return the verdicts that are known with those on all other pairs, and which of these are kept."""
    judged = examine(source, config.filters, indices=found.unknown, progress=True)
    return replace(judged, kept=found.kept + judged.kept, dropped=found.dropped + judged.dropped), judged.kept


def _held_out(curated: Curated, config: DataConfig, seed: int) -> list[str]:
    few = min(LARGEST_SHARE, ENOUGH_PAIRS / len(curated.kept))
    _, validation = curated.split(max(config.held_out, few), seed)
    return [pair.sample_id for pair in validation]


def _mixed(names: Iterable[str], seed: int) -> tuple[str, ...]:
    """Return names in random order, so that the first ones are a fair sample."""
    return tuple(sorted(names, key=lambda name: derive_seed(seed, "validation", name)))


def _renamed(pairs: Iterable[KeptPair], taken: set[str]) -> tuple[KeptPair, ...]:
    """Return new pairs under names that no other has; a known pair may have had its name before its data was joined."""
    renamed = []
    for pair in pairs:
        name, number = pair.sample_id, 1
        while name in taken:
            number += 1
            name = f"#{number}/{pair.sample_id}"
        taken.add(name)
        renamed.append(replace(pair, sample_id=name))
    return tuple(renamed)


def _require_both_sides(known: KnownPairs, config: DataConfig) -> None:
    if not 0 < len(known.held_out) < len(known.curated.kept):
        raise DataError(
            f"{len(known.curated.kept):,} usable pairs in {config.path}",
            expected="at least 2, one of them to measure on",
            remedy="add captioned pictures, or see what `trencadis data check` says was left out",
        )


def _absent(found: Comparison, path: str, count: int) -> DataError:
    shown = [
        f"{pair.sample_id} ({'changed' if pair.sample_id in found.changed else 'gone'})"
        for pair in found.absent[:_NAMED]
    ]
    more = f" and {len(found.absent) - _NAMED:,} more" if len(found.absent) > _NAMED else ""
    return DataError(
        f"{len(found.absent):,} of the run's {count:,} pairs are not in {path} as they were: {', '.join(shown)}{more}",
        expected="the pairs that the run was planned with",
        remedy="put them back, name the folder that they are in now, or train into another --out",
    )
