import io
import json
import random
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from trencadis.config import FilterConfig
from trencadis.config.data import ReadingConfig
from trencadis.data import open_source
from trencadis.data.curation import examine, require_whole
from trencadis.data.files import SizedSource
from trencadis.data.pairs import (
    COMPRESSED_SHARD,
    DAMAGED_SHARD,
    LONE_CAPTION,
    NO_FILE,
    OTHER_FORMAT,
    SAME_KEY,
    ListedSource,
)
from trencadis.errors import DataError
from trencadis.protocols import PairSource

Tar = Callable[..., Path]


def ids(source: PairSource) -> list[str]:
    return [source.sample_id(index) for index in range(len(source))]


def test_shard_is_read_as_img2dataset_writes_it(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    raw = picture()
    members = [("000.jpg", raw), ("000.txt", b"from txt\n"), ("000.json", b'{"caption": "from json"}')]
    source = open_source(str(tar(tmp_path / "00000.tar", [*members, ("001.PNG", raw), ("001.json", members[2][1])])))
    assert isinstance(source, PairSource)
    assert isinstance(source, SizedSource)
    assert ids(source) == ["00000.tar/000", "00000.tar/001"]
    assert [source.captions(0), source.captions(1)] == [("from txt",), ("from json",)]
    assert source.image_bytes(1) == raw
    assert source.image_size_bytes(1) == len(raw)
    assert source.weight(0) == 1.0


@pytest.mark.parametrize(
    ("content", "captions"),
    [
        ({"caption": ["one", " ", "two"]}, ("one", "two")),
        ({"text": "one"}, ("one",)),
        ({"caption": None}, ()),
        ({"url": "x"}, ()),
    ],
)
def test_captions_in_json(
    tmp_path: Path, tar: Tar, picture: Callable[..., bytes], content: object, captions: tuple[str, ...]
) -> None:
    members = [("0.png", picture()), ("0.json", json.dumps(content).encode())]
    assert open_source(str(tar(tmp_path / "a.tar", members))).captions(0) == captions


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("0.txt", b"K\xf6nig"),
        ("0.json", b"{"),
        ("0.json", b"[1]"),
        ("0.json", b'{"caption": 3}'),
        ("0.json", b"[" * 100_000),
        ("0.txt", b"x" * 1_000_001),
    ],
)
def test_broken_captions_are_refused_alone(
    tmp_path: Path, tar: Tar, picture: Callable[..., bytes], name: str, content: bytes
) -> None:
    members = [("0.png", picture()), (name, content), ("1.png", picture()), ("1.txt", b"whole")]
    source = open_source(str(tar(tmp_path / "a.tar", members)))
    with pytest.raises(DataError, match="of 0 "):
        source.captions(0)
    assert source.captions(1) == ("whole",)


def test_everything_in_a_shard_is_a_pair_or_accounted_for(
    tmp_path: Path, tar: Tar, picture: Callable[..., bytes]
) -> None:
    raw = picture()
    members = [
        ("a.b.jpg", raw), ("a.b.txt", b"dots in the name"), ("c.png", raw), ("c.png.TXT", b"the whole name"),
        ("d.jpg", raw), ("d.en.caption", b"before the first dot"), ("e.JFIF", raw), ("e.caption", b"a caption"),
        ("f.txt", b"alone"), ("g.json", b'{"caption": "alone too"}'), ("stats.json", b'{"count": 3}'), ("h.jxl", b"x"),
        ("a.b.png", raw), ("._c.png", b"of macOS"), ("i.jpg", raw), ("notes.md", b"x"), ("i.cls", b"3"),
        ("j.jpg", raw), ("j.txt", b"own"), ("j.jpg.txt", b"second"), ("dir/k.jpg", raw), ("k.txt", b"elsewhere"),
    ]  # fmt: skip
    source = open_source(str(tar(tmp_path / "s.tar", members)))
    captions = {source.sample_id(index): source.captions(index) for index in range(len(source))}
    assert captions == {
        "s.tar/a.b": ("dots in the name",), "s.tar/c": ("the whole name",), "s.tar/d": ("before the first dot",),
        "s.tar/e": ("a caption",), "s.tar/i": (), "s.tar/j": ("own",), "s.tar/dir/k": (),
    }  # fmt: skip
    assert isinstance(source, ListedSource)
    assert sorted((one.name, one.reason) for one in source.omitted) == [
        ("s.tar/a.b.png", SAME_KEY),
        ("s.tar/f", LONE_CAPTION),
        ("s.tar/g", LONE_CAPTION),
        ("s.tar/h.jxl", OTHER_FORMAT),
        ("s.tar/j.jpg", LONE_CAPTION),
        ("s.tar/k", LONE_CAPTION),
    ]


