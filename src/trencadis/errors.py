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
    ├── FullMemoryError     too little memory for what is being done
    ├── DivergenceError     training met non-finite losses again and again
    └── LostProcessError    another process of the same training has ended
"""


class TrencadisError(Exception): ...


class UserError(TrencadisError):
    """Says what was given, what was expected, and what to do, as an imperative without a full stop."""

    def __init__(self, given: str, *, expected: str, remedy: str) -> None:
        self.given, self.expected, self.remedy = given, expected, remedy
        super().__init__(f"{given}; expected {expected}; {remedy}")


class ConfigError(UserError, ValueError): ...


class DataError(UserError): ...


class PictureError(UserError): ...


class PromptError(UserError, ValueError): ...


class ModelError(UserError): ...


class RankingError(UserError, ValueError): ...


class StorageError(UserError): ...


class RunError(TrencadisError): ...


class CheckpointError(RunError): ...


class DivergenceError(RunError): ...


class LostProcessError(RunError): ...


class FullMemoryError(RunError, MemoryError):
    """There is too little memory. Nothing is damaged, and with more memory it would have worked."""

    def __init__(self, doing: str, *, remedy: str, asked_for: str | None = None) -> None:
        self.doing, self.remedy, self.asked_for = doing, remedy, asked_for
        room = "no room" if asked_for is None else f"no room for {asked_for} more"
        super().__init__(f"the memory is full: {room} while {doing}; {remedy}")
