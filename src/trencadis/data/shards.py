"""Pairs in tar shards, as WebDataset and img2dataset write them: `key.jpg` with `key.txt`, `key.caption` or `key.json`.

The headers are read once. A member's bytes are then read at their offset in the shard; nothing is extracted. What comes
before damage in a shard is used, and the damage is accounted for. Shards that were joined into one are read too.
"""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trencadis.config.data import ReadingConfig
from trencadis.data.files import (
    MAX_CAPTIONS_BYTES,
    MAX_PICTURE_BYTES,
    OTHER_PICTURE_SUFFIXES,
    PICTURE_SUFFIXES,
    caption_columns,
    caption_lines,
    captions_of_json,
    plain_name,
    unreadable,
)
from trencadis.data.pairs import (
    COMPRESSED_SHARD,
    DAMAGED_SHARD,
    LONE_CAPTION,
    NO_FILE,
    OTHER_FORMAT,
    SAME_KEY,
    Omitted,
    held_out_names,
)
from trencadis.errors import DataError
from trencadis.progress import track

_EXPECTED = "a whole, uncompressed tar shard"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_TEXT_SUFFIXES = (".txt", ".caption")
_TEXT_BEFORE_JSON = (*_TEXT_SUFFIXES, ".json")
# Most that the headers of one member take; tar tools write a few kilobytes.
_MAX_HEADERS_BYTES = 2**20
# Most zeros that a tar tool writes behind the members.
_MAX_PADDING_BYTES = 2**20


class _Place(NamedTuple):
    """Where a member's content is in its shard, in bytes."""

    offset: int
    size: int


@dataclass(slots=True)
class _Sample:
    """A picture of a shard, and its captions by the suffix of their member."""

    shard: int
    key: str
    picture: _Place
    captions: dict[str, _Place] = field(default_factory=dict)


class ShardsSource:
    """The pairs of tar shards; a `PairSource` and a `ListedSource`. A sample id is "shard/key".

    Raises:
        DataError: No shard holds a picture that can be read; the first fault of a shard is named.
    """

    def __init__(self, paths: Sequence[Path], reading: ReadingConfig | None = None) -> None:
        self._paths = tuple(paths)
        self._names = shortest_distinct_names(self._paths)
        self._columns = caption_columns(reading or ReadingConfig())
        self._samples: list[_Sample] = []
        omitted: list[Omitted] = []
        faults: list[DataError] = []
        numbered = enumerate(self._paths)
        for number, path in track(numbered, "reading shards", len(paths)) if len(paths) > 1 else numbered:
            shard = _Shard(path, number)
            self._samples += shard.samples()
            omitted += (Omitted(f"{self._names[number]}{name}", *why) for name, *why in self._left_out(shard))
            faults += [] if shard.fault is None else [shard.fault]
        if not self._samples:
            raise faults[0] if faults else _no_picture(self._paths)
        held_out = held_out_names(path.name for path in self._paths)
        self.omitted = tuple(omitted)
        self.held_out = frozenset(
            index for index, sample in enumerate(self._samples) if self._paths[sample.shard].name in held_out
        )

    def __len__(self) -> int:
        return len(self._samples)

    def sample_id(self, index: int) -> str:
        sample = self._samples[index]
        return f"{self._names[sample.shard]}/{sample.key}"

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the lines of the `.txt` or `.caption` member, or else the caption in the `.json` member."""
        sample = self._samples[index]
        captions = (self._captions_at(sample, suffix) for suffix in _TEXT_BEFORE_JSON if suffix in sample.captions)
        return next(filter(None, captions), ())

    def _captions_at(self, sample: _Sample, suffix: str) -> tuple[str, ...]:
        place, remedy = sample.captions[suffix], "write the shard again"
        if place.size > MAX_CAPTIONS_BYTES:
            given = f"the captions of {sample.key} are over {MAX_CAPTIONS_BYTES:,} bytes"
            raise DataError(given, expected="captions", remedy=remedy)
        raw = self._read(sample.shard, place)
        try:
            return caption_lines(raw) if suffix in _TEXT_SUFFIXES else captions_of_json(raw, self._columns)
        except UnicodeDecodeError as error:
            raise DataError(f"the captions of {sample.key} are not UTF-8", expected="UTF-8", remedy=remedy) from error
        except (ValueError, RecursionError) as error:
            given = f"the .json of {sample.key} has no readable caption"
            raise DataError(given, expected='JSON such as {"caption": "a dog"}', remedy=remedy) from error

    def weight(self, index: int) -> float:
        assert 0 <= index < len(self)
        return 1.0

    def image_size_bytes(self, index: int) -> int:
        return self._samples[index].picture.size

    def image_bytes(self, index: int) -> bytes:
        sample = self._samples[index]
        if sample.picture.size > MAX_PICTURE_BYTES:
            given = f"the picture of {sample.key} has {sample.picture.size:,} bytes"
            raise DataError(given, expected=f"at most {MAX_PICTURE_BYTES:,}", remedy="take it out")
        return self._read(sample.shard, sample.picture)

    def _read(self, shard: int, place: _Place) -> bytes:
        path = self._paths[shard]
        try:
            # Opened for each read: a dataset may have more shards than a process may have open files.
            with open(path, "rb", buffering=0) as file:
                file.seek(place.offset)
                raw = file.read(place.size)
        except OSError as error:
            raise unreadable(path, error, expected=_EXPECTED) from error
        if len(raw) < place.size:
            raise DataError(f"{path} is cut short", expected=_EXPECTED, remedy="write or download it again")
        return raw

    def _left_out(self, shard: "_Shard") -> Iterator[tuple[str, str, str]]:
        """Yield the name, behind the shard's, the reason and the detail of what is no pair."""
        if shard.fault is not None:
            yield "", COMPRESSED_SHARD if shard.is_compressed else DAMAGED_SHARD, shard.fault.given
        yield from ((f"/{name}", reason, "") for name, reason in shard.others)
        for key, captions in shard.lone_captions().items():
            if any(suffix in _TEXT_SUFFIXES or self._is_caption(shard, captions[suffix]) for suffix in captions):
                yield f"/{key}", LONE_CAPTION, ""

    def _is_caption(self, shard: "_Shard", place: _Place) -> bool:
        """Whether a .json holds a caption. Statistics and other data may lie in a shard too."""
        try:
            return place.size <= MAX_CAPTIONS_BYTES and bool(
                captions_of_json(self._read(shard.number, place), self._columns)
            )
        except (DataError, ValueError, RecursionError):
            return False


