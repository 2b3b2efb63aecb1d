"""Damaged files of every kind that is read: each is read or refused, within bounded time and memory."""

import io
import json
import random
import resource
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus import jpeg, others, png, tiff
from tests.corpus.drawing import encoded, quarters
from tests.support.mutations import mutated
from trencadis.config import FilterConfig
from trencadis.data import decode_picture, open_source, picture_size
from trencadis.data.curation import examine
from trencadis.errors import DataError, PictureError

PICTURES = [odd.raw for odd in (png.files() | jpeg.files() | tiff.files() | others.files()).values()]
PICTURES = [raw for raw in PICTURES if 0 < len(raw) < 50_000]
LIMIT = 1_000_000
MOST_BYTES = 400_000_000


@pytest.fixture(autouse=True)
def memory_is_bounded() -> Iterator[None]:
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < MOST_BYTES


def read_pictures(seeds: range) -> tuple[int, int]:
    """Return how many damaged pictures were read and how many were refused."""
    read = 0
    for seed in seeds:
        chance = random.Random(seed)
        raw = mutated(chance.choice(PICTURES), chance.choice(PICTURES), seed)
        try:
            size = picture_size(raw, max_image_pixels=LIMIT)
            picture = decode_picture(raw, max_image_pixels=LIMIT)
        except PictureError:
            pass
        else:
            assert (picture.mode, picture.size) == ("RGB", size[::-1])
            read += 1
    return read, len(seeds) - read


def tables(parquet: bool) -> dict[str, bytes]:
    """Return whole files by their name, of three pairs each. The pictures a.png, b.png and c.png are beside them."""
    names, captions = ["a.png", "b.png", "c.png"], ["a red thing", "ein Ding", "东西"]
    rows = list(zip(names, captions, strict=True))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, caption in rows:
            for member, content in ((name, encoded(quarters())), (f"{name[0]}.txt", caption.encode())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    files = {
        "metadata.jsonl": "".join(json.dumps({"file_name": n, "caption": c}) + "\n" for n, c in rows).encode(),
        "metadata.csv": ("file_name,caption\n" + "".join(f'{n},"{c}, seen"\n' for n, c in rows)).encode(),
        "metadata.tsv": ("file\ttext\n" + "".join(f"{n}\t{c}\n" for n, c in rows)).encode("utf-16"),
        "shard.tar": archive.getvalue(),
    }
    if parquet:
        import pyarrow
        import pyarrow.parquet

        for name, column in (("metadata", names), ("pictures", [encoded(quarters())] * 3)):
            raw = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.table({"image": column, "caption": captions}), raw)
            files[f"{name}.parquet"] = raw.getvalue()
    return files


def read_datasets(root: Path, seeds: range, *, parquet: bool) -> dict[str, list[int]]:
    """Return how many damaged files of each name were read, and how many were refused."""
    whole = tables(parquet)
    for name in "abc":
        (root / f"{name}.png").write_bytes(encoded(quarters()))
    counts: dict[str, list[int]] = {name: [0, 0] for name in whole}
    for seed in seeds:
        name = list(whole)[seed % len(whole)]
        other = random.Random(seed).choice(list(whole.values()))
        path = root / name
        path.write_bytes(mutated(whole[name], other, seed))
        try:
            curated = examine(open_source(str(path)), FilterConfig())
        except DataError:
            counts[name][1] += 1
        else:
            assert len(curated.kept) + len(curated.left_out) > 0
            counts[name][0] += 1
        path.unlink()
    return counts


def test_damaged_pictures() -> None:
    assert min(read_pictures(range(600))) > 60


def test_damaged_tables_and_shards(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    counts = read_datasets(tmp_path, range(240), parquet=True)
    assert all(read for read, _ in counts.values()), counts
    assert sum(refused for _, refused in counts.values()) > 20, counts


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_damaged_files(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert sum(read_pictures(range(10_000, 17_000))) == 7_000
    assert sum(map(sum, read_datasets(tmp_path, range(10_000, 13_000), parquet=True).values())) == 3_000
