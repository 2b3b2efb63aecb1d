"""`trencadis train`: every part of a model, from captioned pictures, with one command."""

import jsonargparse

from trencadis.cli.arguments import dataset, one_of, output_directory, real
from trencadis.cli.run_settings import add_settings, read_overrides
from trencadis.config import RunConfig
from trencadis.config.plain import overlay
from trencadis.console import say

HELP = "trains a model on captioned pictures, resumes a training, or continues a finished one"


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
        config = train(run.path, overrides, recipe=recipe, hours=hours, say=say)
        if processes.is_first():
            say(f"{run.model}   the model: trencadis generate 'a prompt' --model {run.model}")
            if run.adapter.exists():
                how = f"trencadis generate 'a prompt' --model {config.start.model} --adapter {run.adapter}"
                say(f"{run.adapter}   the adapter: {how}")
            say(f"{run.report}   the report")
    return 0
