"""What `trencadis COMMAND --help` looks like: one usage line, then each argument with its range and default.

A help that ends in "(default: …)" says what an argument without a value means.
"""

import argparse
import re
import shutil
from collections.abc import Iterable
from typing import Any

import jsonargparse

from trencadis.cli.arguments import Kind
from trencadis.spelling import typed_number


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Lays out the help of a command."""

    def __init__(self, prog: str) -> None:
        width = min(100, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=28, width=width)  # type: ignore[no-untyped-call]

    def _format_usage(self, usage: str | None, actions: Iterable[argparse.Action], *_: Any, **__: Any) -> str:
        names = []
        for action in actions:
            if not action.option_strings:
                name = shown_name(action)
                names.append({"+": f"{name}...", "*": f"[{name}...]", "?": f"[{name}]"}.get(str(action.nargs), name))
        return " ".join([f"usage: {self._prog} [options]", *names]) + "\n\n"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return super()._format_action_invocation(action) if action.option_strings else shown_name(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        if "--help" in action.option_strings:
            return "shows this text"
        words, _, default = re.sub(r"\(default: (.*)\)$", r"\0\1", action.help or "").partition("\0")
        if action.default not in (None, "", argparse.SUPPRESS) and action.default is not False:
            default = _shown_value(action.default)
        limits = action.type.limits if isinstance(action.type, Kind) else ""
        text = ", ".join(part for part in (words.strip().rstrip("."), limits) if part)
        is_required = action.required and bool(action.option_strings)
        notes = [text, "required" if is_required else "", f"default {default}" if default else ""]
        return "; ".join(note for note in notes if note)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return shown_name(action)

    _get_default_metavar_for_positional = _get_default_metavar_for_optional


def shown_name(action: argparse.Action) -> str:
    """Return what stands for an argument's value in the help."""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.option_strings and isinstance(action.type, Kind) and action.type.metavar:
        return action.type.metavar
    return action.dest.upper()


def _shown_value(default: object) -> str:
    """Return a default as it would be typed."""
    if isinstance(default, bool):
        return str(default).lower()
    return typed_number(default) if isinstance(default, float) else str(default).replace("%", "%%")