def _no_picture(paths: Sequence[Path]) -> DataError:
    given = f"no picture in {paths[0]}" + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")
    remedy = "name members key.jpg and key.txt"
    return DataError(given, expected="members such as 0001.jpg beside 0001.txt", remedy=remedy)


def shortest_distinct_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the shortest endings of the paths that are all different, so that names hold on another machine."""
    parts = [path.absolute().parts for path in paths]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = tuple("/".join(part[-count:]) for part in parts)
        if len(set(names)) == len(names):
            return names
    raise DataError(f"{paths[0]} is named twice", expected="each part of the dataset once", remedy="name it once")


class _Shard:
    """What the headers of a shard say, up to the first damage.

    Attributes:
        fault: Why it could not be read to its end.
        others: Names of pictures that are no pairs, each with the reason.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number, self.is_compressed = path, number, False
        self.fault: DataError | None = None
        self.others: list[tuple[str, str]] = []
        self._pictures: dict[str, _Sample] = {}
        self._suffixes: dict[str, str] = {}
        self._captions: dict[str, dict[str, _Place]] = {}
        try:
            self._scan()
        except DataError as error:
            self.fault = error
        except OSError as error:
            self.fault = unreadable(path, error, expected=_EXPECTED)
        except MemoryError:
            raise
        except Exception as error:  # damage makes tarfile raise its own errors, OverflowError and others
            given = f"the shard {path} is damaged or cut short ({error})"
            self.fault = DataError(given, expected=_EXPECTED, remedy="write or download it again")
            self.fault.__cause__ = error
        self._give_captions()

    def samples(self) -> list[_Sample]:
        return list(self._pictures.values())

    def lone_captions(self) -> dict[str, dict[str, _Place]]:
        """Return the captions of no picture, by their key."""
        return self._captions

    def _scan(self) -> None:
        with _Headers(io.FileIO(self.path)) as file:
            self._refuse_compressed(file.read(6))
            size_bytes = file.seek(0, os.SEEK_END)
            beginning: int | None = 0
            while beginning is not None:
                file.seek(beginning)
                beginning = _behind_end_mark(file, self._scan_archive(file, size_bytes))

    def _scan_archive(self, file: "_Headers", size_bytes: int) -> int:
        """Note the members from here to the end mark; return where it is."""
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in _members(archive, file):
                if member.offset_data + member.size > size_bytes:
                    raise tarfile.ReadError("the last member is cut short")
                self._note(member)
            return archive.offset

    def _refuse_compressed(self, beginning: bytes) -> None:
        for magic, name in _COMPRESSED.items():
            if beginning.startswith(magic):
                self.is_compressed = True
                remedy = "decompress it first; pictures gain nothing from being compressed again"
                raise DataError(f"the shard {self.path} is compressed with {name}", expected=_EXPECTED, remedy=remedy)

    def _note(self, member: tarfile.TarInfo) -> None:
        """Note a picture or a caption; other members are passed over."""
        folder, _, base = member.name.rpartition("/")
        stem, suffix = os.path.splitext(base)  # noqa: PTH122  # a name in a tar is no path of this system
        suffix = suffix.lower()
        name = plain_name(str(PurePosixPath(folder) / base))
        if not stem or base.startswith("._"):  # macOS's own
            return
        if not member.isreg() or member.issparse():
            if suffix in PICTURE_SUFFIXES:
                self.others.append((name, NO_FILE))
        elif suffix in OTHER_PICTURE_SUFFIXES:
            self.others.append((name, OTHER_FORMAT))
        elif suffix in (*PICTURE_SUFFIXES, *_TEXT_BEFORE_JSON):
            key = plain_name(str(PurePosixPath(folder) / stem))
            place = _Place(member.offset_data, member.size)
            # Of two members with one name the later counts, as in any tar.
            if suffix not in PICTURE_SUFFIXES:
                self._captions.setdefault(key, {})[suffix] = place
            elif self._suffixes.setdefault(key, suffix) == suffix:
                self.others += [(name, SAME_KEY)] if key in self._pictures else []
                self._pictures[key] = _Sample(self.number, key, place)
            else:
                self.others.append((name, SAME_KEY))

    def _give_captions(self) -> None:
        """Give each picture the captions of its key; or else those of its whole name, or of the same WebDataset key.

        A WebDataset key ends at the first dot: `1.image.jpg` and `1.txt` are one sample. Of several pictures in one,
        nothing tells which is described.
        """
        for key in self._captions.keys() & self._pictures.keys():
            self._pictures[key].captions = self._captions.pop(key)
        by_first_dot: dict[str, list[_Sample]] = {}
        for picture in self._pictures.values() if self._captions else ():
            by_first_dot.setdefault(_up_to_first_dot(picture.key), []).append(picture)
        for key in list(self._captions):
            stem, suffix = os.path.splitext(key)  # noqa: PTH122
            keys = (stem if suffix.lower() in PICTURE_SUFFIXES else "", _up_to_first_dot(key))
            named = [self._pictures[one] for one in keys if one in self._pictures][:1] or by_first_dot.get(key, [])
            if len(named) == 1 and not named[0].captions:
                named[0].captions = self._captions.pop(key)


