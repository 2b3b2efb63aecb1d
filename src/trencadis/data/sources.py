"""The pairs at a path that the user names."""

import glob
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from trencadis.config.data import ReadingConfig
from trencadis.data.coco import is_coco, is_cub, open_coco, open_cub
from trencadis.data.files import SizedSource, unreadable
from trencadis.data.folders import (
    TABLE_NAMES,
    TABLE_SUFFIXES,
    Listing,
    has_captioned,
    is_passed_over,
    is_shard_name,
    is_table_name,
    list_folder,
    open_folder,
)
from trencadis.data.pairs import DAMAGED_TABLE, LOOSE_PICTURE, UNLISTED, ListedSource, Omitted, held_out_names
from trencadis.data.parquet import ParquetSource, embedded_files, is_embedded
from trencadis.data.shards import ShardsSource, shortest_distinct_names
from trencadis.data.table import open_table
from trencadis.errors import DataError
from trencadis.protocols import PairSource
from trencadis.run_directory import RunDirectory

SEPARATOR = "::"
_EXPECTED = "a folder, a metadata table, a tar shard, or a glob or brace range of shards"
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_EXPANSIONS = 1_000_000


def open_source(path: str, reading: ReadingConfig | None = None) -> PairSource:
    """Return the pairs at a path. docs/data.md shows every layout.

    Args:
        path: A folder of captioned pictures; a folder with `metadata.jsonl`, `.csv`, `.tsv` or `.parquet`, or any such
            table itself; MS-COCO's or CUB-200's folder; a folder of tar shards, or of parquet files with pictures in
            them; a shard, a glob (`shards/*.tar`) or a brace range (`shards/{000..099}.tar`); or several of these,
            separated by `::`.
        reading: What files are taken for; None takes them for what they are called.

    Raises:
        DataError: There is nothing, or nothing of these kinds.
    """
    reading = reading or ReadingConfig()
    places = _places(path)
    if len(places) == 1:
        return _open_one(places[0], reading)
    if all(_is_shard(place) for place in places):
        return ShardsSource(places, reading)
    if embedded_files(places, reading) == places:
        return ParquetSource(places, reading)
    return JoinedSource([_open_one(place, reading) for place in places], shortest_distinct_names(places))


def data_folders(path: str) -> list[Path]:
    """Return the folders at a path in which any picture is taken for data, with all links resolved."""
    places = [place.resolve() for place in _places(path)]
    return [place if place.is_dir() else place.parent for place in places if not _is_shard(place)]


def _places(path: str) -> list[Path]:
    return [place for part in path.split(SEPARATOR) for place in _expand(part)]


