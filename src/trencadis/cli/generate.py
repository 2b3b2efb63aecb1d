"""`trencadis generate`: draws pictures from prompts."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from trencadis.cli.arguments import add_model, existing_file, integer, output_directory, real, seed

if TYPE_CHECKING:
    from trencadis.drawn import Drawn
    from trencadis.pipeline import DALLE

HELP = "draws pictures from a prompt"

_OPTIONS = (
    "candidates", "keep", "seed", "batch_size", "guidance_scale", "guidance_schedule", "negative_prompt", "temperature",
    "top_k", "top_p", "decoder", "weights", "keep_rows",
)  # fmt: skip


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", nargs="+", type=str, help="what to draw; several prompts are drawn one after the other")
    add_model(parser)
    add("--candidates", type=integer(1, 4096), help="pictures drawn (default: 16)")
    add("--keep", type=integer(1, 4096), help="pictures kept, those that fit the prompt best (default: 4)")
    add("--seed", type=seed(), help="of the first candidate; the others have those that follow (default: a new one)")
    add("--guidance-scale", type=real(0, 100), help="how closely to follow the prompt; 1 is no guidance")
    about = "constant, or rising from 1 at the first token to the scale"
    add("--guidance-schedule", choices=["constant", "linear", "cosine"], help=about)
    add("--negative-prompt", type=str, metavar="PROMPT", help="what to draw away from; needs guidance")
    add("--temperature", type=real(0, 100, low_open=True, example=1), help="lower is safer, higher more varied")
    add("--top-k", type=integer(1), help="draw among this many likeliest tokens only")
    add("--top-p", type=real(0, 1, low_open=True, example=0.95), help="draw among tokens of this probability only")
    about = "jacobi draws the same pictures in fewer passes"
    add("--decoder", choices=["sequential", "jacobi"], help=about)
    about = "smaller ones are read faster; pictures change a little"
    add("--weights", choices=["float32", "bfloat16", "int8"], default="float32", help=about)
    add("--image", type=existing_file(), help="an image prompt; --mask or --keep-rows says what stays of it")
    add("--mask", type=existing_file(), help="of the image's size: what is transparent, or white, is drawn anew")
    add("--keep-rows", type=integer(0), help="rows of tokens that stay, from the top")
    add("--device", choices=["cpu", "cuda"], help="(default: cuda where there is one)")
    add("--batch-size", type=integer(1), default=32, help="candidates drawn at once; less takes less memory")
    add("--out", type=output_directory(), default="drawn", help="folder for the PNGs")
    add("--json", action="store_true", help="print what was drawn as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    from trencadis.data import read_picture
    from trencadis.devices import usable_device
    from trencadis.pipeline import DALLE

    image = None if arguments.image is None else read_picture(arguments.image)
    mask = None if arguments.mask is None else read_picture(arguments.mask, on_white=False)
    options: dict[str, Any] = {name: arguments[name] for name in _OPTIONS}
    model = DALLE.from_pretrained(arguments.model, revision=arguments.revision).to(usable_device(arguments.device))
    for prompt in arguments.prompt:
        drawn = _draw(model, prompt, {**options, "image": image, "mask": mask})
        _say(drawn, drawn.save(arguments.out), as_json=arguments.json)
    return 0


def _draw(model: "DALLE", prompt: str, options: dict[str, Any]) -> "Drawn":
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

        return model.generate(prompt, callback=report, **options)


def _say(drawn: "Drawn", paths: list[Path], *, as_json: bool) -> None:
    """Print one line a picture, or one JSON object a prompt."""
    records = [{"path": str(path), **record.as_dict()} for path, record in zip(paths, drawn.records, strict=True)]
    if as_json:
        print(json.dumps({"prompt": drawn.prompt, "pictures": records}, ensure_ascii=False))
        return
    for record in records:
        score = "" if record["score"] is None else f"   similarity {record['score']:.3f}"
        print(f"{record['path']}   seed {record['seed']}{score}")
