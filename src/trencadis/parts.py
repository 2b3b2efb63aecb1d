"""The four parts of a model on the disk, whoever wrote their classes.

A part's directory has a `config.json` whose `kind` names the class that loads it. Classes are registered by code, so a
file can choose among them and never have anything imported:

    @trencadis.register("ranker")
    class Brightness:
        def score(self, images, prompt): ...
        def save_pretrained(self, save_directory): ...
        @classmethod
        def from_pretrained(cls, name): ...
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from trencadis.errors import ConfigError, ModelError
from trencadis.pretrained import read_json
from trencadis.protocols import Savable
from trencadis.storage import write_whole

PartName = Literal["text", "image", "transformer", "ranker"]
ClassT = TypeVar("ClassT", bound=type[Any])

_CLASSES: dict[str, dict[str, type[Any]]] = {name: {} for name in get_args(PartName)}
_WITHOUT_CONFIG = {"text": "CaptionTokenizer"}  # has a tokenizer.json alone


def register(part: PartName, kind: str | None = None) -> Callable[[ClassT], ClassT]:
    """Return a decorator for a class whose objects are saved and loaded as a part of a model, under a `kind`.

    The class has `save_pretrained(directory)`, and a class method `from_pretrained(directory)`. Its name is the kind
    where None is given.

    Raises:
        ConfigError: Another class has that kind.
    """

    def add(cls: ClassT) -> ClassT:
        name = kind or cls.__name__
        other = _CLASSES[part].get(name, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            given = f"a second {part} kind {name!r}"
            raise ConfigError(given, expected="one class for each kind", remedy="register it under another kind")
        _CLASSES[part][name] = cls
        return cls

    return add


def save_part(part: PartName, value: object, directory: Path, **how: Any) -> None:
    """Write a part with its own `save_pretrained`, which gets `how` too, and the kind into its `config.json`.

    Raises:
        ModelError: It has no `save_pretrained`, or its class is not registered.
        StorageError: The place cannot be written.
    """
    kind = kind_of(part, value)
    assert isinstance(value, Savable)
    value.save_pretrained(directory, **how)
    config = directory / "config.json"
    content = read_json(config) if config.exists() else {}
    if content.get("kind", _WITHOUT_CONFIG.get(part)) != kind:
        write_whole(config, json.dumps(content | {"kind": kind}, indent=2) + "\n")


def kind_of(part: PartName, value: object) -> str:
    """Return the kind that a part is saved as; raises a `ModelError` if it cannot be saved."""
    given = f"the {part} part, a {type(value).__name__}, cannot be saved"
    if not isinstance(value, Savable):
        raise ModelError(given, expected="a save_pretrained method", remedy="add one")
    for kind, cls in _CLASSES[part].items():
        if type(value) is cls:
            return kind
    remedy = f'decorate the class with @trencadis.register("{part}")'
    raise ModelError(given, expected="a class that can be loaded again", remedy=remedy)


def load_part(part: PartName, directory: Path) -> Any:
    """Load a part, whichever registered kind its `config.json` names.

    Raises:
        ModelError: It is absent or damaged, or its kind is not registered for this part.
    """
    config = directory / "config.json"
    content = {} if part in _WITHOUT_CONFIG and not config.exists() else read_json(config)
    kind = str(content.get("kind", _WITHOUT_CONFIG.get(part)))
    if kind not in _CLASSES[part]:
        expected = f"one of the registered kinds: {', '.join(_CLASSES[part])}"
        remedy = "check the path, or import the code that registers this kind"
        raise ModelError(f"{directory} holds a part of the kind {kind}", expected=expected, remedy=remedy)
    return _CLASSES[part][kind].from_pretrained(directory)
