"""The commands of the world: build, prompts, judge, evaluate, sheet."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from trencadis.console import say, tell
from trencadis.errors import UserError

CAPTIONS, CANDIDATES, SCENES = 24, 128, 1000


def _whole(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of whole numbers in a range, both ends included."""

    def read(text: str) -> int:
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text}, expected a whole number from {low:,} to {high:,}")
        return int(text)

    return read


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="mosaic", description="A world in which right and wrong can be computed.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="write the dataset: DIR/train and DIR/heldout")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    build.add_argument("--train", type=_whole(1, 10**6), default=20_000, metavar="N", help="pictures (20,000)")
    build.add_argument("--heldout", type=_whole(1, 10**6), default=2_000, metavar="N", help="held-out ones (2,000)")
    build.add_argument("--seed", type=_whole(0, 2**31), default=0, metavar="N", help="of the scenes (0)")
    prompts = commands.add_parser("prompts", help="print the captions of every claim, one a line")
    prompts.add_argument("--json", action="store_true", help="as JSON, with the name of each and what it asks for")
    judge = commands.add_parser("judge", help="judge pictures of any model, or the judge itself")
    judge.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="with NAME.png, NAME-1.png, … or NAME/*.png")
    judge.add_argument("--scenes", type=_whole(1, 10**6), default=SCENES, metavar="N", help="real ones, without DIR")
    evaluate = commands.add_parser("evaluate", help="draw and judge the captions of every claim")
    evaluate.add_argument("model", metavar="MODEL", help="a model directory")
    evaluate.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for report and drawings")
    about = f"drawings of each ({CANDIDATES})"
    evaluate.add_argument("--candidates", type=_whole(1, 4096), default=CANDIDATES, metavar="N", help=about)
    about = f"real pictures that the judge is measured on ({SCENES})"
    evaluate.add_argument("--scenes", type=_whole(1, 10**6), default=SCENES, metavar="N", help=about)
    for each in (prompts, judge, evaluate):
        about = f"captions of each claim ({CAPTIONS})"
        each.add_argument("--captions", type=_whole(1, 10_000), default=CAPTIONS, metavar="N", help=about)
    sheet = commands.add_parser("sheet", help="draw a sheet of every attribute")
    sheet.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write, a PNG")
    return top


def _build(options: argparse.Namespace) -> None:
    from mosaic.build import build

    counts = build(options.out, train=options.train, heldout=options.heldout, seed=options.seed)
    held = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if name != "train")
    say(f"{options.out}: {counts['train']:,} pictures to train on; held out: {held}")


def _prompts(options: argparse.Namespace) -> None:
    from mosaic.claims import CLAIMS, all_cases

    for case in all_cases(options.captions, [name for name, claim in CLAIMS.items() if not claim.is_kept]):
        row = {"name": case.name, "prompt": case.caption, "asked": case.asked.as_json()}
        say(json.dumps(row) if options.json else case.caption)


def _judge(options: argparse.Namespace) -> None:
    from mosaic.claims import all_cases
    from mosaic.evaluate import judge_on
    from mosaic.judged import judge_folder
    from mosaic.report import judge_table, row, table

    if options.folder is None:
        say(*judge_table(judge_on(options.scenes)))
        return
    found = judge_folder(options.folder, all_cases(options.captions))
    say(*table(["claim", "captions", "right, %"]))
    say(*[row([claim, str(figure.count), str(figure)]) for claim, figure in found.items()])


def _evaluate(options: argparse.Namespace) -> None:
    from mosaic.evaluate import evaluate
    from trencadis import DALLE

    sizes = {"captions": options.captions, "candidates": options.candidates, "scenes": options.scenes}
    say(*evaluate(DALLE.from_pretrained(options.model), options.out, **sizes).splitlines())


def _sheet(options: argparse.Namespace) -> None:
    from mosaic.sheet import sheet
    from trencadis.storage import write_picture

    write_picture(options.out, sheet())


COMMANDS = {"build": _build, "prompts": _prompts, "judge": _judge, "evaluate": _evaluate, "sheet": _sheet}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except UserError as fault:
        tell(f"mosaic: {fault}")
        return 2
    except KeyboardInterrupt:
        tell("mosaic: interrupted; the same command goes on from here")
        return 130
    return 0
