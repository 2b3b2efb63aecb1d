"""Files that were made to harm, files that were damaged, and the containers that publishers have used."""

import builtins
import functools
import io
import operator
import os
import pickle
import pickletools
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from tests.unit.importers.published import save
from trencadis.errors import ModelError
from trencadis.importers.checkpoint_files import named_tensors, read_checkpoint
from trencadis.importers.pickles import Global, Made
from trencadis.importers.tensors import read_tensors

STATE = {
    "a.weight": torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1),
    "b": torch.tensor([1.5, -2.0]).bfloat16(),
    "c": torch.tensor(7.0, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "slice": torch.arange(10.0)[2:8:2],
}
CONTAINERS = ("zip", "legacy", "safetensors")


def write(path: Path, container: str, content: Any = None) -> Path:
    state = STATE if content is None else content
    if container == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        return path
    return save(state, path, legacy=container == "legacy")


def read(path: Path) -> dict[str, torch.Tensor]:
    return read_tensors(named_tensors(read_checkpoint(path)), path)


@pytest.mark.parametrize("container", CONTAINERS)
def test_tensors_of_every_container_are_read_in_their_order_and_as_float32(tmp_path: Path, container: str) -> None:
    found = read(write(tmp_path / "a", container))
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == torch.float32
        assert found[name].is_contiguous()
        assert torch.equal(found[name], tensor.float())


