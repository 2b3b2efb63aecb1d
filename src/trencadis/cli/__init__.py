"""The `trencadis` command: finds the module of the command that is asked for, and turns every fault into one line.

A command is a module `trencadis.cli.<name>`, or `<name>_` where the name is a keyword of Python, with

    HELP = "draws pictures from a prompt"
    def add_arguments(parser: jsonargparse.ArgumentParser) -> None: ...
    def run(arguments: jsonargparse.Namespace) -> int: ...

`run` returns the exit code and imports what is heavy itself, so that `--help` stays fast.
"""

import importlib
import keyword
import os
import sys
from importlib.metadata import version
from types import ModuleType

from trencadis.cli.faults import reported
from trencadis.cli.parser import CommandParser, closest
from trencadis.console import say
from trencadis.errors import ConfigError

# In the order of the data.
COMMANDS = (
    "data",
    "plan",
    "train",
    "generate",
    "rank",
    "label",
    "verify",
    "reconstruct",
    "serve",
    "import",
    "export",
    "inspect",
)
_OPTIONS = ("-h", "--help", "--version")
_HELP = """\
usage: trencadis COMMAND [options]

Draws pictures from a prompt, and learns to from your own captioned pictures.

commands:
{}

options:
  -h, --help    shows this text; `trencadis COMMAND --help` explains a command
  --version     shows the version"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line, of this process where `argv` is None.

    Returns:
        0 done, 1 it failed, 2 asked wrongly, 130 interrupted, 141 the reader of the output left.
    """
    # GNU OpenMP's threads wait for each other by spinning, for about a millisecond. Where something else wants the
    # cores too, that slows down both, up to a hundred times; spinning for less costs nothing on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    return reported(lambda: _dispatch(sys.argv[1:] if argv is None else list(argv)))


def command_parser(name: str) -> CommandParser:
    """Return the parser of one command; only that command's module is imported."""
    command = _command(name)
    sentence = f"{command.HELP[:1].upper()}{command.HELP[1:]}."
    parser = CommandParser(prog=f"trencadis {name}", description=sentence)
    command.add_arguments(parser)
    return parser


def help_text() -> str:
    """Return what `trencadis --help` prints."""
    return _HELP.format("\n".join(f"  {name:<14}{_command(name).HELP}" for name in COMMANDS))


def _command(name: str) -> ModuleType:
    return importlib.import_module(f"trencadis.cli.{name}{'_' if keyword.iskeyword(name) else ''}")


def _dispatch(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in _OPTIONS[:2]:
        say(*help_text().splitlines())
        return 0
    if name == "--version":
        say(f"trencadis {version('trencadis')}")
        return 0
    if name not in COMMANDS:
        kind, known = ("option", _OPTIONS) if name.startswith("-") else ("command", COMMANDS)
        expected = closest(name, known) or "one of " + ", ".join(known)
        raise ConfigError(f"unknown {kind} {name!r}", expected=expected, remedy="see `trencadis --help`")
    code: int = _command(name).run(command_parser(name).parse_args(arguments[1:]))
    return code
