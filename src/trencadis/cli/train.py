"""`trencadis train`: every part of a model, from captioned pictures, with one command."""

import argparse
import re
from pathlib import Path

import jsonargparse

from trencadis.cli.arguments import (
    Kind,
    dataset,
    existing_file,
    model_name,
    one_of,
    output_directory,
    real,
    seed,
    text,
)
from trencadis.config import RunConfig
from trencadis.config.plain import Settings, merge, nest, overlay, setting_names
from trencadis.console import say

HELP = "trains a model on captioned pictures, resumes a training, or continues a finished one"

# Options with a name of their own.
_OWN = {"recipe", "seed", "hours", "device", "data.path", "image.pretrained", "start.model"}
_OTHERS = tuple(name for name in setting_names(RunConfig) if name not in _OWN)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", nargs="?", type=dataset(), help="folder, shards or metadata file, as `trencadis data check` reads them")
    add("--out", required=True, type=output_directory(), help="output folder; a run in it is resumed")
    add(
        "--hours",
        type=real(1e-4, 100_000, example=1),
        help="time budget (default: 1); a finished run is continued for it",
    )
    add_settings(parser, one_of("cpu", "cuda"))


def add_settings(parser: jsonargparse.ArgumentParser, device: Kind[str]) -> None:
    """Add every setting of a run but its hours, with short names for the usual ones."""
    add = parser.add_argument
    about = "such as pocket or small-vqgan; docs/training.md lists them (default: by time and machine)"
    add("--recipe", type=text(), help=about)
    add("--seed", type=seed(), help="seed of everything random (default: 0)")
    add("--device", type=device, help="(default: cuda where there is one)")
    about = "directory, hub id or shipped model whose image tokenizer is used; none is trained"
    add("--image-tokenizer", type=model_name(), help=about)
    about = "directory, hub id or shipped model to start from; its tokenizers are kept, its other parts trained further"
    add("--from", dest="start_model", type=model_name(), help=about)
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
    from trencadis.training import processes
    from trencadis.training.run import train

    run = RunDirectory(arguments.out)
    overrides = read_overrides(arguments)
    named = {name: overrides.pop(name) for name in ("recipe", "hours") if name in overrides}
    read = overlay(RunConfig(), named)
    if "path" not in overrides.get("data", {}) and not run.has_begun:
        remedy = "name the folder, as in `trencadis train pictures --out runs/mine`"
        raise ConfigError("no pictures to train on", expected="a folder of captioned pictures", remedy=remedy)
    recipe, hours = read.recipe if "recipe" in named else None, read.hours if "hours" in named else None
    with processes.joined():
        train(run.path, overrides, recipe=recipe, hours=hours, say=say)
        if processes.is_first():
            say(f"{run.model}   the model: trencadis generate 'a prompt' --model {run.model}")
            say(f"{run.report}   the report")
    return 0


def read_overrides(arguments: jsonargparse.Namespace) -> Settings:
    """Return the given settings, nested: those of the file, with those of the command line in their place."""
    from trencadis.training.config_files import read_settings

    values = {name: arguments.get(name) for name in ("recipe", "seed", "hours", "device", *_OTHERS)}
    values |= {"data.path": arguments.path, "image.pretrained": _absolute(arguments.image_tokenizer)}
    values["start.model"] = _absolute(arguments.start_model)
    for name in ("image.losses.perceptual_network", "decoder.losses.perceptual_network"):
        values[name] = _absolute(values[name])
    given = nest((name, value) for name, value in values.items() if value is not None)
    settings = merge({} if arguments.settings is None else read_settings(arguments.settings), given)
    data = settings.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        settings["data"] = data | {"path": "::".join(map(_absolute_data, data["path"].split("::")))}
    return settings


def _absolute(name: str | None) -> str | None:
    """Return an existing path as an absolute one, for a resume from elsewhere; other names stay."""
    return str(Path(name).absolute()) if name is not None and Path(name).exists() else name


def _absolute_data(part: str) -> str:
    """Return a path or pattern as an absolute one; an address stays, to be refused as one."""
    if re.match(r"[a-z][a-z0-9+.-]+:", part) and not Path(part).exists():
        return part
    return str(Path(part).expanduser().absolute()) if part else part
