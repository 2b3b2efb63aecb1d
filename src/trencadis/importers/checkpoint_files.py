"""Checkpoint files of any container that publishers have used: torch's zip, torch's older format, safetensors."""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from trencadis.importers.pickles import MAX_PICKLE_BYTES, Made, read_pickle
from trencadis.importers.refusal import refusal, shown
from trencadis.importers.tensors import DTYPES, Bytes, Storage, StoredTensor, are_counts

MAX_HEADER_BYTES = 8 << 20
MAX_MODULES_DEEP = 32

# What torch begins its older format with, before the version.
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # a signature, what the directory says again, the lengths of name and extra
_IS_ENCRYPTED = 0x1
_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_checkpoint(path: Path) -> object:
    """Return what a checkpoint file describes; nothing that it holds is run, and no weight is read yet.

    Args:
        path: A file that `torch.save` wrote, in its format or the one before version 1.6, or a safetensors file.

    Returns:
        Dictionaries, lists, tuples, numbers and texts as such; tensors as `StoredTensor`; everything else as `Made`.

    Raises:
        ModelError: It is absent, of another kind, cut short or damaged, or names what no checkpoint should.
    """
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "is not there"
        raise refusal(path, fault, expected="a checkpoint file", remedy="check the path")
    try:
        content = Bytes(path) if path.stat().st_size else None
    except OSError as error:
        raise refusal(
            path, f"cannot be read: {(error.strerror or str(error)).lower()}", remedy="check the path"
        ) from error
    if content is not None:
        beginning = content.part(0, 9)
        if beginning[:2] == b"PK":
            return _read_zip(content)
        if beginning[:1] == b"\x80":
            return _read_legacy(content)
        if beginning[8:] == b"{":
            return _read_safetensors(content)
    expected = "a file that torch.save or safetensors wrote"
    raise refusal(path, "is no checkpoint", expected=expected, remedy="get the file from its publisher again")


def named_tensors(tree: object) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint by the names that a state dict has for them.

    Args:
        tree: From `read_checkpoint`: a module that was saved whole, a state dict, or a dictionary with one under
            `state_dict`. What is neither has no tensors.
    """
    if isinstance(tree, Made):
        return _tensors_of_module(tree)
    if isinstance(tree, dict):
        state = tree.get("state_dict", tree)
        if isinstance(state, dict):
            return {name: value for name, value in state.items() if isinstance(name, str) and _is_tensor(value)}
    return {}


def _is_tensor(value: object) -> bool:
    return isinstance(value, StoredTensor)


def _tensors_of_module(module: Made) -> dict[str, StoredTensor]:
    """Return the parameters and buffers of a module and of those in it, each module once."""
    tensors: dict[str, StoredTensor] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", module)]
    while waiting:
        prefix, child = waiting.pop()
        if not isinstance(child, Made) or not isinstance(child.state, dict) or id(child) in seen:
            continue
        seen.add(id(child))
        for kind in ("_parameters", "_buffers", "_modules"):
            members = child.state.get(kind)
            for name, value in members.items() if isinstance(members, dict) else ():
                if isinstance(value, StoredTensor):
                    tensors[f"{prefix}{name}"] = value
                elif prefix.count(".") < MAX_MODULES_DEEP:
                    waiting.append((f"{prefix}{name}.", value))
    return tensors


def _read_zip(content: Bytes) -> object:
    """Read torch's format: `NAME/data.pkl` beside `NAME/data/0`, `NAME/data/1`, …, none of them compressed."""
    path = content.path
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise refusal(path, f"is cut short or damaged: {shown(str(error))}") from error
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise refusal(path, "is a zip file and no checkpoint", expected="a file that torch.save wrote")
    byte_order = members.get(f"{roots[0]}byteorder")
    if byte_order is not None and content.part(_place_of(byte_order, content), 3) == b"big":
        raise refusal(path, "has its bytes in the other order", expected="little-endian numbers")
    pickled = members[f"{roots[0]}data.pkl"]
    if pickled.file_size > MAX_PICKLE_BYTES:
        raise refusal(
            path, f"has a pickle of {pickled.file_size} bytes", expected=f"{MAX_PICKLE_BYTES} or fewer beside weights"
        )
    storages: dict[str, Storage] = {}
    tree, _ = read_pickle(content, _place_of(pickled, content), storages, size=pickled.file_size)
    for key, storage in storages.items():
        member = members.get(f"{roots[0]}data/{key}")
        if member is None or member.file_size != storage.size_bytes:
            found = "no" if member is None else f"{member.file_size}"
            raise refusal(path, f"has {found} bytes for storage {shown(key)}, which has {storage.size_bytes}")
        storage.start, storage.checksum = _place_of(member, content), member.CRC
    return tree


