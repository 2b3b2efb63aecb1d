"""Measure a model on captions of the emoji dataset, seen and held out, by judges that know nothing of the model.

    python examples/emoji/evaluate.py MODEL --data emoji --out evaluation

The protocol:

- 300 captions of training pictures, 300 of held-out ones (100 roles, 100 colours, 100 styles), and 100 of concepts that
  were never seen, reported apart. A hash chooses them, spread over concepts and styles.
- 16 drawings of each, with the model's own settings, and with seeds that depend on the caption alone. Judged are the
  first, the best by each ranking of `generate` (clip, likelihood, both) and by ln p(picture given caption) alone,
  the mean of all and, as an upper bound that knows the answer, any of them.
- A drawing is right if, among 100 real pictures of its style, the one that the caption belongs to is nearest; top-5, if
  at most four are nearer. The other 99 are of other concepts and chosen by a hash. Near is meant by two judges: the
  pixels at 16×16, and the features of an ImageNet network that no model is trained with (`judges.py`).
- Ceiling: the real picture through the model's image tokenizer. Floor: a drawing of another caption. Chance: 1 in 100.
- Bits per image token of the real pictures given their captions; the share of first drawings that are copies of a
  training picture, beside that of real held-out pictures.
- Shares have Wilson's 95 % intervals, gains a bootstrap's over captions. The 99 others are part of neither.

Drawings are kept in OUT: a run that was stopped goes on, and `--captions 300` after `--captions 30` draws 270.
"""

import argparse
import hashlib
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args
from zipfile import BadZipFile

import cases
import evaluation_report
import measures
import numpy as np
import torch
from candidates import Artist
from cases import Case, Picture
from judges import NETWORK, STAGES, Judge, PixelJudge, default_judges, read_pictures
from torch import Tensor

from trencadis import DALLE
from trencadis.console import say, tell
from trencadis.data.pixels import to_pillow
from trencadis.errors import UserError
from trencadis.progress import track
from trencadis.storage import write_whole
from trencadis.transformer import Weights

REAL_SIDE = (128, 128)
BATCH = 64
QUICK_CAPTIONS, QUICK_CANDIDATES = 24, 4
MOST_REAL = 300  # held-out pictures whose own ratio stands beside the drawings'


def vectors(pictures: Sequence[Picture], judge: Judge, folder: Path) -> Tensor:
    """Return a judge's vectors of real pictures; they are computed once for a folder."""
    sizes = [f"{one.name} {one.path.stat().st_size}" for one in pictures]
    key = hashlib.sha256(f"{judge.name} {NETWORK} {STAGES} {sizes}".encode()).hexdigest()[:16]
    path = folder / f"real-{key}.npz"
    try:
        with np.load(path) as stored:
            return torch.from_numpy(stored["features"]).float()
    except (OSError, ValueError, LookupError, BadZipFile):
        pass
    starts = range(0, len(pictures), BATCH)
    found = torch.cat(
        [
            judge.features(read_pictures([one.path for one in pictures[start : start + BATCH]], REAL_SIDE)).half()
            for start in track(starts, f"judging real pictures by {judge.name}")
        ]
    )
    buffer = io.BytesIO()
    np.savez(buffer, features=found.numpy())
    write_whole(path, buffer.getvalue())
    return found.float()


def make_cases(pictures: Sequence[Picture], targets: Sequence[int], folder: Path) -> list[Case]:
    """Choose the pictures that those to be drawn are compared with."""
    pools = cases.pool(pictures)
    used = sorted({at for members in pools.values() for at in members} | set(targets))
    pixels = vectors([pictures[at] for at in used], PixelJudge(), folder)
    of = cases.features_by_index(used, pixels)
    return [cases.make_case(pictures, at, pools[pictures[at].style], of) for at in targets]


def features_of(
    judges: Sequence[Judge], pictures: Sequence[Picture], made: Sequence[Case], folder: Path
) -> dict[str, measures.FeaturesOf]:
    """Return each judge's vectors of the cases' pictures, by their indices."""
    used = sorted({at for case in made for at in (case.target, *case.others)})
    own = [pictures[at] for at in used]
    return {judge.name: cases.features_by_index(used, vectors(own, judge, folder)) for judge in judges}


def rebuilt(
    model: DALLE, artist: Artist, pictures: Sequence[Picture], judges: Sequence[Judge], indices: Sequence[int]
) -> dict[str, Tensor]:
    """Return the judges' vectors of pictures that went through the image tokenizer."""
    real = read_pictures([pictures[at].path for at in indices], model.image_tokenizer.image_size)
    with torch.inference_mode():
        images = artist.images(model.image_tokenizer.encode(real))
    return {judge.name: judge.features(images) for judge in judges}


