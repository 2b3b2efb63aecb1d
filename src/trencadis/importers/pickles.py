"""Pickles read as data.

A pickle is a program: its opcodes build objects, and may call anything that can be imported. This reader goes through
the opcodes and calls nothing. What a pickle would import is a `Global`, a pair of names; what it would call or
construct is a `Made`, which keeps the arguments. Names that no published checkpoint needs are refused.

`pickle.Unpickler` and `torch.load(weights_only=True)` are not safe enough: both hash the keys of dictionaries, so that
a small file crashes the process or keeps it busy for ever (decision 17).

Source: the opcodes as `pickletools` documents and decodes them; of these, the ones that torch writes (protocol 2).
"""

import pickletools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch

from trencadis.importers.refusal import refusal, shown
from trencadis.importers.tensors import Bytes, Storage, StoredTensor, are_counts

MAX_PICKLE_BYTES = 8 << 20  # published ones have less than 1 MB: the weights lie beside the pickle
MAX_OPCODES = 1_000_000  # a tensor takes about 40

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "UntypedStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DTYPES = frozenset(str(dtype).removeprefix("torch.") for dtype in _STORAGES.values())
_TENSOR = frozenset(["_rebuild_tensor", "_rebuild_tensor_v2"])
_PARAMETER = frozenset(["_rebuild_parameter", "_rebuild_parameter_with_state"])
_BUILTINS = frozenset(
    kind.__name__
    for kind in (set, frozenset, dict, list, tuple, int, float, str, bool, bytes, complex, object, range, slice)
)

# Names that checkpoints hold, by module. Only those of tensors and dictionaries have a meaning here.
_NAMED: dict[str, frozenset[str]] = {
    "torch": frozenset([*_STORAGES, *_DTYPES, "Size", "device", "dtype", "Tensor"]),
    "torch.cuda": frozenset(_STORAGES),
    "torch.storage": frozenset(["UntypedStorage", "_UntypedStorage"]),
    "torch._utils": _TENSOR | _PARAMETER,
    "torch.nn.parameter": frozenset(["Parameter"]),
    "collections": frozenset(["OrderedDict", "defaultdict", "deque"]),
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "dall_e.encoder": frozenset(["Encoder", "EncoderBlock"]),
    "dall_e.decoder": frozenset(["Decoder", "DecoderBlock"]),
    "dall_e.utils": frozenset(["Conv2d"]),
    "_codecs": frozenset(["encode"]),
    "numpy": frozenset(["dtype", "ndarray"]),
    "numpy.core.multiarray": frozenset(["scalar", "_reconstruct"]),
    "numpy._core.multiarray": frozenset(["scalar", "_reconstruct"]),
    "pathlib": frozenset(["Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"]),
    "typing": frozenset(["Any"]),
}
# Classes (with a capital letter) that a trainer leaves in its checkpoints.
_CLASSES = re.compile(
    r"(torch\.nn\.modules\.[a-z]\w*|(pytorch_lightning|lightning|lightning_fabric|omegaconf)(\.[a-z_]\w*)*)"
    r"\.[A-Z][A-Za-z0-9]*"
)


@dataclass(frozen=True)
class Global:
    """What a pickle would import: `name` from `module`."""

    module: str
    name: str

    @property
    def is_allowed(self) -> bool:
        return self.name in _NAMED.get(self.module, ()) or bool(_CLASSES.fullmatch(f"{self.module}.{self.name}"))


@dataclass(eq=False)
class Made:
    """An object that a pickle would construct, and the state that it would give it."""

    kind: Global
    arguments: object
    state: object = None


def read_pickle(
    content: Bytes, start: int, storages: dict[str, Storage], *, size: int = MAX_PICKLE_BYTES
) -> tuple[object, int]:
    """Return what the pickle at `start`, of at most `size` bytes, describes, and where it ends in the file.

    Args:
        storages: Storages by key; those that the pickle names are added.

    Returns:
        Dictionaries, lists, tuples, numbers and strings as such; tensors as `StoredTensor`; everything else as `Made`.
        Dictionaries keep only the entries whose key is a scalar or a `Global`.

    Raises:
        ModelError: It is damaged or too large, or names what no checkpoint needs.
    """
    # A copy of a few megabytes at most, so that no length in the pickle can ask for more than there is.
    stream = BytesIO(content.part(start, size))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an invalid escape in a name
            result = _Machine(content, storages).run(stream)
    # Undecodable numbers and strings; a stack, a memo or arguments that hold something else.
    except (ValueError, LookupError, TypeError, OverflowError, Warning) as error:
        raise refusal(content.path, f"is damaged: {shown(str(error)) or type(error).__name__}") from error
    return result, start + stream.tell()


