"""`trencadis train`: every part of a model, from captioned pictures, with one command."""

import argparse
import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from trencadis.cli.arguments import existing_file, output_directory, real, seed
from trencadis.config import RunConfig

if TYPE_CHECKING:
    from trencadis.training.plan import Plan

HELP = "trains a model on captioned pictures; goes on where it was stopped"

_OWN = {"recipe", "seed", "hours", "device", "data.path", "image.pretrained"}  # options with a name of their own


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Declare the arguments: a few by name, and every other setting of a run by its dotted name."""
    add = parser.add_argument
    add("path", nargs="?", type=str, help="folder, shards or metadata file, as `trencadis data check` reads them")
    add("--out", required=True, type=output_directory(), help="the run's folder; a run that it holds is gone on with")
    add("--hours", type=real(0, low_open=True, example=1), help="time to finish in (default: 1)")
    add(
        "--recipe",
        type=str,
        help="such as pocket or small-vqgan; docs/training.md lists them (default: by time and machine)",
    )
    add("--seed", type=seed(), help="of everything random (default: 0)")
    add("--device", choices=["cpu", "cuda"], help="(default: cuda where there is one)")
    add(
        "--image-tokenizer",
        type=str,
        help="directory, hub id or shipped model whose image tokenizer is used; none is trained",
    )
    add("--config", dest="settings", type=existing_file(), help="YAML with any settings of a run's config.yaml")
    for name, kind in setting_names(RunConfig):
        if name not in _OWN:
            add(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.epilog = (
        "Any setting of a run's config.yaml can be given by its dotted name too, such as "
        "--transformer.model.num_layers 12 or --image.steps 5000; it stands where the rest is chosen."
    )


def setting_names(config_type: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the type of every leaf of a config."""
    types = typing.get_type_hints(config_type)
    for field in dataclasses.fields(config_type):
        kind = types[field.name]
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield from setting_names(kind, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", kind


def run(arguments: jsonargparse.Namespace) -> int:
    """Train, say what was chosen, and where the model is."""
    from trencadis.errors import ConfigError
    from trencadis.run_directory import RunDirectory
    from trencadis.training.config_files import parse_settings
    from trencadis.training.run import train

    run = RunDirectory(arguments.out)
    overrides = _overrides(arguments)
    if "path" not in overrides.get("data", {}) and not run.has_begun:
        remedy = "name the folder, as in `trencadis train pictures --out runs/mine`"
        raise ConfigError("no pictures to train on", expected="a folder of captioned pictures", remedy=remedy)
    parse_settings(overrides)
    recipe, hours = overrides.pop("recipe", None), overrides.pop("hours", None)
    train(run.path, overrides, recipe=recipe, hours=hours, say=_say)
    print(f"{run.model}   the model: trencadis generate 'a prompt' --model {run.model}")
    print(f"{run.report}   how it went")
    return 0


def _say(plan: "Plan") -> None:
    """Print what was chosen and why."""
    width = max(len(f"{choice['what']} {choice['value']}") for choice in plan.choices)
    for choice in plan.choices:
        print(f"{choice['what'] + ' ' + choice['value']:<{width}}   {choice['why']}", flush=True)


def _overrides(arguments: jsonargparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given, nested: those of the file, then those of the command line over them."""
    from trencadis.training.config_files import lay_over, read_settings

    given: dict[str, Any] = {}
    path = (
        None if arguments.path is None else "::".join(str(Path(part).absolute()) for part in arguments.path.split("::"))
    )
    own = {"recipe": arguments.recipe, "seed": arguments.seed, "hours": arguments.hours, "device": arguments.device}
    dotted = {name: arguments.get(name) for name, _ in setting_names(RunConfig) if name not in _OWN}
    tokenizer = _absolute(arguments.image_tokenizer)
    dotted["image.losses.perceptual_network"] = _absolute(dotted["image.losses.perceptual_network"])
    for name, value in {**own, "data.path": path, "image.pretrained": tokenizer, **dotted}.items():
        if value is not None:
            *parents, leaf = name.split(".")
            inner = given
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[leaf] = value
    return lay_over({} if arguments.settings is None else read_settings(arguments.settings), given)


def _absolute(name: str | None) -> str | None:
    """Return a path that stays right wherever the run is gone on with; a hub id or a shipped model's name stays."""
    return str(Path(name).absolute()) if name is not None and Path(name).exists() else name