def evaluate(
    model: DALLE, data: Path, out: Path, *, captions: int, candidates: int, weights: Weights, judges: Sequence[Judge]
) -> str:
    """Measure a model, write the report into `out` and return its tables.

    Raises:
        UserError: The dataset, the model or `out` cannot be used.
    """
    pictures = cases.read_dataset(data)
    kept = out / "drawings"
    targets = [at for members in cases.chosen(pictures, captions).values() for at in members]
    made = make_cases(pictures, targets, kept)
    features = features_of(judges, pictures, made, kept)
    artist = Artist(model, weights=weights, candidates=candidates, judges=judges, folder=kept)
    drawn = artist.draw([pictures[case.target].caption for case in made])
    judged = measures.judge_drawings(made, pictures, drawn, features)
    train = [one for one in pictures if one.group == "seen"]
    held = [pictures[at] for at in cases.choose(pictures, cases.GROUPS[1:], MOST_REAL)]
    known, real = (vectors(each, PixelJudge(), kept) for each in (train, held))
    rebuild = partial(rebuilt, model, artist, pictures, judges)
    report: dict[str, Any] = {
        "protocol": 1,
        "model": model.name,
        "model_sha256": model.digest(),
        "settings": asdict(model.sampling) | {"weights": weights, "candidates": candidates, "captions": captions},
        "judges": {"pixels": "16×16", "features": f"EfficientNet-{NETWORK}, stages {STAGES}"},
        "shares": measures.shares(judged),
        "gains": measures.gains(judged),
        "ceiling": measures.ceiling(made, pictures, features, rebuild),
        "floor": measures.floor(judged, pictures, features),
        "bits_per_token": measures.bits_per_token(model, pictures, cases.chosen(pictures, captions)),
        "copies": measures.copies(judged, known, real),
        "captions": [_row(pictures, one) for one in judged],
    }
    return evaluation_report.write_report(out, report, judged, _sheet(pictures, judged, artist))


def _row(pictures: Sequence[Picture], one: measures.Judged) -> dict[str, Any]:
    """Return what JSON keeps of a caption."""
    picture = pictures[one.case.target]
    places = {judge: found.tolist() for judge, found in one.places.items()}
    about = {"caption": picture.caption, "file": picture.name, "group": one.group, "style": picture.style}
    return about | {"chosen": one.chosen(), "places": places}


def _sheet(pictures: Sequence[Picture], judged: Sequence[measures.Judged], artist: Artist) -> Any:
    """Return the sheet: right and wrong by the features, best by CLIP, or by likelihood where there is none."""
    rows = []
    judge = list(judged[0].places)[-1]
    for one in evaluation_report.shown(judged):
        chosen = one.chosen()
        best = "clip" if "clip" in chosen else "likelihood"
        first_image, best_image = to_pillow(artist.images(one.drawings.tokens[[0, chosen[best]]]))
        real = to_pillow(read_pictures([pictures[one.case.target].path], REAL_SIDE))[0]
        right = [one.right(judge, choice, 1) == 1 for choice in ("first", best)]
        rows.append((pictures[one.case.target], real, first_image, best_image, right[0], right[1]))
    return evaluation_report.sheet(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Measure a model on seen and held-out captions of the emoji dataset.")
    add = parser.add_argument
    add("model", metavar="MODEL", help="a shipped model (emoji), or a model directory")
    add("--data", type=Path, required=True, metavar="DIR", help="the built dataset: train/ and heldout/")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the report and the drawings")
    add("--captions", type=int, default=300, metavar="N", help="seen ones, and held-out ones, at least 3 (300)")
    add("--candidates", type=int, default=16, metavar="N", help="drawings of each caption, 1 to 256 (16)")
    about = f"{QUICK_CAPTIONS} captions of each kind and {QUICK_CANDIDATES} drawings of each: a first impression"
    add("--quick", action="store_true", help=about)
    add("--weights", choices=get_args(Weights), help="type of the weights that draw (that of the model)")
    options = parser.parse_args(arguments)
    for name, least, most in (("captions", 3, 100_000), ("candidates", 1, 256)):
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name} is {getattr(options, name)}, expected {least} to {most}")
    if options.quick:
        options.captions, options.candidates = QUICK_CAPTIONS, QUICK_CANDIDATES
    try:
        judges, model = default_judges(), DALLE.from_pretrained(options.model)
        tables = evaluate(
            model, options.data, options.out, captions=options.captions, candidates=options.candidates,
            weights=options.weights or model.weights, judges=judges,
        )  # fmt: skip
    except UserError as fault:
        tell(f"evaluate.py: {fault}")
        return 2
    except KeyboardInterrupt:
        tell("evaluate.py: interrupted; the same command goes on from here")
        return 130
    say(*tables.splitlines())
    return 0


if __name__ == "__main__":
    sys.exit(main())
