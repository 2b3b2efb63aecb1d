"""Pickles read as data.

A pickle is a program: its opcodes build objects, and may call anything that can be imported. Here a machine of our own
goes through the opcodes and calls nothing. What a pickle would import is a `Global`, a pair of names; what it would
call or build is a `Made`, which keeps what it would have been given. So there is nothing in it that could run, and
names that no publisher's checkpoint has reason to hold are refused before anything else is read.

Source: the opcodes as `pickletools` of the standard library documents and decodes them.
"""

import pickletools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from trencadis.importers.refusal import refusal, shown
from trencadis.importers.tensors import DTYPES, Bytes, Storage, StoredTensor, are_counts

MAX_PICKLE_BYTES = 8 << 20  # the published ones have less than 1 MB; the weights lie beside the pickle
MAX_OPCODES = 1_000_000  # a tensor takes about 40

# Opcodes whose argument is the object itself.
_INTEGERS = ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4")
_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_LITERALS = frozenset([*_INTEGERS, *_TEXTS, "FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"])
_IGNORED = frozenset(["PROTO", "FRAME"])
_SCALARS = (str, bytes, int, float, bool, type(None))

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
    "BoolStorage": "bool",
}
_TENSOR = frozenset(["_rebuild_tensor", "_rebuild_tensor_v2"])
_PARAMETER = frozenset(["_rebuild_parameter", "_rebuild_parameter_with_state"])
_PLAIN_TYPES = (set, frozenset, dict, list, tuple, int, float, str, bool, bytes, complex, object, range, slice)
_BUILTINS = frozenset(kind.__name__ for kind in _PLAIN_TYPES)

