"""The parser of one command: a short help, and one line for arguments that cannot be read."""

import argparse
import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse

from trencadis.cli.arguments import Kind, UnfitValueError
from trencadis.cli.faults import causes
from trencadis.cli.help import HelpFormatter, shown_name
from trencadis.errors import ConfigError


class CommandParser(jsonargparse.ArgumentParser):
    """A parser that raises a `ConfigError` where it cannot read the arguments.

    Args:
        prog: The command as it is typed.
        description: One sentence.
    """

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            print_config="--print-config",
        )
        self._positionals.title = "arguments"

    def dump(self, namespace: jsonargparse.Namespace, *args: Any, **options: Any) -> str:
        """Return the settings as text; `--print-config` prints it."""
        plain = namespace.clone()
        for key, value in namespace.items():
            if isinstance(value, Path):
                plain[key] = str(value)
            elif isinstance(value, list):
                plain[key] = [str(item) if isinstance(item, Path) else item for item in value]
        return str(super().dump(plain, *args, **options))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a `ConfigError` that says what was given, what was expected and what to do."""
        given, expected, remedy = self._explain(message, ex)
        raise ConfigError(given, expected=expected, remedy=remedy or f"see `{self.prog} --help`") from ex

    def _explain(self, message: str, error: Exception | None) -> tuple[str, str, str]:
        """Return what was given, what was expected and what to do; the last may be empty."""
        name, message = self._named(message, error)
        unfit = next((cause for cause in causes(error) if isinstance(cause, UnfitValueError)), None)
        if unfit is not None:
            return f"{name} {unfit.value}".strip(), unfit.expected, unfit.remedy
        if found := re.match(r"unrecognized arguments: (.*)", message):
            return self._explain_surplus(found[1].split(" ")[0])
        if found := re.match(r"the following arguments are required: (.*)", message):
            missing = " and no ".join(self._spelled(key) for key in found[1].split(", "))
            return f"no {missing} given", self.format_usage().strip().removeprefix("usage: "), ""
        if found := re.match(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
            choices = found[2].replace("'", "").split(", ")
            given = f"{name} {found[1]}" if name.startswith("-") else repr(found[1])
            return given, closest(found[1], choices) or "one of " + ", ".join(choices), ""
        if found := re.search(r"Expected (an? .*)\. Got value: (.*)", message):
            return f"{name} {found[2]}", _plain_type(found[1]), ""
        if found := re.search(r"Subtypes: \[(.*)\] Errors:.*Given value: (.*)", message):
            kinds = [_plain_type(f"a {kind}") for kind in found[1].split(", ")]
            return f"{name} {found[2]}", " or ".join(kinds), ""
        if found := re.match(r"Problems parsing config: (.*)", message):
            return f"a settings file that cannot be read: {found[1]}", "YAML", "mend the file"
        if found := re.match(r"(?:File|Path) does not exist: '?(.*?)'?$", message):
            return f"{name} {found[1]}", "a file that exists", "check the path"
        if found := re.search(r"does not accept option '(.*)'|Option '(.*)' is not accepted", message):
            settings = [action.dest.rsplit(".")[-1] for action in self._actions]
            given = found[1] or found[2]
            return f"unknown setting {given}", closest(given, settings) or "a setting that the help lists", ""
        if found := re.match(r"ignored explicit argument '?(.*?)'?$", message):
            return f"{name}={found[1]}", f"{name} alone", ""
        if found := re.match(r"expected (\d+) arguments", message):
            return f"{name} with too few values", f"{found[1]} values", ""
        if message.startswith("expected"):
            return f"{name} without a value" if "argument" in message else name, self._expected(name, message), ""
        return f"{name} {message}".strip(), "arguments that can be read", ""

    def _named(self, message: str, error: Exception | None) -> tuple[str, str]:
        """Return the argument that a message is about, as the user spells it, and the message without it."""
        message = " ".join(message.split())
        if isinstance(error, argparse.ArgumentError) and error.argument_name:
            return self._spelled(error.argument_name), error.message
        if found := re.match(r'Parser key "(.*?)": (.*)', message):
            return self._spelled(found[1]), found[2]
        return "", message

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

    def _expected(self, name: str, message: str) -> str:
        kinds = [action.type for action in self._actions if name in action.option_strings]
        kind = kinds[0] if kinds else None
        return kind.expected if isinstance(kind, Kind) else message.removeprefix("expected ")


def files_first(arguments: list[str]) -> list[str]:
    """Return the arguments with `--config FILE` before the others, so that what is typed wins over the file."""
    first: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--config":
            first += [argument, *([value] if (value := next(remaining, None)) is not None else [])]
        else:
            (first if argument.startswith("--config=") else rest).append(argument)
    return first + rest


def closest(word: str, words: Iterable[str]) -> str:
    """Return the one of `words` that was probably meant, or nothing."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)), "")


def _plain_type(text: str) -> str:
    """Return the name of a Python type in words."""
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "NoneType": "null"}
    if found := re.fullmatch(r"an? <class '(\w+)'>", text):
        return words.get(found[1], found[1])
    if found := re.fullmatch(r"an? typing\.Literal\[(.*)\]", text):
        return "one of " + found[1].replace("'", "")
    return text