class JoinedSource:
    """The pairs of several sources, one after the other; a `PairSource`. Sample ids begin with the source's name.

    Args:
        omitted: What is beside the sources.
        held_out: Names of sources that are held out as a whole.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        names: Sequence[str],
        omitted: Sequence[Omitted] = (),
        held_out: Collection[str] = (),
    ) -> None:
        self._names, self._sources = tuple(names), tuple(sources)
        parts = list(zip(names, sources, strict=True))
        self._places = [(part, index) for part, source in enumerate(sources) for index in range(len(source))]
        theirs = [
            replace(one, name=_joined(name, one.name))
            for name, source in parts
            if isinstance(source, ListedSource)
            for one in source.omitted
        ]
        self.omitted = (*omitted, *theirs)
        # A part is held out as a whole, or as it says itself.
        out = [range(len(source)) if name in held_out else _held_out(source) for name, source in parts]
        self.held_out = frozenset(at for at, (part, index) in enumerate(self._places) if index in out[part])

    def __len__(self) -> int:
        return len(self._places)

    def sample_id(self, index: int) -> str:
        part, place = self._places[index]
        return _joined(self._names[part], self._sources[part].sample_id(place))

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


def _joined(name: str, inside: str) -> str:
    return f"{name}/{inside}" if name else inside


def _held_out(source: PairSource) -> Collection[int]:
    return source.held_out if isinstance(source, ListedSource) else ()


def _open_one(place: Path, reading: ReadingConfig) -> PairSource:
    if place.is_dir():
        return _open_directory(place, reading)
    name = place.name.lower()
    if is_embedded(place, reading):
        return ParquetSource([place], reading)
    if name.endswith(TABLE_SUFFIXES):
        # A table of the usual name is that of its folder; one of another name speaks for itself only.
        return _open_listed(place, reading) if is_table_name(name) else open_table(place, reading)
    if _is_shard(place):
        return ShardsSource([place], reading)
    raise DataError(f"{place} is a file of another kind", expected=_EXPECTED, remedy="name the pictures' folder")


def _open_directory(root: Path, reading: ReadingConfig) -> PairSource:
    if RunDirectory.is_run(root):
        remedy = "name the folder of the pictures that it was trained on"
        raise DataError(f"{root} is the directory of a run", expected="captioned pictures", remedy=remedy)
    try:
        opener = _opener(root, reading)
        return opener() if opener is not None else _open_folder(root, reading)
    except OSError as error:
        path, remedy = error.filename or root, "change its permissions"
        raise unreadable(path, error, expected="folders that can be read", remedy=remedy) from error


def _opener(root: Path, reading: ReadingConfig) -> Callable[[], PairSource] | None:
    """Return what opens the dataset that a folder holds: its table, COCO, CUB, shards or parquet with pictures.

    None where it has none.
    """
    files = sorted(place for place in root.iterdir() if not is_passed_over(place.name) and place.is_file())
    tables = {place.name.lower(): place for place in files}
    for name in TABLE_NAMES:
        if name in tables and not is_embedded(tables[name], reading):
            return partial(_open_listed, tables[name], reading)
    if is_coco(root):
        return lambda: open_coco(_list(root, reading))
    if is_cub(root):
        return partial(open_cub, root, reading)
    shards = [place for place in files if is_shard_name(place.name)]
    if shards:
        return lambda: _with_the_rest(root, ShardsSource(shards, reading), shards, reading)
    embedded = embedded_files(files, reading)
    return (lambda: _with_the_rest(root, ParquetSource(embedded, reading), embedded, reading)) if embedded else None


def _open_listed(table: Path, reading: ReadingConfig) -> PairSource:
    return open_table(table, reading, _list(table.parent, reading))


def _list(root: Path, reading: ReadingConfig, without: Collection[str] = ()) -> Listing:
    """Return a folder's files as `list_folder` does, with parquet that holds pictures among the datasets."""
    listing = list_folder(root, without)
    embedded = {name for name in listing.tables if is_embedded(root / name, reading)}.difference(listing.datasets)
    return replace(listing, datasets=(*listing.datasets, *sorted(embedded)))


def _with_the_rest(root: Path, source: PairSource, files: Sequence[Path], reading: ReadingConfig) -> PairSource:
    """Return a source with what lies beside its files as omitted."""
    beside = _list(root, reading).omitted({place.name for place in files}, unlisted=LOOSE_PICTURE)
    return JoinedSource([source], [""], beside) if beside else source


def _open_folder(root: Path, reading: ReadingConfig) -> PairSource:
    """Return the captioned pictures of a folder; or, where there are none, the datasets in its folders."""
    inner = {folder.relative_to(root).as_posix(): folder for folder in _datasets_below(root, reading, set())}
    loose = _list(root, reading, without=inner)
    if not inner or has_captioned(loose, reading):
        return open_folder(_list(root, reading) if inner else loose, reading)
    sources, omitted, faults = {}, loose.omitted(unlisted=UNLISTED), []
    for name, folder in inner.items():
        try:
            sources[name] = _open_directory(folder, reading)
        except DataError as error:
            faults.append(error)
            omitted.append(Omitted(name, DAMAGED_TABLE, error.given))
    if not sources:
        raise faults[0]
    return JoinedSource(list(sources.values()), list(sources), omitted, held_out_names(sources))


def _datasets_below(root: Path, reading: ReadingConfig, seen: set[Path]) -> Iterator[Path]:
    """Yield the folders, at any depth, that hold a dataset of their own; no folder is entered twice."""
    seen.add(root.resolve())
    for folder in sorted(place for place in root.iterdir() if place.is_dir() and not is_passed_over(place.name)):
        if folder.resolve() in seen or RunDirectory.is_run(folder):
            continue
        if _opener(folder, reading) is not None:
            seen.add(folder.resolve())
            yield folder
        else:
            yield from _datasets_below(folder, reading, seen)


def _is_shard(place: Path) -> bool:
    return is_shard_name(place.name) and not place.is_dir()


def _expand(part: str) -> list[Path]:
    """Return the files and folders that one part of a path matches; a path that exists matches itself only."""
    if re.match(r"[a-z][a-z0-9+.-]+:", part) and not Path(part).exists():
        raise DataError(f"{part!r} is not a local path", expected=_EXPECTED, remedy="download it first")
    for name in (part, part.strip(), part.strip(" '\"")):
        whole = Path(name).expanduser()
        if name and whole.exists():
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