def test_what_was_read_is_independent_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "zip")
    found = read(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(found["b"], STATE["b"].float())


class Call:
    """Pickled, it is the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def sentinel_calls(sentinel: Path) -> dict[str, Call]:
    command = f"touch {sentinel}"
    return {
        "posix.system": Call(os.system, command),
        # Of subprocess, under the name that pickle has for Python 2.
        "commands.check_output": Call(subprocess.check_output, ["touch", str(sentinel)]),
        "__builtin__.eval": Call(builtins.eval, f"__import__('os').system({command!r})"),
        "__builtin__.exec": Call(builtins.exec, f"__import__('os').system({command!r})"),
        "__builtin__.getattr": Call(getattr, "", "join"),
        "__builtin__.__import__": Call(__import__, "os"),
        "functools.partial": Call(functools.partial, print),
        "operator.attrgetter": Call(operator.attrgetter, "system"),
        "torch.hub.load": Call(torch.hub.load, "somewhere", "something"),
        "torch.serialization.load": Call(torch.load, str(sentinel)),
        "torch.nn.init.normal_": Call(nn.init.normal_, torch.zeros(2)),
        "torch.nn.modules.module.register_module_forward_hook": Call(
            nn.modules.module.register_module_forward_hook, print
        ),
        "torch.nn.functional.relu": Call(nn.functional.relu, torch.zeros(1)),
    }


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", sentinel_calls(Path("x")))
def test_a_call_that_no_checkpoint_needs_is_refused_by_name_and_not_made(
    tmp_path: Path, name: str, legacy: bool
) -> None:
    sentinel = tmp_path / "sentinel"
    payload = sentinel_calls(sentinel)[name]
    path = save({"state_dict": dict(STATE), "extra": payload}, tmp_path / "bad.ckpt", legacy=legacy)
    with pytest.raises(ModelError, match=rf"bad\.ckpt names {name}; expected tensors and the classes"):
        read_checkpoint(path)
    assert not sentinel.exists()


def test_the_harmful_files_do_harm_where_they_are_loaded_carelessly(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    path = save({"extra": sentinel_calls(sentinel)["posix.system"]}, tmp_path / "bad.ckpt")
    torch.load(path, weights_only=False)
    assert sentinel.exists()


def raw(path: Path, pickled: bytes) -> Path:
    """Write a checkpoint with this pickle and one storage, `0`, of four float32."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return path


def test_state_for_an_object_is_kept_and_reaches_nothing(tmp_path: Path) -> None:
    state = b"}(X\x0c\x00\x00\x00__setstate__K\x01X\x09\x00\x00\x00argumentsK\x02X\x09\x00\x00\x00__class__K\x03u"
    pickled = b"\x80\x02ctorch.nn.modules.container\nSequential\n)\x81" + state + b"b."
    made = read_checkpoint(raw(tmp_path / "a", pickled))
    assert isinstance(made, Made)
    assert (made.kind, made.arguments) == (Global("torch.nn.modules.container", "Sequential"), ())
    assert made.state == {"__setstate__": 1, "arguments": 2, "__class__": 3}
    assert named_tensors(made) == {}


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.modules.container\nSequential.__init__",
        "torch.nn.modules.container\n_copy_to_script_wrapper",
        "pytorch_lightning.utilities\nparsing",
        "pytorch_lightningx.Something\nFoo",
        "dall_e.utils\nmath",
        "builtins\nglobals",
        "torch\nload",
        "os\nsystem",
        "\x1b[31mred\nname",
    ],
)
def test_names_beside_the_allowed_ones_are_refused(tmp_path: Path, name: str) -> None:
    pickled = b"\x80\x02c" + f"{name}\n".encode() + b"."
    with pytest.raises(ModelError, match=" names ") as error:
        read_checkpoint(raw(tmp_path / "a", pickled))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "pickled",
    {
        "an empty stack": b"\x80\x02.",
        "no end": b"\x80\x02}",
        "an unknown opcode": b"\x80\x02\xff.",
        "an object of the old protocol": b"\x80\x02(icollections\nOrderedDict\n.",
        "an extension": b"\x80\x02\x82\x01.",
        "a mark that is not there": b"\x80\x02t.",
        "an item in a number": b"\x80\x02K\x01K\x02K\x03s.",
        "a name from the stack, as later protocols have it": b"\x80\x04\x8c\x05torch\x8c\x04Size\x93.",
        "a call of a number": b"\x80\x02K\x01)R.",
        "a memo that is empty": b"\x80\x02h\x05.",
        "a text that says to be longer": b"\x80\x02X\xff\xff\xff\x7fabc.",
        "bytes that say to be longer": b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        "a number of too many digits": b"\x80\x02I" + b"9" * 10_000 + b"\n.",
        "a storage of nothing": b"\x80\x02)Q.",
        "a storage of a class": b"\x80\x02(X\x07\x00\x00\x00storagecbuiltins\nset\nX\x01\x00\x00\x000NK\x04tQ.",
        "a persistent text": b"\x80\x02Pstorage\n.",
        "a parameter of nothing": b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.",
        "a name with a stray backslash": b"\x80\x02ctor\\Qch\nSize\n.",
        "a tensor of nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    }.values(),
)
def test_a_pickle_that_cannot_be_is_one_line(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(ModelError, match="expected "):
        read_checkpoint(raw(tmp_path / "a", pickled))


@pytest.mark.parametrize(
    "pickled",
    {
        "a place in the memo far away": b"\x80\x02}r\xff\xff\xff\x7f.",
        "a key nested too deep to be hashed": b"\x80\x02})" + b"\x85" * 60_000 + b"K\x01s.",
        "a dictionary in itself": b"\x80\x02}q\x00K\x01h\x00s.",
        "a tuple of itself twice, fifty times": b"\x80\x02})q\x01" + b"h\x01\x86q\x01" * 50 + b"K\x01s.",
    }.values(),
)
def test_a_pickle_that_would_take_forever_does_not(tmp_path: Path, pickled: bytes) -> None:
    assert isinstance(read_checkpoint(raw(tmp_path / "a", pickled)), dict)


def test_a_pickle_of_too_many_steps_or_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis.importers.pickles.MAX_OPCODES", 100)
    with pytest.raises(ModelError, match="more than 100 opcodes"):
        read_checkpoint(raw(tmp_path / "a", b"\x80\x02" + b"N" * 100 + b"N."))
    monkeypatch.setattr("trencadis.importers.checkpoint_files.MAX_PICKLE_BYTES", 100)
    with pytest.raises(ModelError, match="has a pickle of 203 bytes"):
        read_checkpoint(raw(tmp_path / "a", b"\x80\x02" + b"0" * 200 + b"."))


class View(Call):
    """Pickled, it is a tensor over a real storage, of any sizes."""

    def __init__(self, offset: Any, shape: Any, stride: Any) -> None:
        storage: Any = torch.arange(12.0)._typed_storage()  # type: ignore[no-untyped-call]
        arguments: tuple[Any, ...] = (storage, offset, shape, stride, False, OrderedDict())
        super().__init__(torch._utils._rebuild_tensor_v2, *arguments)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("offset", "shape", "stride", "fault"),
    [
        (0, (13,), (1,), "goes beyond its storage of 12"),
        (6, (7,), (1,), "goes beyond its storage of 12"),
        (0, (2, 2), (1, 100), "goes beyond its storage of 12"),
        (0, (1 << 50,), (1,), "goes beyond its storage of 12"),
        (0, (1 << 40, 1 << 40), (1 << 40, 1), "goes beyond its storage of 12"),
        (1 << 70, (1,), (1,), "goes beyond its storage of 12"),
        (0, (5,), (0,), "overlaps itself"),
        (0, (1 << 50, 1), (0, 0), "overlaps itself"),
        (0, (4, 4), (1, 1), "overlaps itself"),
        (0, (4, 3), (2, 3), "overlaps itself"),
        (-1, (2,), (1,), "are impossible"),
        (0, (-2,), (1,), "are impossible"),
        (0, (-2, -2), (1, 1), "are impossible"),
        (3, (2,), (-1,), "are impossible"),
        (0, (2, 2), (1,), "are impossible"),
        (0, (1,) * 9, (1,) * 9, "are impossible"),
        (0, (2.0,), (1,), "without a shape"),
        (0, "ab", (1, 1), "without a shape"),
        ("0", (2,), (1,), "without a storage"),
        (True, (2,), (1,), "without a storage"),
    ],
)
def test_a_tensor_that_reaches_too_far_is_refused_before_memory_is_taken(
    tmp_path: Path, offset: Any, shape: Any, stride: Any, fault: str, legacy: bool
) -> None:
    path = save({"x": View(offset, shape, stride)}, tmp_path / "a", legacy=legacy)
    with pytest.raises(ModelError, match=fault):
        read_checkpoint(path)


