"""Folders with the layout of two published datasets: MS-COCO and CUB-200."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from trencadis.data.files import FilesSource, PictureFile, joined_files, open_folder, tidy_captions
from trencadis.errors import DataError


def is_coco(root: Path) -> bool:
    return any(root.glob("annotations/captions_*.json"))


def open_coco(root: Path) -> FilesSource:
    """Return the pairs of MS-COCO: `annotations/captions_<split>.json`, pictures in `<split>/` or `images/`.

    Source: Lin et al. 2014; Chen et al. 2015 (captions).

    Raises:
        DataError: An annotation file differs from the published format, or the folder of its pictures is missing.
    """
    files: list[PictureFile] = []
    for path in sorted(root.glob("annotations/captions_*.json")):
        folder = _coco_folder(root, path.stem.removeprefix("captions_"))
        try:
            content = json.loads(path.read_text("utf-8"))
            captions: dict[Any, list[str]] = {}
            for annotation in content["annotations"]:
                captions.setdefault(annotation["image_id"], []).append(str(annotation["caption"]))
            named = [(str(image["file_name"]), captions.get(image["id"], [])) for image in content["images"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            given = f"{path} cannot be read: {type(error).__name__}: {str(error)[:80]}"
            raise DataError(given, expected="COCO's captions", remedy="download it again") from error
        files.extend(PictureFile(f"{folder}/{_file_name(name)}", tidy_captions(texts)) for name, texts in named)
    return FilesSource(root, joined_files(files))


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


def open_cub(root: Path) -> FilesSource:
    """Return the pairs of CUB-200: `images/<class>/<name>.jpg`, captions in `text_c10/<class>/<name>.txt`.

    Source: Wah et al. 2011; Reed et al. 2016 (captions).

    Raises:
        DataError: There is no picture, or no caption.
    """
    return open_folder(root / "images", _cub_captions(root))


def _cub_captions(root: Path) -> Path | None:
    places = (root / "text_c10", root / "text" / "text_c10", root / "text")
    return next((place for place in places if place.is_dir()), None)
