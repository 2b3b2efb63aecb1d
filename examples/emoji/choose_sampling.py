"""Compare settings of drawing by the judges, on captions of training pictures that no evaluation draws.

    python examples/emoji/choose_sampling.py MODEL --data emoji --out evaluation --guidance-scale 2 3 5 --top-p 0.9 1

Every combination of the settings draws the same captions with the same seeds. The table has the share of drawings that
are right in per cent, of all candidates and of the best by each ranking, with 95 % intervals. Drawings are kept in OUT,
like those of `evaluate.py`.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cases
import measures
from candidates import Artist
from evaluate import features_of, make_cases
from intervals import share
from judges import default_judges

from trencadis import DALLE
from trencadis.console import say, tell
from trencadis.errors import UserError
from trencadis.sampling import Sampling

CHOICES = ("mean", "clip", "likelihood", "both", "log_probability")


def compare(model: DALLE, data: Path, out: Path, settings: Sequence[Sampling], captions: int, candidates: int) -> None:
    """Draw with each setting and print its line.

    Raises:
        UserError: The dataset, the model or `out` cannot be used.
    """
    judges, pictures, kept = default_judges(), cases.read_dataset(data), out / "drawings"
    made = make_cases(pictures, cases.spare(pictures, captions), kept)
    features = features_of(judges, pictures, made, kept)
    say(f"{'guidance':>8} {'top-p':>6} {'temp.':>6} {'judge':>9}" + "".join(f"{name:>17}" for name in CHOICES))
    for sampling in settings:
        model.sampling = sampling
        artist = Artist(model, weights=model.weights, candidates=candidates, judges=judges, folder=kept)
        drawn = artist.draw([pictures[case.target].caption for case in made])
        judged = measures.judge_drawings(made, pictures, drawn, features)
        known = {"mean", *judged[0].chosen()}
        for judge in features:
            cells = []
            for choice in CHOICES:
                cells.append(str(share([one.right(judge, choice, 1) for one in judged]) if choice in known else "–"))
            top_p = "1" if sampling.top_p is None else f"{sampling.top_p:g}"
            head = f"{sampling.guidance_scale:>8g} {top_p:>6} {sampling.temperature:>6g} {judge:>9}"
            say(head + "".join(f"{cell:>17}" for cell in cells))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a shipped model (emoji), or a model directory")
    add("--data", type=Path, required=True, metavar="DIR", help="the built dataset: train/ and heldout/")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the drawings")
    add("--captions", type=int, default=48, metavar="N", help="captions to draw (48)")
    add("--candidates", type=int, default=8, metavar="N", help="drawings of each caption (8)")
    add("--guidance-scale", type=float, nargs="+", default=[3.0], metavar="X")
    add("--top-p", type=float, nargs="+", default=[0.9, 1.0], metavar="X")
    add("--temperature", type=float, nargs="+", default=[1.0], metavar="X")
    options = parser.parse_args(arguments)
    try:
        model = DALLE.from_pretrained(options.model)
        settings = [
            replace(model.sampling, guidance_scale=scale, top_p=None if top_p == 1 else top_p, temperature=temperature)
            for scale, top_p, temperature in itertools.product(
                options.guidance_scale, options.top_p, options.temperature
            )
        ]
        compare(model, options.data, options.out, settings, options.captions, options.candidates)
    except UserError as fault:
        tell(f"choose_sampling.py: {fault}")
        return 2
    except KeyboardInterrupt:
        tell("choose_sampling.py: interrupted; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
