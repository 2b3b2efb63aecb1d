"""Pairs in tar shards, as WebDataset and img2dataset write them: `key.jpg` with `key.txt` or `key.json`.

The headers are read once. A member's bytes are then read at their offset in the shard; nothing is extracted.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trencadis.data.files import (
    MAX_CAPTIONS_BYTES,
    MAX_PICTURE_BYTES,
    PICTURE_SUFFIXES,
    caption_lines,
    captions_of,
    unreadable,
)
from trencadis.errors import DataError
from trencadis.progress import track

_EXPECTED = "a whole, uncompressed tar shard"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_CAPTION_KEYS = ("caption", "captions", "text")


class _Place(NamedTuple):
    """Where a member's content is in its shard, in bytes."""

    offset: int
    size: int


@dataclass(slots=True)
class _Sample:
    """The members of a shard that share a key."""

    shard: int
    key: str
    picture: _Place | None = None
    text: _Place | None = None
    table: _Place | None = None


class ShardsSource:
    """The pairs of tar shards; a `PairSource`. A sample id is "shard/key".

    Raises:
        DataError: A shard cannot be read, is compressed, cut short or damaged, or none holds a picture.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._names = shortest_distinct_names(self._paths)
        self._samples: list[_Sample] = []
        numbered = enumerate(self._paths)
        for number, path in track(numbered, "reading shards", len(paths)) if len(paths) > 1 else numbered:
            self._samples.extend(_scan(path, number))
        if not any(sample.picture for sample in self._samples):
            given = f"no picture in {self._paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
            remedy = "name members key.jpg and key.txt, with no other dot in them"
            raise DataError(given, expected="members such as 0001.jpg beside 0001.txt", remedy=remedy)

    def __len__(self) -> int:
        return len(self._samples)

    def sample_id(self, index: int) -> str:
        sample = self._samples[index]
        return f"{self._names[sample.shard]}/{sample.key}"

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the lines of the `.txt` member, or else the caption in the `.json` member."""
        sample = self._samples[index]
        place = sample.text or sample.table
        if place is None:
            return ()
        remedy = "write the shard again"
        if place.size > MAX_CAPTIONS_BYTES:
            given = f"the captions of {sample.key} are over {MAX_CAPTIONS_BYTES:,} bytes"
            raise DataError(given, expected="captions", remedy=remedy)
        raw = self._read(sample.shard, place)
        try:
            return caption_lines(raw) if sample.text else _captions_of_json(raw)
        except UnicodeDecodeError as error:
            raise DataError(f"the captions of {sample.key} are not UTF-8", expected="UTF-8", remedy=remedy) from error
        except (ValueError, RecursionError) as error:
            given = f"the .json of {sample.key} has no readable caption"
            raise DataError(given, expected='JSON such as {"caption": "a dog"}', remedy=remedy) from error

    def weight(self, index: int) -> float:
        assert 0 <= index < len(self)
        return 1.0

    def image_size_bytes(self, index: int) -> int:
        picture = self._samples[index].picture
        return -1 if picture is None else picture.size

    def image_bytes(self, index: int) -> bytes:
        sample = self._samples[index]
        if sample.picture is None:
            remedy = "put the picture into the shard, or take the caption out"
            raise DataError(f"no picture beside the caption of {sample.key}", expected="a picture", remedy=remedy)
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


def shortest_distinct_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the shortest endings of the paths that are all different, so that names hold on another machine."""
    parts = [path.absolute().parts for path in paths]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = tuple("/".join(part[-count:]) for part in parts)
        if len(set(names)) == len(names):
            return names
    raise DataError(f"{paths[0]} is named twice", expected="each part of the dataset once", remedy="name it once")


def _scan(path: Path, shard: int) -> list[_Sample]:
    samples: dict[str, _Sample] = {}
    try:
        with open(path, "rb") as file:
            _refuse_compressed(path, file.read(6))
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in _members(archive):
                    _note(samples, member, shard)
                end = archive.offset
            file.seek(end)
            # tarfile takes a damaged header for the end of the archive. The real end is two blocks of zeros; some tools
            # write one.
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end mark")
    except DataError:
        raise
    except OSError as error:
        raise unreadable(path, error, expected=_EXPECTED) from error
    except Exception as error:  # damage makes tarfile raise its own errors, OverflowError and others
        given = f"the shard {path} is damaged or cut short ({error})"
        raise DataError(given, expected=_EXPECTED, remedy="write or download it again") from error
    return list(samples.values())


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members without keeping them: tarfile would hold all headers of a shard in memory."""
    last = -1
    while (member := archive.next()) is not None:
        if member.size < 0 or member.offset_data <= last:
            raise tarfile.ReadError("members out of order")
        last = member.offset_data
        yield member
        archive.members = []  # type: ignore[attr-defined]  # typeshed leaves it out


def _note(samples: dict[str, _Sample], member: tarfile.TarInfo, shard: int) -> None:
    """Add a member to its sample. Members that are not plain files, or of another kind, are skipped."""
    if not member.isreg() or member.issparse():
        return
    folder, _, base = member.name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    suffix = dot + suffix.lower()
    if not stem or suffix not in (*PICTURE_SUFFIXES, ".txt", ".json"):
        return
    key = os.fsencode(str(PurePosixPath(folder) / stem)).decode("utf-8", "backslashreplace")
    sample = samples.setdefault(key, _Sample(shard, key))
    place = _Place(member.offset_data, member.size)
    # Of two members with one name the later counts, as in any tar.
    if suffix == ".txt":
        sample.text = place
    elif suffix == ".json":
        sample.table = place
    else:
        sample.picture = place


def _refuse_compressed(path: Path, beginning: bytes) -> None:
    for magic, name in _COMPRESSED.items():
        if beginning.startswith(magic):
            remedy = "decompress it first; pictures gain nothing from being compressed again"
            raise DataError(f"the shard {path} is compressed with {name}", expected=_EXPECTED, remedy=remedy)


def _captions_of_json(raw: bytes) -> tuple[str, ...]:
    content = json.loads(raw.decode("utf-8-sig"))
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return captions_of(next((content[key] for key in _CAPTION_KEYS if content.get(key)), ()))
