"""The pairs at a path that the user names."""

import glob
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trencadis.data.coco import is_coco, is_cub, open_coco, open_cub
from trencadis.data.files import SizedSource, open_folder, unreadable
from trencadis.data.pairs import ListedSource
from trencadis.data.shards import ShardsSource, shortest_distinct_names
from trencadis.data.table import TABLE_NAMES, open_table
from trencadis.errors import DataError
from trencadis.protocols import PairSource

SEPARATOR = "::"
_EXPECTED = "a folder, a metadata table, a tar shard, or a glob or brace range of shards"
_COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_EXPANSIONS = 1_000_000


def open_source(path: str) -> PairSource:
    """Return the pairs at a path.

    Args:
        path: A folder of pictures with `.txt` captions beside them; a folder with `metadata.jsonl`, `.csv` or
            `.parquet`, or such a table itself; MS-COCO's or CUB-200's folder; a folder of tar shards; a shard, a glob
            (`shards/*.tar`) or a brace range (`shards/{000..099}.tar`); or several of these, separated by `::`.

    Raises:
        DataError: There is nothing, or nothing of these kinds.
    """
    places = [place for part in path.split(SEPARATOR) for place in _expand(part)]
    if len(places) == 1:
        return _open_one(places[0])
    if all(_is_shard(place) for place in places):
        return ShardsSource(places)
    return JoinedSource([_open_one(place) for place in places], shortest_distinct_names(places))


class JoinedSource:
    """The pairs of several sources, one after the other; a `PairSource`. Sample ids begin with the source's name."""

    def __init__(self, sources: Sequence[PairSource], names: Sequence[str]) -> None:
        self._names, self._sources = tuple(names), tuple(sources)
        self._places = [(part, index) for part, source in enumerate(sources) for index in range(len(source))]
        listed = [
            (name, source) for name, source in zip(names, sources, strict=True) if isinstance(source, ListedSource)
        ]
        self.omitted = tuple(
            replace(one, name=f"{name}/{one.name}") for name, source in listed for one in source.omitted
        )
        held_out = [source.held_out if isinstance(source, ListedSource) else () for source in sources]
        self.held_out = frozenset(at for at, (part, index) in enumerate(self._places) if index in held_out[part])

    def __len__(self) -> int:
        return len(self._places)

    def sample_id(self, index: int) -> str:
        part, place = self._places[index]
        return f"{self._names[part]}/{self._sources[part].sample_id(place)}"

    def captions(self, index: int) -> tuple[str, ...]:
        part, place = self._places[index]
        return self._sources[part].captions(place)

    def weight(self, index: int) -> float:
        part, place = self._places[index]
        return self._sources[part].weight(place)

    def image_size_bytes(self, index: int) -> int:
        part, place = self._places[index]
        source = self._sources[part]
        return source.image_size_bytes(place) if isinstance(source, SizedSource) else -1

    def image_bytes(self, index: int) -> bytes:
        part, place = self._places[index]
        return self._sources[part].image_bytes(place)


def _open_one(place: Path) -> PairSource:
    if place.is_dir():
        return _open_directory(place)
    name = place.name.lower()
    if name.endswith((".jsonl", ".csv", ".parquet")):
        return open_table(place)
    if _is_shard(place):
        return ShardsSource([place])
    raise DataError(f"{place} is a file of another kind", expected=_EXPECTED, remedy="name the pictures' folder")


def _open_directory(root: Path) -> PairSource:
    try:
        return _open_listed(root)
    except OSError as error:
        path, remedy = error.filename or root, "change its permissions"
        raise unreadable(path, error, expected="folders that can be read", remedy=remedy) from error


def _open_listed(root: Path) -> PairSource:
    for name in TABLE_NAMES:
        if (root / name).is_file():
            return open_table(root / name)
    if is_coco(root):
        return open_coco(root)
    if is_cub(root):
        return open_cub(root)
    shards = sorted(place for place in root.iterdir() if _is_shard(place) and not place.name.startswith("."))
    return ShardsSource(shards) if shards else open_folder(root)


def _is_shard(place: Path) -> bool:
    return place.name.lower().endswith((".tar", *_COMPRESSED_SUFFIXES)) and not place.is_dir()


def _expand(part: str) -> list[Path]:
    """Return the files and folders that one part of a path matches; a path that exists matches itself only."""
    if re.match(r"[a-z][a-z0-9+.-]+:", part) and not Path(part).exists():
        raise DataError(f"{part!r} is not a local path", expected=_EXPECTED, remedy="download it first")
    whole = Path(part).expanduser()
    if part and whole.exists():
        return [whole]
    places: list[Path] = []
    for name in _expand_braces(part):
        # pathlib's own takes no absolute patterns.
        found = sorted(glob.glob(str(Path(name).expanduser()), recursive=True)) if name else []  # noqa: PTH207
        if not found:
            given = f"nothing at {name!r}" + (f" of {part!r}" if name != part else "")
            raise DataError(given, expected=_EXPECTED, remedy="check the path")
        places.extend(Path(place) for place in found)
    return places


def _expand_braces(pattern: str) -> list[str]:
    """Expand `{000..099}` and `{a,b}` as a shell does."""
    pieces = _BRACES.split(pattern)
    choices = [_choices(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    count = math.prod(map(len, choices))
    if count > _MAX_EXPANSIONS:
        raise _too_many(f"{pattern} expands to {count:,} names")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _too_many(given: str) -> DataError:
    return DataError(given, expected=f"at most {_MAX_EXPANSIONS:,} names", remedy="name fewer shards")


def _choices(inside: str) -> Sequence[str]:
    found = _RANGE.fullmatch(inside)
    if found is None:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last, digits = int(found[1]), int(found[2]), len(found[1])
    if abs(last - first) >= _MAX_EXPANSIONS:
        raise _too_many(f"the range {{{inside}}}")
    step = 1 if last >= first else -1
    return [f"{number:0{digits}}" for number in range(first, last + step, step)]
