"""Folders of pictures, of any model, judged against the captions that `prompts` prints."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from intervals import Figure, share

from mosaic.claims import CLAIMS, Case
from mosaic.judge import read
from mosaic.verdict import is_right
from trencadis.data import read_picture
from trencadis.errors import DataError
from trencadis.progress import track

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def pictures_of(folder: Path, cases: Sequence[Case]) -> dict[str, list[Path]]:
    """Return the pictures of each case: `NAME.png`, `NAME-1.png`, … or any in a folder `NAME`.

    Raises:
        DataError: There is none.
    """
    found: dict[str, list[Path]] = {}
    names = {case.name for case in cases}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.suffix.lower() not in SUFFIXES:
            continue
        for name in (path.parent.name, path.stem, re.sub(r"[-_]\d+$", "", path.stem)):
            if name in names:
                found.setdefault(name, []).append(path)
                break
    if not found:
        expected = f"pictures named as {cases[0].name}.png" if cases else "captions"
        raise DataError(f"{folder} has no picture of a caption", expected=expected, remedy="see `prompts --json`")
    return found


def judge_folder(folder: Path, cases: Sequence[Case]) -> Mapping[str, Figure]:
    """Return the share of pictures that are right, by claim, each caption weighing the same.

    Raises:
        UserError: There is no picture of a caption, or one cannot be read.
    """
    found = pictures_of(folder, cases)
    shares: dict[str, list[float]] = {}
    for case in track([case for case in cases if case.name in found], "judging pictures"):
        right = [is_right(case.asked, read(read_picture(path))) for path in found[case.name]]
        shares.setdefault(case.claim, []).append(sum(right) / len(right))
    return {claim: figure for claim in CLAIMS if (figure := share(shares.get(claim, []))) is not None}
