"""`trencadis train`: every part of a model, from captioned pictures, with one command."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from trencadis.cli.arguments import dataset, existing_file, model_name, one_of, output_directory, real, seed, text
from trencadis.config import RunConfig
from trencadis.config.plain import Settings, merge, nest, overlay, setting_names
from trencadis.console import say

if TYPE_CHECKING:
    from trencadis.training.plan import Plan

HELP = "trains a model on captioned pictures, or resumes a training"

_OWN = {"recipe", "seed", "hours", "device", "data.path", "image.pretrained"}  # options with a name of their own
_OTHERS = tuple(name for name in setting_names(RunConfig) if name not in _OWN)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", nargs="?", type=dataset(), help="folder, shards or metadata file, as `trencadis data check` reads them")
    add("--out", required=True, type=output_directory(), help="output folder; an existing run in it is resumed")
    add("--hours", type=real(1e-4, 100_000, example=1), help="time budget (default: 1)")
    about = "such as pocket or small-vqgan; docs/training.md lists them (default: by time and machine)"
    add("--recipe", type=text(), help=about)
    add("--seed", type=seed(), help="seed of everything random (default: 0)")
    add("--device", type=one_of("cpu", "cuda"), help="(default: cuda where there is one)")
    about = "directory, hub id or shipped model whose image tokenizer is used; none is trained"
    add("--image-tokenizer", type=model_name(), help=about)
    add("--config", dest="settings", type=existing_file(), help="YAML with any settings of a run's config.yaml")
    for name in _OTHERS:
        add(f"--{name}", type=text(), help=argparse.SUPPRESS)  # read, and refused, by the config itself
    parser.epilog = (
        "Every setting of a run's config.yaml is an option too, by its dotted name, such as "
        "--transformer.model.num_layers 12 or --image.steps 5000; the plan keeps it and chooses the rest."
    )


def run(arguments: jsonargparse.Namespace) -> int:
    from trencadis.errors import ConfigError
    from trencadis.run_directory import RunDirectory
    from trencadis.training.run import train

    run = RunDirectory(arguments.out)
    overrides = _overrides(arguments)
    named = {name: overrides.pop(name) for name in ("recipe", "hours") if name in overrides}
    read = overlay(RunConfig(), named)
    if "path" not in overrides.get("data", {}) and not run.has_begun:
        remedy = "name the folder, as in `trencadis train pictures --out runs/mine`"
        raise ConfigError("no pictures to train on", expected="a folder of captioned pictures", remedy=remedy)
    recipe, hours = read.recipe if "recipe" in named else None, read.hours if "hours" in named else None
    train(run.path, overrides, recipe=recipe, hours=hours, say=_say)
    say(f"{run.model}   the model: trencadis generate 'a prompt' --model {run.model}")
    say(f"{run.report}   the report")
    return 0


def _say(plan: "Plan") -> None:
    width = max(len(f"{choice['what']} {choice['value']}") for choice in plan.choices)
    for choice in plan.choices:
        say(f"{choice['what'] + ' ' + choice['value']:<{width}}   {choice['why']}")


def _overrides(arguments: jsonargparse.Namespace) -> Settings:
    """Return the given settings, nested: those of the file, with those of the command line in their place."""
    from trencadis.training.config_files import read_settings

    path = arguments.path
    path = None if path is None else "::".join(str(Path(part).absolute()) for part in path.split("::"))
    values = {name: arguments.get(name) for name in ("recipe", "seed", "hours", "device", *_OTHERS)}
    values |= {"data.path": path, "image.pretrained": _absolute(arguments.image_tokenizer)}
    values["image.losses.perceptual_network"] = _absolute(values["image.losses.perceptual_network"])
    given = nest((name, value) for name, value in values.items() if value is not None)
    return merge({} if arguments.settings is None else read_settings(arguments.settings), given)


def _absolute(name: str | None) -> str | None:
    """Return an existing path as an absolute one, for a resume from elsewhere; other names stay."""
    return str(Path(name).absolute()) if name is not None and Path(name).exists() else name
