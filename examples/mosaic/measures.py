"""From judged drawings to figures: what is right with how many candidates, how varied, and what the judge confuses."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from intervals import Figure, gain, share
from PIL import Image

from mosaic.claims import CLAIMS, Case, scene_of
from mosaic.drawings import Drawings, details
from mosaic.scene import Group, Reading, Scene, Word
from mosaic.verdict import is_right
from trencadis.ranking.choice import standardised

CANDIDATES = (1, 2, 8, 32, 128)
VARIETY = ("colour", "size", "texture", "place", "decade")


def chosen_right(drawings: Drawings, ranking: str, count: int) -> float:
    """Return how often the best of `count` candidates is right, over all disjoint runs of that many.

    Args:
        ranking: `clip`, `likelihood` or `both`; `any` is right if one of them is, an upper bound that knows the answer.
    """
    right = np.array(drawings.right, float)
    runs = right[: len(right) // count * count].reshape(-1, count)
    if ranking == "any":
        return float(runs.max(1).mean())
    best = [int(_scores(drawings, ranking, run * count, count).argmax()) for run in range(len(runs))]
    return float(runs[np.arange(len(runs)), best].mean())


def _scores(drawings: Drawings, ranking: str, start: int, count: int) -> torch.Tensor:
    names = ("clip", "likelihood") if ranking == "both" else (ranking,)
    parts = [torch.tensor(drawings.scores[name][start : start + count]) for name in names]
    return parts[0] if len(parts) == 1 else sum((standardised(part) for part in parts), torch.zeros(count))


def rankings_of(drawn: Mapping[str, Drawings]) -> list[str]:
    """Return the rankings that there are scores for, and `any`."""
    has_clip = all("clip" in drawings.scores for drawings in drawn.values())
    return [*(["clip", "likelihood", "both"] if has_clip else ["likelihood"]), "any"]


def shares(cases: Sequence[Case], drawn: Mapping[str, Drawings], most: int) -> list[dict[str, Any]]:
    """Return the share that is right for each claim, ranking and number of candidates up to `most`."""
    return [
        {"claim": claim, "ranking": ranking, "candidates": count, "share": share(values)}
        for claim, own in by_claim(cases).items()
        for ranking in rankings_of(drawn)
        for count in CANDIDATES
        if count <= most
        for values in [[chosen_right(drawn[case.name], ranking, count) for case in own]]
    ]


def parts(cases: Sequence[Case], drawn: Mapping[str, Drawings]) -> list[dict[str, Any]]:
    """Return, for each claim, the share of single drawings that have each thing that was asked."""
    found = []
    for claim, own in by_claim(cases).items():
        values: dict[str, list[float]] = {}
        for case in own:
            verdicts = drawn[case.name].verdicts
            for name in verdicts[0]:
                values.setdefault(name, []).append(float(np.mean([each[name] for each in verdicts])))
        found += [{"claim": claim, "part": name, "share": share(each)} for name, each in values.items()]
    return found


def by_claim(cases: Iterable[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.claim, []).append(case)
    return found


def variety(cases: Sequence[Case], drawn: Mapping[str, Drawings]) -> dict[str, Figure | None]:
    """Return, for what a caption of the shape alone leaves open, the entropy over as much of as many real pictures.

    1 is as varied as the world. Drawings that do not show one thing are left out. The interval is a bootstrap's.
    """
    ratios: dict[str, list[float]] = {name: [] for name in VARIETY}
    for case in by_claim(cases).get("detail", []):
        shown = [each for each in drawn[case.name].details if each]
        real = _real_details(case, len(shown))
        for name, values in ratios.items():
            if len(shown) > 1 and (of_real := entropy(each[name] for each in real)):
                values.append(entropy(each[name] for each in shown) / of_real)
    return {name: gain(values, [0.0] * len(values)) for name, values in ratios.items()}


def _real_details(case: Case, count: int) -> list[dict[str, str]]:
    """Return the details of scenes of a case's shape that may be trained on."""
    found: list[dict[str, str]] = []
    index = 0
    shape = case.scene.things()[0].shape
    while len(found) < count:
        scene = scene_of(CLAIMS["detail"], "variety", case.name, index)
        index += 1
        thing = scene.things()[0]
        if thing.shape == shape:
            assert isinstance(scene.layout, Group)
            values = {"colour": thing.colour, "size": thing.size, "texture": thing.texture, "decade": scene.decade}
            found.append({name: str(value) for name, value in values.items()} | {"place": str(scene.layout.place)})
    return found


def entropy(values: Iterable[str]) -> float:
    """Return the entropy of values in bits."""
    counts = Counter(values)
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values()) if total else 0.0


def judge_itself(
    scenes: Sequence[Scene], pictures: Sequence[Image.Image], read: Callable[[Image.Image], Reading]
) -> tuple[Figure | None, Counter[tuple[str, str, str]]]:
    """Return how many pictures of whole scenes are read without a fault, and what is read for what.

    Returns:
        The share of scenes; and the number of each (attribute, in the scene, read).
    """
    confused: Counter[tuple[str, str, str]] = Counter()
    right = []
    for scene, picture in zip(scenes, pictures, strict=True):
        seen = read(picture)
        right.append(float(is_right(scene, seen)))
        confused.update(_confusions(scene, seen))
    return share(right), confused


def _confusions(scene: Scene, seen: Reading) -> list[tuple[str, str, str]]:
    """Return what is read for what in a scene of one kind of thing, or of a word."""
    found = [("decade", str(scene.decade), seen.decade)]
    match scene.layout:
        case Group(thing, count):
            found.append(("count", str(count), str(len(seen.things))))
            for each in seen.things:
                pairs = ((name, getattr(thing, name), getattr(each.thing, name)) for name in VARIETY[:3])
                found += [("shape", str(thing.shape), str(each.thing.shape)), *pairs]
            if shown := details(seen):
                found.append(("place", str(scene.layout.place), shown["place"]))
        case Word(letters):
            read = "".join(word.letters for word in seen.words)
            if len(read) == len(letters):
                found += [("letter", was, now) for was, now in zip(letters, read, strict=True)]
    return found
