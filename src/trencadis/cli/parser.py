"""The parser of one command: a short help, and one line for arguments that cannot be read."""

import argparse
import difflib
from collections.abc import Iterable
from typing import Any, NoReturn

import jsonargparse

from trencadis.cli.arguments import Kind, UnfitValueError, one_of
from trencadis.cli.help import HelpFormatter, shown_name
from trencadis.console import say
from trencadis.errors import ConfigError
from trencadis.memory import causes


class CommandParser(jsonargparse.ArgumentParser):
    """A parser that raises a `ConfigError` for arguments that it cannot read."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, formatter_class=HelpFormatter, allow_abbrev=False)
        self._positionals.title = "arguments"

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add an argument whose type, choices included, knows its name and refuses values itself."""
        shown = names[-1] if names[-1].startswith("-") else options.get("metavar", names[-1].upper())
        if "choices" in options:
            options["type"] = one_of(*options.pop("choices"))
            options.setdefault("metavar", options["type"].metavar)
        if isinstance(options.get("type"), Kind):
            options["type"] = options["type"].named(shown)
        action: argparse.Action = super().add_argument(*names, **options)
        return action

    def _print_message(self, message: str, file: Any = None) -> None:
        say(*message.splitlines())

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        given, expected, remedy = self._explain(message, ex)
        raise ConfigError(given, expected=expected, remedy=remedy or f"see `{self.prog} --help`") from ex

    def _explain(self, message: str, error: Exception | None) -> tuple[str, str, str]:
        """Return what was given, what was expected and what to do; the last may be empty."""
        for cause in causes(error):
            if isinstance(cause, UnfitValueError):
                return f"{cause.kind.name} {cause.value}".strip(), cause.kind.expected, cause.kind.remedy
        if isinstance(error, argparse.ArgumentError) and error.argument_name:
            return f"{error.argument_name}: {error.message}", "it as the help shows it", ""
        fault, _, names = message.partition(": ")
        if fault == "unrecognized arguments":
            return self._explain_surplus(names.split(" ")[0])
        if fault == "the following arguments are required":
            missing = " and no ".join(map(self._spelled, names.split(", ")))
            return f"no {missing} given", self.format_usage().strip().removeprefix("usage: "), ""
        return " ".join(message.split()), "arguments that can be read", ""

    def _spelled(self, key: str) -> str:
        """Return an argument as the help shows it."""
        action = next((action for action in self._actions if key in (action.dest, *action.option_strings)), None)
        if action is None:
            return key
        return action.option_strings[-1] if action.option_strings else shown_name(action)

    def _explain_surplus(self, given: str) -> tuple[str, str, str]:
        if not given.startswith("-"):
            return f"unexpected argument {given}", "no more arguments", "put quotes around what belongs together"
        options = [option for action in self._actions for option in action.option_strings]
        near = closest(given.split("=")[0], options)
        return f"unknown option {given}", near or "an option that the help lists", ""


def closest(word: str, words: Iterable[str]) -> str:
    """Return the one of `words` that was probably meant, or nothing."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)), "")