class _Machine:
    """Runs the opcodes of one pickle over a stack, without calling anything that the pickle names."""

    def __init__(self, content: Bytes, storages: dict[str, Storage]) -> None:
        self.content, self.storages = content, storages
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below the open marks
        self.memo: dict[int, Any] = {}

    def run(self, stream: BytesIO) -> object:
        """Return what the pickle makes; a damaged one raises a `read_pickle` fault. The stream is left at its end."""
        for index, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if index >= MAX_OPCODES:
                raise refusal(self.content.path, f"has a pickle of more than {MAX_OPCODES} opcodes")
            if opcode.name == "STOP":
                break
            if opcode.name in _LITERALS:
                self.stack.append(argument)
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise refusal(self.content.path, f"holds the opcode {opcode.name}", expected="those that torch writes")
        return self.stack.pop()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def take(self, count: int) -> list[Any]:
        """Pop the topmost values, the lowest first."""
        if len(self.stack) < count:
            raise LookupError("an empty stack")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def open_mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def take_to_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.outer.pop()
        return values

    def extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)
        elif not isinstance(self.stack[-1], Made):
            raise TypeError("items appended to what is not a list")

    def set_items(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            # Keys of other types are dropped unhashed: the hash of a nested tuple can take for ever, or crash.
            pairs = zip(values[::2], values[1::2], strict=True)
            self.stack[-1].update((key, value) for key, value in pairs if isinstance(key, _KEYS))
        elif not isinstance(self.stack[-1], Made):
            raise TypeError("items set in what is not a dictionary")

    def find(self, argument: str) -> None:
        found = Global(*argument.split(" ", 1))
        if not found.is_allowed:
            fault = f"names {shown(f'{found.module}.{found.name}')}"
            expected = "tensors and the classes that published checkpoints hold"
            remedy = "do not load it with anything else either, unless you trust its author"
            raise refusal(self.content.path, fault, expected=expected, remedy=remedy)
        self.stack.append(found)

    def make(self) -> None:
        kind, arguments = self.take(2)
        if not isinstance(kind, Global):
            raise TypeError("a call of what has no name")
        self.stack.append(_made(kind, arguments))

    def build(self) -> None:
        state = self.stack.pop()
        # Dictionaries and tensors may have a state too, such as the versions of modules; it is not needed.
        if isinstance(self.stack[-1], Made):
            self.stack[-1].state = state

    def find_persistent(self) -> None:
        """Push the storage, or in the legacy format the class, that a tuple stands for."""
        word, kind, *rest = self.stack.pop()
        if word == "module":
            self.stack.append(kind)
            return
        key, _location, count, *views = rest
        if word != "storage" or not isinstance(kind, Global) or not isinstance(key, str) or not are_counts([count]):
            raise TypeError("a storage without a size")
        if count < 0 or any(view is not None for view in views):
            raise TypeError("an impossible storage")
        dtype = _STORAGES[kind.name.removeprefix("_")]
        storage = self.storages.setdefault(key, Storage(self.content, key, dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise TypeError("one storage of two types or sizes")
        self.stack.append(storage)


def _made(kind: Global, arguments: Any) -> Any:
    """Return what stands for a call. `arguments` are kept, never copied."""
    if kind.module == "torch._utils" and kind.name in _TENSOR:
        storage, offset, shape, stride = arguments[:4]
        if not isinstance(storage, Storage) or not are_counts([offset]):
            raise TypeError("a tensor without a storage")
        if not are_counts(shape) or not are_counts(stride):
            raise TypeError("a tensor without a shape")
        return StoredTensor(storage, offset, tuple(shape), tuple(stride))
    if kind.module == "torch._utils":
        if not isinstance(arguments[0], StoredTensor):
            raise TypeError("a parameter without a tensor")
        return arguments[0]
    if kind == Global("torch", "Size"):
        return arguments[0]
    if kind.name in ("OrderedDict", "defaultdict") and len(arguments) < 2:
        return {}
    return Made(kind, arguments)


_KEYS = (str, bytes, int, float, type(None), Global)
_LITERALS = frozenset(["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"])
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": lambda machine, _: machine.open_mark(),
    "BINPUT": lambda machine, key: machine.memo.update({key: machine.stack[-1]}),
    "LONG_BINPUT": lambda machine, key: machine.memo.update({key: machine.stack[-1]}),
    "BINGET": lambda machine, key: machine.push(machine.memo[key]),
    "LONG_BINGET": lambda machine, key: machine.push(machine.memo[key]),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.take_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.take(3))),
    "APPEND": lambda machine, _: machine.extend(machine.take(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.take_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.take_to_mark()),
    "GLOBAL": _Machine.find,
    "REDUCE": lambda machine, _: machine.make(),
    "NEWOBJ": lambda machine, _: machine.make(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.find_persistent(),
}
