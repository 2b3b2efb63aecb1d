"""`trencadis generate`: draws pictures from prompts."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from trencadis.cli.arguments import (
    Kind,
    add_adapters,
    add_model,
    add_sampling,
    existing_file,
    integer,
    output_directory,
    seed,
    text,
)
from trencadis.cli.prompts import Asked, read_prompts
from trencadis.console import say, say_json
from trencadis.errors import ConfigError, PromptError, UserError

if TYPE_CHECKING:
    from trencadis.drawn import Drawn
    from trencadis.pipeline import DALLE

HELP = "draws pictures from a prompt"

# What a line of a file of prompts can set for itself, and what is the same for all.
_OF_A_PROMPT = (
    "candidates", "keep", "seed", "guidance_scale", "guidance_schedule", "negative_prompt", "temperature", "top_k",
    "top_p", "decoder", "ranking",
)  # fmt: skip
_OF_ALL = ("batch_size", "weights", "keep_rows")


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    about = "what to draw; several prompts are drawn one after the other, and '' is drawn without a caption"
    add("prompt", nargs="*", type=text(), help=about)
    about = 'more prompts: a text file with one a line, or JSON lines such as {"prompt": "a ring", "seed": 1}'
    add("--prompts", type=existing_file(), metavar="FILE", help=about)
    add_model(parser)
    add_adapters(parser)
    add("--candidates", type=integer(1, 4096), help="pictures drawn (default: 16)")
    add("--keep", type=integer(1, 4096), help="pictures kept, those that fit the prompt best (default: 4)")
    add("--seed", type=seed(), help="of the first candidate; the others have those that follow (default: a new one)")
    add("--negative-prompt", type=text(), metavar="PROMPT", help="what to draw away from; needs guidance")
    add_sampling(parser)
    about = "smaller ones are read faster; pictures change a little (default: the type that the model is stored in)"
    add("--weights", choices=["float32", "bfloat16", "int8"], help=about)
    add("--image", type=existing_file(), help="an image prompt; --mask or --keep-rows says what stays of it")
    add("--mask", type=existing_file(), help="of the image's size: what is transparent, or white, is drawn anew")
    add("--keep-rows", type=integer(0), help="rows of tokens that stay, from the top")
    add("--device", choices=["cpu", "cuda"], help="(default: cuda where there is one)")
    add("--batch-size", type=integer(1), default=32, help="candidates drawn at once; less takes less memory")
    add("--out", type=output_directory(), default="drawn", help="folder for the PNGs; none there is replaced")
    add("--json", action="store_true", help="print what was drawn as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    """Draw each prompt once all of them can be drawn, and save the pictures of a prompt as soon as they are there."""
    asked = _asked(arguments)
    from trencadis.data import read_picture
    from trencadis.devices import usable_device
    from trencadis.pipeline import DALLE

    image = None if arguments.image is None else read_picture(arguments.image)
    mask = None if arguments.mask is None else read_picture(arguments.mask, on_white=False)
    common = {**{name: arguments[name] for name in _OF_ALL}, "image": image, "mask": mask}
    model = DALLE.from_pretrained(arguments.model, revision=arguments.revision).to(usable_device(arguments.device))
    for name, strength in arguments.adapter or ():
        model.load_adapter(name, strength)
    _check(model, asked)
    for prompts, settings in _together(asked, arguments.batch_size):
        for drawn in _draw(model, prompts, {**common, **settings}):
            _say(drawn, drawn.save(arguments.out), as_json=arguments.json)
    return 0


def _asked(arguments: jsonargparse.Namespace) -> list[Asked]:
    """Return all prompts, each with every setting that it has."""
    shared = {name: arguments[name] for name in _OF_A_PROMPT}
    asked = [Asked(prompt, shared) for prompt in arguments.prompt]
    if arguments.prompts is not None:
        asked += [
            Asked(own.prompt, {**shared, **own.settings}, own.place)
            for own in read_prompts(arguments.prompts, _kinds())
        ]
    if not asked:
        remedy = "say what to draw, as in `trencadis generate 'a red heart'`"
        raise ConfigError("no PROMPT given", expected="one or more, or --prompts FILE", remedy=remedy)
    return asked


def _kinds() -> dict[str, Kind[Any]]:
    """Return the kinds of the settings of a prompt, as the command line has them."""
    from trencadis.cli import command_parser

    actions = command_parser("generate")._actions
    return {a.dest: a.type for a in actions if a.dest in _OF_A_PROMPT and isinstance(a.type, Kind)}


def _check(model: "DALLE", asked: list[Asked]) -> None:
    for each in asked:
        try:
            model.check(each.prompt, **each.settings)
        except UserError as error:
            if not each.place:
                raise
            given = f"{each.place}: {error.given}"
            raise PromptError(given, expected=error.expected, remedy=error.remedy) from error


def _together(asked: list[Asked], batch_size: int) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield prompts that are drawn in one batch: neighbours with the same settings, as many as a batch has room for."""
    for settings, group in groupby(asked, key=lambda each: dict(each.settings)):
        prompts = [each.prompt for each in group]
        count = max(1, batch_size // (settings["candidates"] or 16))
        for start in range(0, len(prompts), count):
            yield prompts[start : start + count], settings


def _draw(model: "DALLE", prompts: list[str], options: dict[str, Any]) -> "list[Drawn]":
    from trencadis.generation import Progress
    from trencadis.progress import Advance, progress

    done = 0
    advance: Advance | None = None
    with ExitStack() as shown:

        def report(state: Progress) -> None:
            nonlocal done, advance
            advance = advance or shown.enter_context(progress("drawing", state.total))
            advance(state.drawn - done)
            done = state.drawn

        return model.generate(prompts, callback=report, **options)


def _say(drawn: "Drawn", paths: list[Path], *, as_json: bool) -> None:
    """Print one line a picture, or one JSON object a prompt."""
    records = [{"path": str(path), **record.as_dict()} for path, record in zip(paths, drawn.records, strict=True)]
    if as_json:
        say_json({"prompt": drawn.prompt, "pictures": records})
        return
    for record in records:
        score = "" if record["score"] is None else f"   {record['ranking']} {record['score']:.3f}"
        say(f"{record['path']}   seed {record['seed']}{score}")