def _up_to_first_dot(key: str) -> str:
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]


class _Headers(io.BufferedReader):
    """A shard as tarfile reads it. tarfile takes the headers of a member into memory, whatever size they claim."""

    taken_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.taken_bytes += -1 if size is None else size
        if size is None or size < 0 or self.taken_bytes > _MAX_HEADERS_BYTES:
            raise tarfile.ReadError("a header without end")
        return super().read(size)


def _members(archive: tarfile.TarFile, file: _Headers) -> Iterator[tarfile.TarInfo]:
    """Yield the members without keeping them: tarfile would hold all headers of a shard in memory."""
    last = -1
    while (member := archive.next()) is not None:
        if member.size < 0 or member.offset_data <= last:
            raise tarfile.ReadError("members out of order")
        last = member.offset_data
        yield member
        archive.members = []  # type: ignore[attr-defined]  # typeshed leaves it out
        file.taken_bytes = 0


def _behind_end_mark(file: _Headers, end: int) -> int | None:
    """Return where another archive begins behind an end mark, as in shards that were joined by `cat`; or None.

    tarfile takes a damaged header for the end mark. The mark is two blocks of zeros, but some tools write one. A
    download that reserves its space leaves zeros too, where members will be.
    """
    file.seek(end)
    for place in range(end, end + _MAX_PADDING_BYTES, tarfile.BLOCKSIZE):
        file.taken_bytes = 0
        block = file.read(tarfile.BLOCKSIZE)
        if place == end and block != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"neither a member nor the end mark at byte {end:,}")
        if block.strip(b"\0"):
            return place
        if len(block) < tarfile.BLOCKSIZE:
            return None
    raise tarfile.ReadError(f"zeros in place of members from byte {end:,}")
