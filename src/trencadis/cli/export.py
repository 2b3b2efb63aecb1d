"""`trencadis export`: a model as it is passed on, in smaller files and with settings that draw well."""

import jsonargparse

from trencadis.cli.arguments import MODEL_HELP, add_adapters, add_sampling, model_name, output_directory, text
from trencadis.console import say, say_json

HELP = "writes a model to pass on: smaller files, and how it draws by default"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=model_name(), help=MODEL_HELP)
    add("--out", required=True, type=output_directory(), help="folder for the model; empty, or not there yet")
    about = "type of the weights of transformer and CLIP, which the model then draws with; bfloat16 halves the files"
    add("--dtype", choices=["float32", "bfloat16"], default="bfloat16", help=about)
    add("--name", type=text(), metavar="NAME", help="what the records of its pictures call it")
    add_adapters(parser)
    add_sampling(parser)
    add("--json", action="store_true", help="print what was written as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    from trencadis.errors import StorageError
    from trencadis.generation import SamplingOptions, overridden
    from trencadis.inspection import inspect
    from trencadis.pipeline import DALLE

    out = arguments.out
    if out.exists() and any(out.iterdir()):
        raise StorageError(f"{out} holds something", expected="an empty folder", remedy="choose another --out")
    model = DALLE.from_pretrained(arguments.model)
    for name, strength in arguments.adapter or ():
        model.load_adapter(name, strength)
    settings = SamplingOptions(**{name: arguments.get(name) for name in SamplingOptions.__annotations__})  # type: ignore[typeddict-item]
    model.sampling = overridden(model.sampling, settings, has_ranker=model.ranker is not None)
    model.name = arguments.name or model.name
    model.save_pretrained(out, dtype=arguments.dtype)
    found = inspect(str(out))
    if arguments.json:
        say_json(found.as_dict())
    else:
        say(f"{out}   {arguments.dtype}, {found.facts['on disk']} on disk")
    return 0
