"""`trencadis inspect`: what a model, a part of one, a checkpoint or a run holds."""

import jsonargparse

from trencadis.cli.arguments import model_name
from trencadis.console import say, say_json
from trencadis.spelling import number_text

HELP = "says what a model, a checkpoint or a run holds, and the memory that it needs"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "path",
        type=model_name(),
        help="a shipped model, a model's, part's, checkpoint's or run's directory, or a hub id",
    )
    add("--json", action="store_true", help="print it as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    from trencadis.inspection import inspect

    found = inspect(arguments.path)
    if arguments.json:
        say_json(found.as_dict())
        return 0
    say(f"{found.path}   {found.kind}")
    for name, value in found.facts.items():
        say(f"  {name:<24}{_shown(name, value)}")
    width = max((len(part.name) for part in found.parts), default=0)
    for part in found.parts:
        facts = ", ".join(f"{name} {_shown(name, value)}" for name, value in part.facts.items())
        say(f"  {part.name:<{width}}  {part.parameters:>14,} parameters  {part.size_bytes / 1e6:>9,.2f} MB   {facts}")
    return 0


def _shown(name: str, value: object) -> str:
    """Return a fact; a seed, which is typed again, without separators."""
    if isinstance(value, bool) or not isinstance(value, int | float) or name == "seed":
        return str(value)
    return number_text(value)
