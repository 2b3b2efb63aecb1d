"""The settings of a run as options, which `train` and `plan` have in common."""

import argparse
import re
from pathlib import Path

import jsonargparse

from trencadis.cli.arguments import Kind, existing_file, integer, model_name, one_of, seed, text
from trencadis.config import RunConfig
from trencadis.config.plain import Settings, merge, nest, setting_names

# Options with a name of their own.
_OWN = {
    "recipe",
    "seed",
    "hours",
    "device",
    "data.path",
    "image.pretrained",
    "start.model",
    "start.tune",
    "transformer.lora.rank",
}
_OTHERS = tuple(name for name in setting_names(RunConfig) if name not in _OWN)


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
    about = "with --from: train the image tokenizer further too; pictures are encoded anew"
    add("--tune", type=one_of("image"), help=about)
    about = "with --from: train low-rank updates of this rank alone; they are a small adapter in the output folder"
    add("--lora", type=integer(1, 1024, example=4), metavar="RANK", help=about)
    add("--config", dest="settings", type=existing_file(), help="YAML with any settings of a run's config.yaml")
    for name in _OTHERS:
        add(f"--{name}", type=text(), help=argparse.SUPPRESS)  # read, and refused, by the config itself
    parser.epilog = (
        "Every setting of a run's config.yaml is an option too, by its dotted name, such as "
        "--transformer.model.num_layers 12 or --image.steps 5000; the plan keeps it and chooses the rest."
    )


def read_overrides(arguments: jsonargparse.Namespace) -> Settings:
    """Return the given settings, nested: those of the file, with those of the command line in their place."""
    from trencadis.training.config_files import read_settings

    values = {name: arguments.get(name) for name in ("recipe", "seed", "hours", "device", *_OTHERS)}
    values |= {"data.path": arguments.path, "image.pretrained": _absolute(arguments.image_tokenizer)}
    values |= {"start.model": _absolute(arguments.start_model), "transformer.lora.rank": arguments.lora}
    values["start.tune"] = arguments.tune
    for name in ("image.losses.perceptual_network", "decoder.losses.perceptual_network", "start.old_captions"):
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
