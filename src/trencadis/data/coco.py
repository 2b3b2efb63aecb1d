"""Folders with the layout of two published datasets: MS-COCO and CUB-200."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from trencadis.config.data import ReadingConfig
from trencadis.data.files import FilesSource, PictureFile, joined_files, tidy_captions
from trencadis.data.folders import Listing, list_folder, open_folder
from trencadis.data.pairs import BROKEN_ROW, DAMAGED_TABLE, NO_FOLDER, UNLISTED, Omitted, held_out_names
from trencadis.errors import DataError

_BEGINNING = "captions_"


def is_coco(root: Path) -> bool:
    return any(root.glob(f"annotations/{_BEGINNING}*.json"))


def open_coco(listing: Listing) -> FilesSource:
    """Return the pairs of MS-COCO: `annotations/captions_<split>.json`, pictures in `<split>/` or `images/`.

    One split suffices. Of several, `val` is held out where there is `train`.

    Source: Lin et al. 2014; Chen et al. 2015 (captions).

    Raises:
        DataError: No annotation file has the published format, or none has its pictures.
    """
    files: list[PictureFile] = []
    omitted: list[Omitted] = []
    splits: dict[str, str] = {}  # of each picture
    faults = []
    for path in sorted(listing.root.glob(f"annotations/{_BEGINNING}*.json")):
        split, reason = path.stem.removeprefix(_BEGINNING), NO_FOLDER
        try:
            folder = _coco_folder(listing.root, split)
            reason = DAMAGED_TABLE
            found, broken = _coco_pictures(path, folder)
        except DataError as error:
            omitted.append(Omitted(f"annotations/{path.name}", reason, error.given))
            faults.append(error)
            continue
        files += found
        omitted += broken
        splits |= {file.name: split for file in found}
    if not files:
        raise faults[0]
    files = joined_files(files)
    held_out = held_out_names(splits.values())
    indices = {index for index, file in enumerate(files) if splits[file.name] in held_out}
    return FilesSource(listing.root, files, omitted + listing.omitted(splits, unlisted=UNLISTED), indices)


def _coco_pictures(path: Path, folder: str) -> tuple[list[PictureFile], list[Omitted]]:
    """Return the pictures of an annotation file, and what is broken in it."""
    try:
        content = json.loads(path.read_text("utf-8"))
        images, annotations = list(content["images"]), list(content["annotations"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {str(error)[:80]}") from error
    captions: dict[Any, list[str]] = {}
    files, broken = [], []
    for number, annotation in enumerate(annotations, 1):
        try:
            captions.setdefault(annotation["image_id"], []).append(str(annotation["caption"]))
        except (KeyError, TypeError):
            broken.append(f"annotation {number}")
    for number, image in enumerate(images, 1):
        try:
            name, texts = _file_name(str(image["file_name"])), captions.get(image["id"], [])
        except (KeyError, TypeError):
            broken.append(f"image {number}")
        else:
            files.append(PictureFile(f"{folder}/{name}", tidy_captions(texts)))
    if not files:
        raise _damaged(path, "no image with an id and a file_name")
    return files, [Omitted(f"annotations/{path.name}, {place}", BROKEN_ROW, "keys are missing") for place in broken]


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} cannot be read: {why}", expected="COCO's captions", remedy="download it again")


def _file_name(name: str) -> str:
    """Return the last part of a picture's path, as an untrusted annotation file must not name other folders."""
    return PurePosixPath(name.encode("utf-8", "replace").decode()).name.replace("\0", "?")


def _coco_folder(root: Path, split: str) -> str:
    choices = [split, f"images/{split}", "images"]
    for name in choices:
        if (root / name).is_dir():
            return name
    given, expected = f"no pictures of {split} in {root}", f"a folder {' or '.join(choices)}"
    raise DataError(given, expected=expected, remedy="unpack the pictures beside annotations/")


def is_cub(root: Path) -> bool:
    return (root / "images").is_dir() and _cub_captions(root) is not None


def open_cub(root: Path, reading: ReadingConfig) -> FilesSource:
    """Return the pairs of CUB-200: `images/<class>/<name>.jpg`, captions in `text_c10/<class>/<name>.txt`.

    Source: Wah et al. 2011; Reed et al. 2016 (captions).

    Raises:
        DataError: There is no picture, or no caption.
    """
    captions = _cub_captions(root)
    assert captions is not None
    return open_folder(list_folder(root / "images"), reading, list_folder(captions))


def _cub_captions(root: Path) -> Path | None:
    places = (root / "text_c10", root / "text" / "text_c10", root / "text")
    return next((place for place in places if place.is_dir()), None)
