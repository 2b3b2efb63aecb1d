"""Every exception that Trencadís raises on purpose.

    TrencadisError
    ├── UserError               asked wrongly: the command exits with 2
    │   ├── ConfigError         an option out of its range, or two that contradict each other
    │   ├── DataError           a dataset that cannot be used
    │   ├── PictureError        a picture that cannot be read, or has the wrong shape
    │   ├── PromptError         a prompt that cannot be drawn
    │   ├── ModelError          a model directory that is absent, damaged or of another kind
    │   ├── RankingError        a choice of candidates that cannot be made
    │   └── StorageError        a place that cannot be written: full, read-only, already taken
    └── RunError                it failed: the command exits with 1
        ├── CheckpointError     no checkpoint of a run can be loaded
        └── DivergenceError     training met non-finite losses again and again

A `UserError` says what was given, what was expected and what to do.
"""


class TrencadisError(Exception):
    """The root of the tree above."""


class UserError(TrencadisError):
    """Something was asked wrongly.

    Args:
        given: What was given, as the user would recognise it.
        expected: What would have been right.
        remedy: What to do about it, as an imperative without a full stop.
    """

    def __init__(self, given: str, *, expected: str, remedy: str) -> None:
        self.given, self.expected, self.remedy = given, expected, remedy
        super().__init__(f"{given}; expected {expected}; {remedy}")


class ConfigError(UserError, ValueError):
    """An option is out of its range, or two options contradict each other."""


class DataError(UserError):
    """A dataset cannot be used."""


class PictureError(UserError):
    """A picture cannot be read, or has the wrong shape."""


class PromptError(UserError, ValueError):
    """A prompt cannot be drawn."""


class ModelError(UserError):
    """A model directory is absent, damaged or of another kind."""


class RankingError(UserError, ValueError):
    """A choice of candidates cannot be made."""


class StorageError(UserError):
    """A place cannot be written: it is full, read-only or already taken."""


class RunError(TrencadisError):
    """The work was asked rightly and failed."""


class CheckpointError(RunError):
    """No checkpoint of a run can be loaded."""


class DivergenceError(RunError):
    """Training met non-finite losses again and again."""
