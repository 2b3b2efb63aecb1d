"""Writes docs/cli.md from the output of `--help`: `python docs/generate_cli.py [PATH]`."""

import os
import sys
from pathlib import Path

from trencadis.cli import COMMANDS, command_parser, help_text


def page() -> str:
    """Return the page."""
    parts = ["# The command line", _block(help_text())]
    for name in COMMANDS:
        parts += [f"## trencadis {name}", _block(command_parser(name).format_help())]
    parts += [
        "## Exit codes",
        "0 done · 1 it failed · 2 asked wrongly · 130 interrupted · 141 the reader of its output left.\n\n"
        "`TRENCADIS_DEBUG=1` shows the traceback of whatever goes wrong. `NO_COLOR=1` leaves the colours out.",
    ]
    return "<!-- Written by docs/generate_cli.py; a test fails where it drifts. -->\n\n" + "\n\n".join(parts) + "\n"


def _block(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"  # the width of the help, which is otherwise the terminal's
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "cli.md"
    target.write_text(page(), "utf-8")
