"""A folder's files: pictures, the captions of each, and what else there is that is captioned or pictorial."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trencadis.config.data import ReadingConfig
from trencadis.data.files import (
    CAPTION_COLUMNS,
    MAX_CAPTIONS_BYTES,
    OTHER_PICTURE_SUFFIXES,
    PICTURE_SUFFIXES,
    FilesSource,
    PictureFile,
    caption_columns,
    captions_of_json,
    plain_name,
    read_regular_file,
)
from trencadis.data.pairs import LONE_CAPTION, OTHER_DATASET, OTHER_FORMAT, Omitted, held_out_names, split_of
from trencadis.errors import DataError
from trencadis.run_directory import RunDirectory

TABLE_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.tsv", "metadata.parquet")
TABLE_SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
# In the order in which they count. A picture's .json may hold anything, its .txt is always a caption.
_CAPTION_SUFFIXES = (".txt", ".caption", ".json")
_SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
SHEET_NAME = "data-check.png"
_DOCUMENT = re.compile(r"(readme|licen[cs]e|notice|copying|changelog|requirements)\b.*", re.IGNORECASE)
_CLASS_NUMBER = re.compile(r"\d+[._ -]+(?=\D)")


@dataclass(frozen=True)
class Listing:
    """The files below a folder, as paths with forward slashes, in the order of their plain names.

    Args:
        others: Pictures in formats that are not read.
        datasets: Tables and shards.
        tables: Files that may be tables under another name.
    """

    root: Path
    pictures: tuple[str, ...]
    others: tuple[str, ...]
    captions: tuple[str, ...]
    datasets: tuple[str, ...]
    tables: tuple[str, ...]

    def caption_files(self, captions: "Listing | None" = None) -> dict[str, tuple[Path, ...]]:
        """Return the caption files of each picture that has any, in the order in which they count."""
        captions = captions or self
        found = _matched((*self.pictures, *self.others), captions.captions)
        return {name: tuple(captions.root / caption for caption in files) for name, files in found.items()}

    def omitted(
        self,
        listed: Collection[str] = (),
        *,
        unlisted: str = "",
        captions: "Listing | None" = None,
        columns: Sequence[str] = CAPTION_COLUMNS,
    ) -> list[Omitted]:
        """Return what is captioned or pictorial here and is none of the listed pictures.

        Args:
            listed: Names of pictures that are offered, or left out already.
            unlisted: Why a picture that is not listed is left out; an empty text means that all are listed.
            captions: Where the captions are, if they are elsewhere.
            columns: Keys of a JSON that hold captions.
        """
        names = set(listed)
        matched = self.caption_files(captions)
        omitted = [
            Omitted(plain_name(name), unlisted)
            for name in self.pictures
            if unlisted and name not in names and (PurePosixPath(name).name != SHEET_NAME or name in matched)
        ]
        omitted += [Omitted(plain_name(name), OTHER_FORMAT) for name in self.others if name not in names]
        omitted += _lone_captions(captions or self, matched, columns)
        omitted += [Omitted(plain_name(name), OTHER_DATASET) for name in self.datasets if name not in names]
        return omitted


def list_folder(root: Path, without: Collection[str] = ()) -> Listing:
    """Return the files below a folder. Hidden ones, those of systems, and runs are passed over.

    Args:
        without: Folders below it that are not entered, as paths with forward slashes.
    """
    names = sorted(_names(root, without), key=lambda name: (plain_name(name), name))
    suffixes = [os.path.splitext(name)[1].lower() for name in names]  # noqa: PTH122  # names, a million of them
    kinds = list(zip(names, suffixes, strict=True))
    return Listing(
        root,
        pictures=tuple(name for name, suffix in kinds if suffix in PICTURE_SUFFIXES),
        others=tuple(name for name, suffix in kinds if suffix in OTHER_PICTURE_SUFFIXES),
        captions=tuple(name for name, suffix in kinds if suffix in _CAPTION_SUFFIXES),
        datasets=tuple(name for name in names if is_table_name(name) or is_shard_name(name)),
        tables=tuple(name for name, suffix in kinds if suffix in TABLE_SUFFIXES),
    )


def is_table_name(name: str) -> bool:
    return PurePosixPath(name).name.lower() in TABLE_NAMES


def is_shard_name(name: str) -> bool:
    return name.lower().endswith(SHARD_SUFFIXES)


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a system's own."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def _names(root: Path, without: Collection[str]) -> Iterator[str]:
    """Yield the files. Links are followed, but no folder is entered twice."""
    seen = {os.path.realpath(root / name) for name in without}
    for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        place = os.path.realpath(folder)
        if place in seen or (prefix and RunDirectory.is_run(Path(folder))):
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not is_passed_over(name))
        yield from (prefix + name for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error


def _matched(pictures: Iterable[str], captions: Iterable[str]) -> dict[str, list[str]]:
    """Return the caption files of each picture: `x.txt` or `x.png.txt` is of `x.png`.

    Names that differ in how characters are composed are the same. Where no other picture has its very name, a caption
    file's name may differ in upper and lower case.
    """
    found: dict[str, list[str]] = {}
    rest = sorted(captions, key=lambda name: _CAPTION_SUFFIXES.index(os.path.splitext(name)[1].lower()))  # noqa: PTH122
    without = list(pictures)
    for spell in (plain_name, lambda name: plain_name(name).casefold()):
        owners: dict[str, list[str]] = {}
        for picture in without:
            for key in (os.path.splitext(picture)[0], picture):  # noqa: PTH122
                owners.setdefault(spell(key), []).append(picture)
        taken = {name: owners.get(spell(os.path.splitext(name)[0]), []) for name in rest}  # noqa: PTH122
        for name, of in taken.items():
            for picture in of:
                found.setdefault(picture, []).append(name)
        rest = [name for name in rest if not taken[name]]
        without = [picture for picture in without if picture not in found]
    return found


def _lone_captions(captions: Listing, matched: Mapping[str, Sequence[Path]], columns: Sequence[str]) -> list[Omitted]:
    taken = {path for paths in matched.values() for path in paths}
    lone = [name for name in captions.captions if captions.root / name not in taken]
    return [Omitted(plain_name(name), LONE_CAPTION) for name in lone if _is_caption(captions.root / name, columns)]


def _is_caption(path: Path, columns: Sequence[str]) -> bool:
    """Whether a file that is of no picture is a caption: a readme is none, and a .json is one only if it has one."""
    if path.suffix.lower() != ".json":
        return _DOCUMENT.fullmatch(path.name) is None
    try:
        return bool(captions_of_json(read_regular_file(path, MAX_CAPTIONS_BYTES), columns))
    except (OSError, ValueError, RecursionError):
        return False


def open_folder(listing: Listing, reading: ReadingConfig, captions: Listing | None = None) -> FilesSource:
    """Return the pictures below a folder, with the captions in the files of the same name.

    Args:
        listing: Of the pictures.
        captions: Of the caption files; None means beside the pictures.

    Raises:
        DataError: There is no picture, or not one caption.
    """
    matched = listing.caption_files(captions)
    names = [name for name in listing.pictures if PurePosixPath(name).name != SHEET_NAME or name in matched]
    if not names:
        raise _no_picture(listing)
    splits = {name.partition("/")[0] for name in names}
    splits = splits if all(split_of(name) for name in splits) else set()
    files = []
    for name in names:
        folder = PurePosixPath(name).parent
        is_class = reading.class_folders and folder.name and str(folder) not in splits
        known = () if name in matched or not is_class else (_class_name(folder.name),)
        files.append(PictureFile(name, known, matched.get(name, ())))
    if not any(file.captions or file.caption_files for file in files):
        raise _no_caption(listing, len(files))
    held_out = held_out_names(splits)
    indices = {index for index, name in enumerate(names) if name.partition("/")[0] in held_out}
    columns = caption_columns(reading)
    omitted = listing.omitted(names, captions=captions, columns=columns)
    return FilesSource(listing.root, files, omitted, indices, columns)


def has_captioned(listing: Listing, reading: ReadingConfig) -> bool:
    """Whether a picture here has a caption of its own."""
    return bool(listing.caption_files()) or (reading.class_folders and any("/" in name for name in listing.pictures))


def _class_name(folder: str) -> str:
    """Return the class that a folder is named after: `10_red_fox` is that of a red fox."""
    return _CLASS_NUMBER.sub("", plain_name(folder), count=1).replace("_", " ").strip()


def _no_picture(listing: Listing) -> DataError:
    given = f"no picture ({', '.join(PICTURE_SUFFIXES)}) in {listing.root}"
    counts = Counter(PurePosixPath(name).suffix.lower() for name in listing.others)
    found = ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(5))
    remedy = "check the path"
    if found:
        given += f", but {found}"
        is_heif = counts.keys() & {".heic", ".heif"}
        remedy = "pip install 'trencadis[heif]'" if is_heif else "save them as PNG or JPEG"
    elif listing.tables:
        given += f", but {len(listing.tables):,} tables such as {listing.tables[0]}"
        remedy = f"name a table, such as {listing.root / listing.tables[0]}"
    return DataError(given, expected="captioned pictures", remedy=remedy)


def _no_caption(listing: Listing, count: int) -> DataError:
    given = f"{count:,} pictures in {listing.root} without a caption"
    remedy = "put a .txt of the same name beside each picture, or a metadata.jsonl into the folder"
    if listing.tables:
        remedy += f"; or name a table of pictures, such as {listing.root / listing.tables[0]}"
    elif any("/" in name for name in listing.pictures):
        remedy += "; or ask for class_folders, where the folders' names are the captions"
    expected = "captions in name.txt, name.png.txt, name.caption or name.json"
    return DataError(given, expected=expected, remedy=remedy)