def test_one_bad_shard_does_not_stop_the_rest(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    members = [(f"{number}.png", picture()) for number in range(3)]
    tar(tmp_path / "0.tar", members)
    tar(tmp_path / "1.tar", members, "w:gz")
    cut = tar(tmp_path / "2.tar", members)
    cut.write_bytes(cut.read_bytes()[: 2 * 1024 + 600])
    (tmp_path / "3.tar").write_bytes(b"")
    (tmp_path / "4.tar").write_bytes(b"no tar at all" * 100)
    source = open_source(str(tmp_path))
    assert ids(source) == [*(f"0.tar/{number}" for number in range(3)), "2.tar/0", "2.tar/1"]
    assert isinstance(source, ListedSource)
    assert [(one.name, one.reason) for one in source.omitted] == [
        ("1.tar", COMPRESSED_SHARD),
        ("2.tar", DAMAGED_SHARD),
        ("3.tar", DAMAGED_SHARD),
        ("4.tar", DAMAGED_SHARD),
    ]
    assert "cut short" in source.omitted[1].detail
    with pytest.raises(DataError, match=r"compressed shard: 1\.tar"):
        require_whole(examine(source, FilterConfig()))


def test_shards_named_after_a_split_are_held_out(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    for name in ("train-000.tar", "train-001.tar", "val-000.tar"):
        tar(tmp_path / name, [("0.png", picture())])
    source = open_source(str(tmp_path))
    assert isinstance(source, ListedSource)
    assert source.held_out == {2}


def test_the_captions_key_of_a_json_can_be_chosen(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    members = [("0.png", picture()), ("0.json", b'{"caption": "of the site", "Mine": "ours"}')]
    source = open_source(str(tar(tmp_path / "a.tar", members)), ReadingConfig(caption_column="mine"))
    assert source.captions(0) == ("ours",)


def test_names_that_climb_are_names_and_nothing_else(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    inside = tmp_path / "inside"
    members = [("../../evil.png", picture()), ("../../evil.txt", b"a caption"), ("/abs/x.png", picture())]
    source = open_source(str(tar(inside / "a.tar", members)))
    assert ids(source) == ["a.tar/../../evil", "a.tar//abs/x"]
    assert source.captions(0) == ("a caption",)
    assert source.image_bytes(0) == picture()
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "a.tar"]


def test_links_and_devices_are_passed_over(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    path = tar(tmp_path / "a.tar", [("0.png", picture()), ("0.txt", b"a caption")])
    with tarfile.open(path, "a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"kind{kind!r}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    source = open_source(str(path))
    assert ids(source) == ["a.tar/0"]
    assert isinstance(source, ListedSource)
    assert len(source.omitted) == 5
    assert {one.reason for one in source.omitted} == {NO_FILE}


def test_folders_long_names_and_other_languages(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    stems = ["some/folder/0", "x" * 200, "ключ", "./here"]
    members = [(f"{stem}.png", picture()) for stem in stems] + [("ключ.txt", "слон".encode())]
    source = open_source(str(tar(tmp_path / "a.tar", members)))
    assert ids(source) == ["a.tar/some/folder/0", "a.tar/" + "x" * 200, "a.tar/ключ", "a.tar/here"]
    assert source.captions(2) == ("слон",)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_compressed_shard_is_refused(
    tmp_path: Path, tar: Tar, picture: Callable[..., bytes], mode: str, name: str
) -> None:
    path = tar(tmp_path / name, [("0.png", picture())], mode)
    with pytest.raises(DataError, match=r"is compressed with .*; decompress it first"):
        open_source(str(path))


def test_shard_without_pictures_is_refused(tmp_path: Path, tar: Tar) -> None:
    with pytest.raises(DataError, match=r"no picture in .*key\.jpg"):
        open_source(str(tar(tmp_path / "a.tar", [("0.txt", b"a caption"), ("1.jxl", b"x")])))


def test_every_cut_is_found(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    path = tar(tmp_path / "a.tar", [(f"{number}.png", picture()) for number in range(3)])
    raw = path.read_bytes()
    end = 3 * 1024  # each member is a header and one block; the end mark follows
    assert raw[end:].strip(b"\0") == b""
    member = 512 + len(picture())
    for size in range(0, end + 1, 64):
        path.write_bytes(raw[:size])
        whole = sum(size >= 1024 * number + member for number in range(3))
        if not whole:
            with pytest.raises(DataError, match=r"a\.tar is damaged or cut short"):
                open_source(str(path))
            continue
        source = open_source(str(path))
        assert isinstance(source, ListedSource)
        assert [one.reason for one in source.omitted] == [DAMAGED_SHARD]
        assert [source.image_bytes(index) for index in range(len(source))] == [picture()] * whole


def test_damaged_headers_never_crash_or_hang(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    chance = random.Random(0)
    raw = tar(tmp_path / "a.tar", [("é" * 120 + f"{n}.png", picture()) for n in range(3)]).read_bytes()
    headers = [start for start in range(0, len(raw), 512) if raw[start + 257 : start + 262] == b"ustar"]
    path = tmp_path / "b.tar"
    refused = found = 0
    for _ in range(200):
        damaged = bytearray(raw)
        damaged[chance.choice(headers) + chance.randrange(512)] = chance.choice((0, 0x30, 0x80, 0xFF))
        for start in headers:  # a checksum that fits lets the damage through to the fields
            total = sum(damaged[start : start + 148]) + 8 * 32 + sum(damaged[start + 156 : start + 512])
            damaged[start + 148 : start + 156] = b"%06o\0 " % total
        path.write_bytes(damaged)
        try:
            source = open_source(str(path))
        except DataError:
            refused += 1
        else:
            assert isinstance(source, ListedSource)
            found += bool(source.omitted)
            assert len(source) > 0
    assert refused > 0
    assert found > 0


@pytest.mark.timeout(30)
def test_member_of_negative_size_does_not_lead_in_a_ring(
    tmp_path: Path, tar: Tar, picture: Callable[..., bytes]
) -> None:
    path = tar(tmp_path / "a.tar", [("0.png", picture()), ("1.png", picture())])
    raw = bytearray(path.read_bytes())
    start = 1024
    raw[start + 124 : start + 136] = (-512).to_bytes(12, "big", signed=True)
    total = sum(raw[start : start + 148]) + 8 * 32 + sum(raw[start + 156 : start + 512])
    raw[start + 148 : start + 156] = b"%06o\0 " % total
    path.write_bytes(raw)
    source = open_source(str(path))
    assert isinstance(source, ListedSource)
    assert ids(source) == ["a.tar/0"]
    assert [one.reason for one in source.omitted] == [DAMAGED_SHARD]


def test_shard_that_shrinks_while_it_is_used(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    path = tar(tmp_path / "a.tar", [("0.png", picture())])
    source = open_source(str(path))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match="is cut short"):
        source.image_bytes(0)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        source.image_bytes(0)


def test_a_webdataset_key_ends_at_the_first_dot(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    members = [("a/1.image.png", picture()), ("a/1.txt", b"one"), ("b.v2.png", picture()), ("b.v2.txt", b"two")]
    members += [("c.left.png", picture()), ("c.right.png", picture()), ("c.txt", b"either")]
    members += [("d.png", picture()), ("d.mask.png", picture()), ("d.txt", b"of d")]
    source = open_source(str(tar(tmp_path / "a.tar", members)))
    captions = {source.sample_id(index): source.captions(index) for index in range(len(source))}
    assert captions == {
        "a.tar/a/1.image": ("one",),
        "a.tar/b.v2": ("two",),
        "a.tar/c.left": (),
        "a.tar/c.right": (),
        "a.tar/d": ("of d",),
        "a.tar/d.mask": (),
    }
    assert isinstance(source, ListedSource)
    assert [(one.name, one.reason) for one in source.omitted] == [("a.tar/c", LONE_CAPTION)]


def test_joined_shards_are_read_to_the_end(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    parts = [tar(tmp_path / f"{n}.tar", [(f"{n}.png", picture()), (f"{n}.txt", b"x")]).read_bytes() for n in range(3)]
    path = tmp_path / "all.tar"
    path.write_bytes(b"".join(parts))
    source = open_source(str(path))
    assert isinstance(source, ListedSource)
    assert (ids(source), source.omitted) == ([f"all.tar/{n}" for n in range(3)], ())
    assert [(source.image_bytes(n), source.captions(n)) for n in range(3)] == [(picture(), ("x",))] * 3
    for behind in (b"a signature", parts[0][:300], b"x" * 5000):
        path.write_bytes(parts[0] + behind)
        source = open_source(str(path))
        assert isinstance(source, ListedSource)
        assert (ids(source), [one.reason for one in source.omitted]) == (["all.tar/0"], [DAMAGED_SHARD])


def test_zeros_where_members_will_be_are_no_end(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    raw = tar(tmp_path / "whole.tar", [(f"{n}.png", picture()) for n in range(3)]).read_bytes()
    path = tmp_path / "a.tar"
    path.write_bytes(raw[:1024] + bytes(3_000_000))
    source = open_source(str(path))
    assert isinstance(source, ListedSource)
    assert ids(source) == ["a.tar/0"]
    assert "zeros in place of members from byte 1,024" in source.omitted[0].detail
    path.write_bytes(raw + bytes(512 * 1024))  # as with a large blocking factor
    source = open_source(str(path))
    assert isinstance(source, ListedSource)
    assert (len(source), source.omitted) == (3, ())


def test_headers_are_not_taken_into_memory_whatever_they_claim(
    tmp_path: Path, tar: Tar, picture: Callable[..., bytes]
) -> None:
    whole = tar(tmp_path / "whole.tar", [("0.png", picture())]).read_bytes()[:1024]
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 200_000_000
    negative = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    negative[124:136] = (-(2**40)).to_bytes(12, "big", signed=True)
    negative[148:156] = b"%06o\0 " % (sum(negative[:148]) + 8 * 32 + sum(negative[156:]))
    record = f"{2**19} comment=".encode().ljust(2**19 - 1, b"x") + b"\n"
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, len(record)
    endless = (pax.tobuf(tarfile.PAX_FORMAT) + record) * 20
    path = tmp_path / "a.tar"
    for claim in (header.tobuf(tarfile.GNU_FORMAT), negative, endless):
        path.write_bytes(whole + claim)
        with path.open("r+b") as file:
            file.truncate(250_000_000)  # sparse: it takes no place on disk
        tracemalloc.start()
        source = open_source(str(path))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 10_000_000
        assert isinstance(source, ListedSource)
        assert (ids(source), [one.reason for one in source.omitted]) == (["a.tar/0"], [DAMAGED_SHARD])


def test_a_picture_whose_place_another_takes_is_accounted_for(
    tmp_path: Path, tar: Tar, picture: Callable[..., bytes]
) -> None:
    names = ("0.png", "0.png", "e\u0301.png", "\u00e9.png")
    source = open_source(str(tar(tmp_path / "a.tar", [(name, picture()) for name in names])))
    assert isinstance(source, ListedSource)
    assert len(source) + len(source.omitted) == len(names)
    assert {one.reason for one in source.omitted} == {SAME_KEY}


def test_later_member_of_a_name_counts(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    members = [("0.png", picture()), ("0.txt", b"old"), ("0.txt", b"new")]
    assert open_source(str(tar(tmp_path / "a.tar", members))).captions(0) == ("new",)


def test_shards_of_one_name_in_two_folders_stay_apart(tmp_path: Path, tar: Tar, picture: Callable[..., bytes]) -> None:
    for folder in ("one", "two"):
        tar(tmp_path / folder / "0.tar", [("0.png", picture())])
    assert ids(open_source(f"{tmp_path}/*/0.tar")) == ["one/0.tar/0", "two/0.tar/0"]


def test_stray_bytes_are_no_shard(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(io.BytesIO(b"no tar at all" * 100).getvalue())
    with pytest.raises(DataError, match="damaged"):
        open_source(str(path))
