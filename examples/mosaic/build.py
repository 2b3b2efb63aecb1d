"""Build the dataset: `train/` and `heldout/`, each with pictures and a `metadata.jsonl` that `trencadis` reads."""

import itertools
import json
from collections import Counter
from pathlib import Path

from mosaic.captions import captions
from mosaic.draw import draw
from mosaic.scenes import dice, scene
from mosaic.splits import reasons
from trencadis.errors import StorageError
from trencadis.progress import track
from trencadis.storage import whole_directory

CAPTIONS = 4


def build(out: Path, *, train: int, heldout: int, seed: int) -> Counter[str]:
    """Write both sides of the dataset; `out` appears only when it is complete.

    Args:
        train: Pictures to train on.
        heldout: Pictures with a combination that is never trained on.

    Returns:
        How many pictures there are of each split; one that is held out for several reasons counts for each.

    Raises:
        StorageError: `out` is there and not empty, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"{out} is there", expected="a new or empty folder", remedy="name another one, or remove it")
    with whole_directory(out) as folder:
        return _write_side(folder / "train", train, seed, False) + _write_side(folder / "heldout", heldout, seed, True)


def _write_side(folder: Path, count: int, seed: int, is_held: bool) -> Counter[str]:
    (folder / "images").mkdir(parents=True)
    counts: Counter[str] = Counter()
    numbers = itertools.islice(
        (index for index in itertools.count() if bool(reasons(scene(seed, index))) == is_held), count
    )
    lines = []
    for index in track(numbers, f"drawing {folder.name}", count):
        drawn, name = scene(seed, index), f"images/{index:06}.png"
        why = sorted(reasons(drawn))
        draw(drawn).save(folder / name)  # the whole folder is synced at the end
        said = captions(drawn, CAPTIONS, dice(seed, index, "captions"))
        row = {"file_name": name, "captions": said, "scene": drawn.as_json()} | ({"split": why} if why else {})
        lines.append(json.dumps(row) + "\n")
        counts.update(why or ["train"])
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return counts
