"""What is kept, and what is left out by its reason, is everything captioned or pictorial that is there."""

import os
import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest

from tests.unit.data.odd_data import OddData, odd_folder, odd_shards, odd_splits, odd_table
from trencadis.config import FilterConfig
from trencadis.data import Curated, open_source
from trencadis.data.curation import examine

KINDS = {"folder": odd_folder, "table": odd_table, "shards": odd_shards, "splits": odd_splits}


def curated_of(root: Path) -> Curated:
    return examine(open_source(str(root)), FilterConfig(min_image_side=8))


def plain(names: set[str]) -> set[str]:
    return {unicodedata.normalize("NFC", name) for name in names}


def check(root: Path, make: Callable[[Path, int], OddData], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(root / "data", seed)
    curated = curated_of(data.root)
    assert plain({pair.sample_id for pair in curated.kept}) == plain(data.kept)
    assert Counter(curated.counts()) == data.left_out
    with monkeypatch.context() as patch:
        shuffle_listings(patch, random.Random(seed))
        assert curated_of(data.root) == curated


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(25))
def test_everything_is_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int) -> None:
    check(tmp_path, KINDS[kind], seed, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_accounted_for_in_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for seed in range(1000, 1100):
        check(tmp_path / str(seed), KINDS[kind], seed, monkeypatch)


class Entries:
    """What `os.scandir` returns, in another order."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)

    def __enter__(self) -> "Entries":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def close(self) -> None: ...


def shuffle_listings(monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
    scandir, listdir = os.scandir, os.listdir

    def shuffled_scandir(path: str = ".") -> Entries:
        with scandir(path) as found:
            entries = list(found)
        chance.shuffle(entries)
        return Entries(entries)

    def shuffled_listdir(path: str = ".") -> list[str]:
        names = listdir(path)
        chance.shuffle(names)
        return names

    monkeypatch.setattr(os, "scandir", shuffled_scandir)
    monkeypatch.setattr(os, "listdir", shuffled_listdir)