# What checkpoints name: modules, and the names in them. All are inert; tensors and dictionaries alone have a meaning.
_NAMED: dict[str, frozenset[str]] = {
    "torch": frozenset([*_STORAGES, *DTYPES, "Size", "device", "dtype", "Tensor"]),
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
# Libraries whose classes a trainer leaves in its checkpoints; a class has a capital letter.
_CLASSES = re.compile(
    r"(torch\.nn\.modules\.[a-z]\w*|(pytorch_lightning|lightning|lightning_fabric|omegaconf)(\.[a-z_]\w*)*)"
    r"\.[A-Z][A-Za-z0-9]*"
)


@dataclass(frozen=True)
class Global:
    """What a pickle would import.

    Args:
        module: Where from.
        name: What.
    """

    module: str
    name: str

    @property
    def is_allowed(self) -> bool:
        """Whether the checkpoints of publishers name it."""
        return self.name in _NAMED.get(self.module, ()) or bool(_CLASSES.fullmatch(f"{self.module}.{self.name}"))


@dataclass(eq=False)
class Made:
    """What a pickle would make.

    Args:
        kind: What it would call, or whose object it would make.
        arguments: What it would give it.
        state: What it would set the object's attributes to.
    """

    kind: Global
    arguments: object
    state: object = None


def read_pickle(
    content: Bytes, start: int, storages: dict[str, Storage], *, size: int = MAX_PICKLE_BYTES
) -> tuple[object, int]:
    """Return what a pickle describes, and where it ends in the file.

    Args:
        content: The file.
        start: Where the pickle begins.
        storages: Those that are known by their keys; those that the pickle names are added.
        size: The most bytes that it has.

    Returns:
        Dictionaries, lists, tuples, numbers and texts as such; sets as lists; tensors as `StoredTensor`; everything
        else as `Made`. Dictionaries keep the entries whose key is a scalar or a `Global`.

    Raises:
        ModelError: It is damaged, is too large, or names what no checkpoint should.
    """
    # A copy of a few megabytes at the most, so that no length in the pickle can ask for more than is there.
    stream = BytesIO(content.part(start, size))
    machine = _Machine(content, storages)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a name with a stray backslash
            result = machine.run(stream)
    # Numbers and texts that cannot be decoded, and a stack, a memo or arguments that hold something else.
    except (ValueError, LookupError, TypeError, OverflowError, Warning) as error:
        raise refusal(content.path, f"is cut short or damaged: {shown(str(error)) or type(error).__name__}") from error
    return result, start + stream.tell()


class _Machine:
    """Goes through the opcodes of one pickle."""

    def __init__(self, content: Bytes, storages: dict[str, Storage]) -> None:
        self.content, self.storages = content, storages
        self.path: Path = content.path
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BytesIO) -> object:
        """Return what the pickle makes; the stream is left at its end.

        Raises:
            ModelError: It asks for what is not allowed, or has too many steps.
            ValueError, LookupError, TypeError, OverflowError: It is damaged.
        """
        for index, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            name = opcode.name
            if index >= MAX_OPCODES:
                raise refusal(self.path, f"has a pickle of more than {MAX_OPCODES} steps")
            if name == "STOP":
                break
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _PUSHED:
                self.stack.append(_PUSHED[name]())
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in _IGNORED:
                raise refusal(self.path, f"holds the opcode {name}", expected="those that torch writes")
        return self.pop()

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise LookupError("an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def drop(self, _: Any) -> None:
        self.pop()

    def drop_to_mark(self, _: Any) -> None:
        self.pop_to_mark()

    def put(self, key: Any) -> None:
        self.memo[len(self.memo) if key is None else int(key)] = self.top()

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def push_from_mark(self, made: Callable[[list[Any]], Any]) -> None:
        self.stack.append(made(self.pop_to_mark()))

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target += values
        elif not isinstance(target, Made):
            raise TypeError("something appended to what is no list")

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, dict):
            target |= _dictionary(values)
        elif not isinstance(target, Made):
            raise TypeError("an item set in what is no dictionary")

    def append_one(self, _: Any) -> None:
        self.append([self.pop()])

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def find(self, module: Any, name: Any) -> None:
        found = Global(str(module), str(name))
        if not found.is_allowed:
            raise refusal(
                self.path,
                f"names {shown(f'{found.module}.{found.name}')}",
                expected="tensors and the classes that publishers' checkpoints hold",
                remedy="do not load it with anything else either, unless you trust who made it",
            )
        self.stack.append(found)

    def find_named(self, argument: Any) -> None:
        module, name = str(argument).split(" ", 1)
        self.find(module, name)

    def find_on_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.find(module, name)

    def make(self, _: Any) -> None:
        arguments, kind = self.pop(), self.pop()
        if not isinstance(kind, Global):
            raise TypeError("a call of what has no name")
        self.stack.append(self.made(kind, arguments))

    def make_with_names(self, _: Any) -> None:
        self.pop()
        self.make(None)

    def made(self, kind: Global, arguments: Any) -> Any:
        """Return what stands for a call; `arguments` are kept as they are, never copied."""
        if kind.module == "torch._utils" and kind.name in _TENSOR:
            storage, offset, shape, stride = arguments[:4]
            if not isinstance(storage, Storage) or not are_counts([offset]):
                raise TypeError("a tensor without numbers")
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

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.top()
        # A dictionary or a tensor may have attributes too, such as the versions of a state's modules.
        if isinstance(target, Made):
            target.state = state

    def persistent(self, _: Any) -> None:
        """Push the storage, or in the old format the class, that a tuple stands for."""
        word, *rest = self.pop()
        if word == "module":
            self.stack.append(rest[0])
            return
        kind, key, _location, count = rest[:4]
        if word != "storage" or not isinstance(kind, Global) or not isinstance(key, str) or not are_counts([count]):
            raise TypeError("a storage without numbers")
        dtype = DTYPES[_STORAGES[kind.name.removeprefix("_")]]
        if count < 0 or any(view is not None for view in rest[4:]):
            raise TypeError("a storage that cannot be")
        storage = self.storages.setdefault(key, Storage(self.content, key, dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise TypeError("one storage of two kinds")
        self.stack.append(storage)


def _dictionary(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise TypeError("a key without a value")
    pairs = zip(values[::2], values[1::2], strict=True)
    return {key: value for key, value in pairs if isinstance(key, (*_SCALARS, Global))}


_PUSHED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": _Machine.drop,
    "POP_MARK": _Machine.drop_to_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "GET": lambda machine, key: machine.stack.append(machine.memo[int(key)]),
    "BINGET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "LONG_BINGET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.push_from_mark(tuple),
    "FROZENSET": lambda machine, _: machine.push_from_mark(list),
    "LIST": lambda machine, _: machine.push_from_mark(list),
    "DICT": lambda machine, _: machine.push_from_mark(_dictionary),
    "APPEND": _Machine.append_one,
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": _Machine.find_named,
    "STACK_GLOBAL": _Machine.find_on_stack,
    "REDUCE": _Machine.make,
    "NEWOBJ": _Machine.make,
    "NEWOBJ_EX": _Machine.make_with_names,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
