"""Checkpoint files of the containers that publishers use: torch's zip, torch's legacy format, safetensors."""

import struct
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from trencadis.importers.pickles import MAX_PICKLE_BYTES, Made, read_pickle
from trencadis.importers.refusal import refusal, shown
from trencadis.importers.tensors import Bytes, Storage, StoredTensor, Tensors
from trencadis.memory import in_memory

MAX_MODULES_DEEP = 32

# The first two values of torch's legacy format.
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, fields that the directory repeats, lengths of name and extra
_IS_ENCRYPTED = 0x1


def read_checkpoint(path: Path) -> object:
    """Return what a checkpoint file describes; nothing in it is executed, and no weight is read yet.

    `torch.save` wrote it, in its format or the one before version 1.6, or it is a safetensors file.

    Returns:
        Dictionaries, lists, tuples, numbers and strings as such; tensors as `StoredTensor`, or of safetensors as
        tensors that are mapped from the file; everything else as `Made`.

    Raises:
        ModelError: It is absent, of another kind or damaged, or names what no checkpoint needs.
    """
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "is not there"
        raise refusal(path, fault, expected="a checkpoint file", remedy="check the path")
    try:
        content = Bytes(path) if path.stat().st_size else None
    except OSError as error:
        fault = f"cannot be read: {(error.strerror or str(error)).lower()}"
        raise refusal(path, fault, remedy="check the path") from error
    if content is not None:
        beginning = content.part(0, 9)
        if beginning[:2] == b"PK":
            return _read_zip(content)
        if beginning[:1] == b"\x80":
            return _read_legacy(content)
        if beginning[8:] == b"{":
            return _read_safetensors(path)
    raise refusal(path, "is no checkpoint", expected="a file that torch.save or safetensors wrote")


def named_tensors(tree: object) -> Tensors:
    """Return the tensors of a checkpoint by the names that a state dict has for them.

    `tree` is a module that was saved whole, a state dict, or a dictionary with one under `state_dict`. Anything else
    has no tensors.
    """
    if isinstance(tree, Made):
        return _tensors_of_module(tree)
    state = tree.get("state_dict", tree) if isinstance(tree, dict) else None
    members = state.items() if isinstance(state, dict) else ()
    return {
        name: value for name, value in members if isinstance(name, str) and isinstance(value, StoredTensor | Tensor)
    }


def _tensors_of_module(module: Made) -> Tensors:
    """Return the parameters and buffers of a module and its submodules, each module once."""
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
        raise refusal(path, f"is damaged: {shown(str(error))}") from error
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise refusal(path, "is a zip file and no checkpoint", expected="a file that torch.save wrote")
    byte_order = members.get(f"{roots[0]}byteorder")
    if byte_order is not None and content.part(_start_of(byte_order, content), 3) == b"big":
        raise refusal(path, "is big-endian", expected="little-endian numbers")
    pickled = members[f"{roots[0]}data.pkl"]
    if pickled.file_size > MAX_PICKLE_BYTES:
        raise refusal(path, f"has a pickle of {pickled.file_size:,} bytes", expected=f"at most {MAX_PICKLE_BYTES:,}")
    storages: dict[str, Storage] = {}
    tree, _ = read_pickle(content, _start_of(pickled, content), storages, size=pickled.file_size)
    for key, storage in storages.items():
        member = members.get(f"{roots[0]}data/{key}")
        if member is None or member.file_size != storage.size_bytes:
            found = "no" if member is None else f"{member.file_size:,}"
            raise refusal(path, f"has {found} bytes for storage {shown(key)}, which has {storage.size_bytes:,}")
        storage.start, storage.checksum = _start_of(member, content), member.CRC
    return tree


def _start_of(member: zipfile.ZipInfo, content: Bytes) -> int:
    """Return where the bytes of a member begin; it must not be compressed or encrypted, nor lie outside the file."""
    name = shown(member.filename)
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _IS_ENCRYPTED:
        raise refusal(content.path, f"has {name} compressed or encrypted", expected="stored members")
    header = content.part(member.header_offset, _LOCAL_HEADER.size)
    if member.header_offset < 0 or len(header) < _LOCAL_HEADER.size or member.compress_size != member.file_size:
        raise refusal(content.path, f"is damaged at {name}")
    signature, name_size, extra_size = _LOCAL_HEADER.unpack(header)
    start = int(member.header_offset + _LOCAL_HEADER.size + name_size + extra_size)
    if signature != b"PK\x03\x04" or start + member.file_size > len(content):
        raise refusal(content.path, f"is damaged at {name}")
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
        raise refusal(path, "has another version or byte order", expected="a checkpoint of little-endian numbers")
    tree, position = read_pickle(content, position, storages)
    keys, position = read_pickle(content, position, {})
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise refusal(path, "is damaged: its list of storages does not match its tensors")
    for key in dict.fromkeys(keys):
        storage = storages[key]
        count = int.from_bytes(content.part(position, 8), "little")
        storage.start = position + 8
        position = storage.start + storage.size_bytes
        if count != storage.count or position > len(content):
            raise refusal(path, f"is damaged at storage {shown(key)} of {storage.size_bytes:,} bytes")
    return tree


@in_memory("loading weights")
def _read_safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it has no iterator
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise refusal(path, f"is damaged: {shown(str(error))}") from error
