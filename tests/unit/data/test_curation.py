import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trencadis.config import FilterConfig
from trencadis.data import (
    Curated,
    Dropped,
    KeptPair,
    curate,
    fingerprint,
    open_source,
    pair_stamp,
    require_whole,
)
from trencadis.data.pairs import held_out_names
from trencadis.errors import ConfigError, DataError, StorageError

Maker = Callable[..., bytes]


@pytest.fixture
def mixed(tmp_path: Path, picture: Maker) -> Path:
    """Return a folder with a pair for each reason to be dropped, named after it, and two that stay."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    noise.save(tmp_path / "damaged.png")
    whole = (tmp_path / "damaged.png").read_bytes()
    files = {
        "kept.png": (picture(), b"a red square\nIMG_1234.jpg"),
        "mislabelled.jpg": (picture(kind="WEBP"), b"a red square"),
        "boilerplate.png": (picture(), b"photographed on 3 May 2011"),
        "bomb.png": (picture((300, 300)), b"a red square"),
        "damaged.png": (whole[: len(whole) // 2], b"a square of noise"),
        "latin.png": (picture(), b"ein K\xf6nig"),
        "none.png": (picture(), None),
        "short.png": (picture(), b"..."),
        "small.png": (picture((8, 40)), b"a red square"),
        "tall.png": (picture((20, 41)), b"a red square"),
        "text.png": (b"no picture at all", b"a red square"),
        "wide.png": (picture((41, 20)), b"a red square"),
    }
    for name, (raw, caption) in files.items():
        (tmp_path / name).write_bytes(raw)
        if caption is not None:
            (tmp_path / name).with_suffix(".txt").write_bytes(caption)
    return tmp_path


FILTERS = FilterConfig(max_image_pixels=80_000)


def test_each_pair_is_kept_or_dropped_for_its_reason(mixed: Path) -> None:
    curated = curate(open_source(str(mixed)), FILTERS)
    assert {pair.sample_id.split(".")[0]: pair.reason for pair in curated.dropped} == {
        "boilerplate": "boilerplate caption",
        "bomb": "too many pixels",
        "damaged": "unreadable picture",
        "latin": "unreadable caption",
        "none": "no caption",
        "short": "caption too short",
        "small": "picture too small",
        "tall": "picture too narrow",
        "text": "unreadable picture",
        "wide": "picture too wide",
    }
    assert curated.counts()["unreadable picture"] == 2
    assert sum(curated.counts().values()) == len(curated.dropped)
    details = {pair.sample_id: pair.detail for pair in curated.dropped}
    assert "cut short" in details["damaged.png"]
    assert details["tall.png"] == "20 × 41"


def test_a_pair_keeps_the_captions_that_fit(mixed: Path) -> None:
    curated = curate(open_source(str(mixed)), FILTERS)
    assert curated.kept == (
        KeptPair(3, "kept.png", ("a red square",), 1.0, (32, 32)),
        KeptPair(5, "mislabelled.jpg", ("a red square",), 1.0, (32, 32)),
    )


def test_aspect_is_judged_upright(tmp_path: Path, picture: Maker) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(picture((60, 40), kind="JPEG", exif=exif))
    (tmp_path / "a.txt").write_text("a red portrait")
    source = open_source(str(tmp_path))
    assert curate(source, FilterConfig(max_aspect_ratio=1.0)).kept[0].image_size == (60, 40)
    with pytest.raises(DataError, match="picture too narrow"):
        curate(source, FilterConfig(min_aspect_ratio=1.0))


def test_a_row_without_its_picture_is_dropped(table: Callable[..., Path]) -> None:
    rows = [{"file_name": name, "caption": "a square"} for name in ("gone.png", "a.png")]
    curated = curate(open_source(str(table(*rows))), FilterConfig())
    assert [pair.reason for pair in curated.dropped] == ["no picture"]
    assert len(curated.kept) == 1


def test_nothing_left_names_the_reasons(mixed: Path) -> None:
    with pytest.raises(DataError, match=r"none of 12 pairs is left \(.*1 no caption.*trencadis data check") as caught:
        curate(open_source(str(mixed)), FilterConfig(min_caption_chars=1000))
    assert "\n" not in str(caught.value)


def test_verdicts_do_not_depend_on_chance_and_leave_no_thread(mixed: Path) -> None:
    source = open_source(str(mixed))
    first = curate(source, FILTERS)
    threads = threading.active_count()
    assert curate(source, FILTERS) == first
    assert threading.active_count() == threads


def test_saved_verdicts_are_the_same(mixed: Path, tmp_path: Path) -> None:
    curated = curate(open_source(str(mixed)), FILTERS)
    path = tmp_path / "new" / "curated.json"
    curated.save(path)
    assert Curated.load(path) == curated
    assert json.loads(path.read_text("utf-8"))["kept"][0]["sample_id"] == "kept.png"


def test_verdicts_that_cannot_be_saved(mixed: Path) -> None:
    curated = curate(open_source(str(mixed)), FILTERS)
    with pytest.raises(StorageError):
        curated.save(mixed / "kept.png" / "curated.json")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kept": [], "dropped": []}', '{"kept": [{}], "dropped": []}'])
def test_damaged_verdicts_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "curated.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"curated\.json cannot be read"):
        Curated.load(path)


def test_what_the_source_omits_is_counted(mixed: Path) -> None:
    (mixed / "lone.txt").write_text("a caption")
    (mixed / "drawing.svg").write_text("<svg/>")
    curated = curate(open_source(str(mixed)), FILTERS)
    assert [one.name for one in curated.omitted] == ["drawing.svg", "lone.txt"]
    assert curated.counts()["caption without a picture"] == 1
    assert len(curated.kept) + len(curated.left_out) == 14
    assert sum(curated.counts().values()) == len(curated.left_out)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("damaged.png", "unreadable picture: damaged.png (the picture is cut short), and 2 more"),
        ("latin.png", "unreadable caption: latin.png (latin.txt is not UTF-8 at byte 5)"),
        ("tall.png", None),
    ],
)
def test_strict_refuses_what_is_damaged(mixed: Path, name: str, given: str | None) -> None:
    if name != "damaged.png":
        keep = {"kept", Path(name).stem}
        for path in mixed.iterdir():
            if path.stem not in keep:
                path.unlink()
    curated = curate(open_source(str(mixed)), FILTERS)
    if given is None:
        require_whole(curated)
        return
    with pytest.raises(DataError, match="as strict is asked") as caught:
        require_whole(curated)
    assert caught.value.given == given


def change_caption(root: Path) -> None:
    (root / "a.txt").write_text("another caption")


def change_picture(root: Path) -> None:
    with open(root / "a.jpg", "ab") as file:
        file.write(b"\0")


def add_pair(root: Path) -> None:
    (root / "z.png").write_bytes((root / "b.PNG").read_bytes())


def break_caption(root: Path) -> None:
    (root / "a.txt").write_bytes(b"\xff")


def reorder_captions(root: Path) -> None:
    lines = (root / "a.txt").read_text("utf-8").splitlines()
    (root / "a.txt").write_text("\n".join(reversed(lines)), "utf-8")


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        (change_caption, True),
        (change_picture, True),
        (break_caption, True),
        (add_pair, False),
        (reorder_captions, False),
    ],
)
def test_the_stamp_of_a_pair_shows_whether_it_has_changed(
    folder: Path, change: Callable[[Path], None], is_seen: bool
) -> None:
    before = curate(open_source(str(folder)), FilterConfig()).kept[0]
    change(folder)
    source = open_source(str(folder))
    assert source.sample_id(0) == before.sample_id == "a.jpg"
    assert (pair_stamp(source, 0) != before.stamp) == is_seen


def test_the_stamps_hold_where_the_data_is_copied(folder: Path, tmp_path: Path) -> None:
    before = curate(open_source(str(folder)), FilterConfig())
    shutil.copytree(folder, tmp_path / "elsewhere")
    after = curate(open_source(str(tmp_path / "elsewhere")), FilterConfig())
    assert [pair.stamp for pair in after.kept] == [pair.stamp for pair in before.kept]
    assert len({pair.stamp for pair in before.kept}) == 3


def test_the_fingerprint_is_that_of_the_filters() -> None:
    assert fingerprint(FilterConfig()) == fingerprint(FilterConfig())
    assert fingerprint(FilterConfig()) != fingerprint(FilterConfig(min_caption_chars=4))


def curated_of(count: int) -> Curated:
    pairs = tuple(KeptPair(number, f"{number}.png", ("a caption",), 1.0, (8, 8)) for number in range(count))
    return Curated(pairs, (Dropped(count, "x", "no caption", ""),), "")


def test_split_holds_out_its_share_and_each_pair_once() -> None:
    curated = curated_of(2000)
    train, validation = curated.split(0.1, 0)
    assert sorted(train + validation, key=lambda pair: pair.index) == list(curated.kept)
    assert len(validation) == pytest.approx(200, abs=50)
    assert curated.split(0.1, 1)[1] != validation


def test_pairs_stay_on_their_side_when_others_come() -> None:
    few, many = curated_of(500).split(0.2, 3), curated_of(1000).split(0.2, 3)
    assert set(few[0]) <= set(many[0])
    assert set(few[1]) <= set(many[1])


@pytest.mark.parametrize("held_out", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_no_side_of_a_split_is_empty(count: int, held_out: float) -> None:
    for seed in range(20):
        train, validation = curated_of(count).split(held_out, seed)
        assert train
        assert validation
        assert len(train) + len(validation) == count


def test_a_split_of_the_dataset_counts() -> None:
    curated = curated_of(100)
    own = tuple(replace(pair, held_out=pair.index >= 90) for pair in curated.kept)
    train, validation = replace(curated, kept=own).split(0.5, 0)
    assert (train, validation) == (own[:90], own[90:])
    assert len(replace(curated, kept=own).split(0.0, 0)[0]) == 100
    only = tuple(replace(pair, held_out=True) for pair in curated.kept)
    assert all(replace(curated, kept=only).split(0.5, 0))


@pytest.mark.parametrize(
    ("names", "held_out"),
    [
        (["train", "validation"], {"validation"}),
        (["train2017", "val2017", "test2017"], {"val2017", "test2017"}),
        (["Training", "DEV", "valley"], {"DEV"}),
        (["train-00000-of-00002", "test-00000-of-00001"], {"test-00000-of-00001"}),
        (["validation", "test"], set()),
        (["train"], set()),
        (["trainer", "val"], set()),
        (["train", ""], set()),
    ],
)
def test_names_of_splits(names: list[str], held_out: set[str]) -> None:
    assert held_out_names(names) == held_out


def test_split_that_holds_nothing_out() -> None:
    assert curated_of(3).split(0.0, 0) == (curated_of(3).kept, ())
    assert curated_of(1).split(0.5, 0)[0] + curated_of(1).split(0.5, 0)[1] == curated_of(1).kept


@pytest.mark.parametrize("held_out", [-0.1, 1.0])
def test_share_that_cannot_be_held_out(held_out: float) -> None:
    with pytest.raises(ConfigError):
        curated_of(3).split(held_out, 0)