def test_a_view_inside_its_storage_is_read(tmp_path: Path) -> None:
    path = save({"x": View(1, (2, 1, 3), (2, 0, 4))}, tmp_path / "a")
    assert read(path)["x"].tolist() == [[[1.0, 5.0, 9.0]], [[3.0, 7.0, 11.0]]]


def test_many_views_of_one_storage_do_not_make_a_small_file_large(tmp_path: Path) -> None:
    shared = torch.zeros(1000)
    path = save({f"x{i}": shared for i in range(100)}, tmp_path / "a")
    with pytest.raises(ModelError, match="describes 400,000 bytes of weights and has "):
        read(path)


def test_a_storage_that_says_to_be_larger_is_refused(tmp_path: Path) -> None:
    weights = torch.arange(300.0)
    older = save({"x": weights}, tmp_path / "legacy", legacy=True)
    content = older.read_bytes()
    at = len(content) - weights.nbytes - 8
    assert content[at : at + 8] == (300).to_bytes(8, "little")
    older.write_bytes(content[:at] + (1 << 60).to_bytes(8, "little") + content[at + 8 :])
    with pytest.raises(ModelError, match="damaged at storage"):
        read_checkpoint(older)
    # In the pickle too: 300 is there as a number of two bytes.
    assert content.count(b"M\x2c\x01") >= 2
    older.write_bytes(content.replace(b"M\x2c\x01", b"J\xff\xff\xff\x7f"))
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(older)
    newer = save({"x": weights}, tmp_path / "zip")
    repacked(newer, change={"data.pkl": lambda pickled: pickled.replace(b"M\x2c\x01", b"J\xff\xff\xff\x7f")})
    with pytest.raises(ModelError, match="has 1,200 bytes for storage 0, which has 8,589,934,588"):
        read_checkpoint(newer)


Change = Callable[[bytes], bytes | None]