def _place_of(member: zipfile.ZipInfo, content: Bytes) -> int:
    """Return where the bytes of a member begin in the file.

    Raises:
        ModelError: It is compressed or encrypted, or is not there.
    """
    name = shown(member.filename)
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _IS_ENCRYPTED:
        raise refusal(content.path, f"has {name} compressed or encrypted", expected="members stored as is")
    header = content.part(member.header_offset, _LOCAL_HEADER.size)
    if member.header_offset < 0 or len(header) < _LOCAL_HEADER.size or member.compress_size != member.file_size:
        raise refusal(content.path, f"is cut short or damaged at {name}")
    signature, name_size, extra_size = _LOCAL_HEADER.unpack(header)
    start = int(member.header_offset + _LOCAL_HEADER.size + name_size + extra_size)
    if signature != b"PK\x03\x04" or start + member.file_size > len(content):
        raise refusal(content.path, f"is cut short or damaged at {name}")
    return start


def _read_legacy(content: Bytes) -> object:
    """Read the format before torch 1.6: five pickles, then each storage behind the count of its numbers."""
    path = content.path
    storages: dict[str, Storage] = {}
    magic, position = read_pickle(content, 0, {})
    if magic != _LEGACY_MAGIC:
        raise refusal(path, "is a pickle and no checkpoint", expected="a file that torch.save wrote")
    version, position = read_pickle(content, position, {})
    system, position = read_pickle(content, position, {})
    if version != _LEGACY_VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise refusal(path, "is of another version or byte order", expected="a checkpoint of little-endian numbers")
    tree, position = read_pickle(content, position, storages)
    keys, position = read_pickle(content, position, {})
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise refusal(path, "is cut short or damaged: its list of storages is another than its tensors'")
    for key in dict.fromkeys(keys):
        storage = storages[key]
        count = int.from_bytes(content.part(position, 8), "little")
        storage.start = position + 8
        position = storage.start + storage.size_bytes
        if count != storage.count or position > len(content):
            raise refusal(path, f"is cut short or damaged at storage {shown(key)} of {storage.size_bytes} bytes")
    return tree


def _read_safetensors(content: Bytes) -> object:
    """Read safetensors: the length of a JSON header, the header, the numbers."""
    path = content.path
    size = int.from_bytes(content.part(0, 8), "little")
    if size > min(MAX_HEADER_BYTES, len(content) - 8):
        raise refusal(path, f"has a header of {size} bytes, and {len(content)} in all")
    try:
        header = json.loads(content.part(8, size))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _described(name, entry, content, start=8 + size) for name, entry in tensors.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise refusal(path, f"has a header that cannot be read: {shown(str(error))}") from error


def _described(name: str, entry: dict[str, Any], content: Bytes, *, start: int) -> StoredTensor:
    """Return a tensor of a safetensors file; `start` is where the numbers begin."""
    begin, end = entry["data_offsets"]
    shape = entry["shape"]
    if not are_counts(shape) or not are_counts([begin, end]) or not 0 <= begin <= end <= len(content) - start:
        raise ValueError(f"{name} lies outside the file")
    storage = Storage(content, name, DTYPES[_SAFETENSORS[entry["dtype"]]], 0, start + begin)
    storage.count = (end - begin) // storage.dtype.itemsize
    stride = [1]
    for length in reversed(shape[1:]):
        stride.append(stride[-1] * length)
    tensor = StoredTensor(storage, 0, tuple(shape), tuple(reversed(stride[: len(shape)])))
    if tensor.count * storage.dtype.itemsize != end - begin:
        raise ValueError(f"{name} has another size than its shape")
    return tensor
