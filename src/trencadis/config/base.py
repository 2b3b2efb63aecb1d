"""What every config has: ranges in the types of its numbers, and checks of settings against each other."""

import math
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_type_hints

from trencadis.errors import ConfigError
from trencadis.spelling import typed_number
from trencadis.storage import user_path

NoteT = TypeVar("NoteT")


class Range(NamedTuple):
    """The finite numbers from `low` to `high`, both included."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        low, high = (typed_number(limit) for limit in (self.low, self.high))
        return f"{low} or more" if self.high == math.inf else f"a number in [{low}, {high}]"


class PathNote(NamedTuple):
    """A text that names a place: `~` is the home folder, and quotes around it are taken off.

    Places that are joined by `separator` are read one by one.
    """

    separator: str | None = None

    def read(self, text: str) -> str:
        parts = [text] if self.separator is None else text.split(self.separator)
        return (self.separator or "").join(map(user_path, parts))


PlaceText = Annotated[str, PathNote()]
Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Amount = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]


class SettingError(ConfigError):
    """A setting is out of its range, or contradicts another one.

    Args:
        settings: The settings at fault and their values.
        expected: What would have been right.
        at: Path to the config that they are in, with a dot at its end.
    """

    def __init__(self, settings: dict[str, object], *, expected: str, at: str = "") -> None:
        self.settings = settings
        given = " and ".join(f"{at}{name} {value}" for name, value in settings.items())
        super().__init__(given, expected=expected, remedy="change " + " or ".join(at + name for name in settings))

    def under(self, at: str) -> "SettingError":
        """Return the same fault of a config that is nested in others."""
        return SettingError(self.settings, expected=self.expected, at=at)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The base of all configs: reads paths as a shell does, and refuses numbers outside of their field's `Range`.

    Raises:
        SettingError: A number is out of its range, or settings contradict each other.
    """

    def __post_init__(self) -> None:
        for name, place in notes(type(self), PathNote).items():  # type: ignore[arg-type]  # as below
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, place.read(text))
        for name, limits in notes(type(self), Range).items():  # type: ignore[arg-type]  # a class can be hashed
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else () if value is None else (value,)
            is_met = all(limits.low <= number <= limits.high and math.isfinite(number) for number in numbers)
            self._require(is_met, name, expected=str(limits))

    def _require(self, is_met: bool, *names: str, expected: str) -> None:
        """Refuse the settings of these names, dotted for those of nested configs."""
        if not is_met:
            values = {name: attrgetter(name)(self) for name in names}
            shown = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
            raise SettingError(shown, expected=expected)


@cache
def notes(config_type: type[Any], kind: type[NoteT]) -> dict[str, NoteT]:
    """Return what is noted of a config's fields in `Annotated`, by field, also inside of tuples and optional types."""
    hints = get_type_hints(config_type, include_extras=True).items()
    metadata = [(name, getattr(part, "__metadata__", ())) for name, hint in hints for part in (hint, *get_args(hint))]
    return {name: note for name, found in metadata for note in found if isinstance(note, kind)}