def repacked(path: Path, *, change: Mapping[str, Change], compression: int = 0) -> None:
    """Write a zip file anew with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            edit = change.get(name.partition("/")[2])
            changed = content if edit is None else edit(content)
            if changed is not None:
                archive.writestr(name, changed)


def test_a_compressed_file_is_refused_whatever_it_would_become(tmp_path: Path) -> None:
    path = save({"x": torch.zeros(1_000_000)}, tmp_path / "bomb")
    repacked(path, change={}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(ModelError, match=r"has bomb/\S+ compressed or encrypted; expected stored members"):
        read_checkpoint(path)


def test_members_that_are_missing_or_of_another_size_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "zip")
    whole = path.read_bytes()
    changes: list[tuple[str, Change, str]] = [
        ("data/0", lambda _: None, "has no bytes for storage 0, which has 96"),
        ("data/0", lambda content: content[:-1], "has 95 bytes for storage 0"),
        ("data.pkl", lambda _: None, "is a zip file and no checkpoint"),
        ("byteorder", lambda _: b"big", "is big-endian"),
    ]
    for name, change, fault in changes:
        path.write_bytes(whole)
        repacked(path, change={name: change})
        with pytest.raises(ModelError, match=fault):
            read_checkpoint(path)


def test_damaged_weights_are_noticed_by_their_checksum(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "zip")
    content = bytearray(path.read_bytes())
    at = content.index(torch.arange(24.0).numpy().tobytes())
    content[at + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged: storage 0 differs from its checksum"):
        read(path)


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("<html>Not found, but with a status of 200</html>")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("a/b", "c")
    expected = {
        "absent": "is not there; expected a checkpoint file; check the path",
        ".": "is a folder; expected a checkpoint file; check the path",
        "empty": "is no checkpoint; expected a file that torch.save or safetensors wrote",
        "text": "is no checkpoint",
        "picture.png": "is no checkpoint",
        "pickle": "is a pickle and no checkpoint",
        "archive.zip": "is a zip file and no checkpoint",
    }
    for name, line in expected.items():
        with pytest.raises(ModelError, match=line):
            read_checkpoint(tmp_path / name)


def test_safetensors_that_lie_about_their_sizes_are_refused(tmp_path: Path) -> None:
    def written(header: str, size: int | None = None) -> Path:
        path = tmp_path / "a.safetensors"
        path.write_bytes((len(header) if size is None else size).to_bytes(8, "little") + header.encode() + bytes(16))
        return path

    good = '{"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}'
    assert read(written(good))["x"].shape == (2, 2)
    for header, size in (
        (good, 1 << 62),
        (good.replace("[2, 2]", "[2, 3]"), None),
        (good.replace("[2, 2]", "[-2, -2]"), None),
        (good.replace("16", "17"), None),
        (good.replace("16]", "4]"), None),
        (good.replace("F32", "F3"), None),
        (good.replace("[2, 2]", '"22"'), None),
        (good[:-1], None),
        ('{"x": ' + "[" * 50_000, None),
        ('{"x": 5}', None),
    ):
        with pytest.raises(ModelError, match="expected a whole checkpoint"):
            read(written(header, size))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_file_that_is_cut_short_anywhere_is_one_line(tmp_path: Path, container: str) -> None:
    path = write(tmp_path / "whole", container)
    content = path.read_bytes()
    cut = tmp_path / "cut"
    for size in range(0, len(content), 61):
        cut.write_bytes(content[:size])
        with pytest.raises(ModelError):
            read(cut)


EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


@pytest.mark.parametrize("container", CONTAINERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_a_file_with_other_bytes_loads_or_is_one_line(
    tmp_path: Path, container: str, edits: list[tuple[float, int]]
) -> None:
    path = tmp_path / "whole"
    if not path.exists():
        write(path, container, {"a.weight": STATE["a.weight"], "b": STATE["b"]})
    content = bytearray(path.read_bytes())
    for place, byte in edits:
        content[int(place * len(content))] = byte
    changed = tmp_path / "changed"
    changed.write_bytes(content)
    try:
        found = read(changed)
    except ModelError:
        return
    assert all(tensor.dtype == torch.float32 for tensor in found.values())


# Every opcode of the pickle machine, with short arguments behind some of them.
OPCODES = st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])
VALUES = st.sampled_from([b"K\x01", b"X\x01\x00\x00\x00a", b")", b"}", b"]", b"("])
STEPS = st.one_of(OPCODES, st.binary(max_size=3), VALUES)
NAMES = [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(STEPS, st.sampled_from(NAMES)), max_size=30))
def test_any_pickle_loads_or_is_one_line(tmp_path: Path, steps: list[bytes]) -> None:
    buffer = io.BytesIO(b"\x80\x02" + b"".join(steps) + b".")
    path = raw(tmp_path / "a", buffer.getvalue())
    try:
        named_tensors(read_checkpoint(path))
    except ModelError:
        return
