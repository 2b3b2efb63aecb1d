"""From drawings to figures: what is right, and how it compares with the ceiling, the floor and chance."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from candidates import Drawings, text_tokens
from cases import CELLS, SAME, Case, Picture
from intervals import Figure, gain, share
from jaxtyping import Float, Int
from judges import nearest_ratio, places, read_pictures
from torch import Tensor

from trencadis import DALLE
from trencadis.progress import track

FeaturesOf = Callable[[Sequence[int]], Tensor]
COPY_RATIO = 1 / 3
TOP = (1, 5)
BATCH = 32


@dataclass(frozen=True, eq=False)
class Judged:
    """A caption with its candidates' places.

    Attributes:
        group: Of its picture.
        places: By judge: of each candidate, how many other pictures were nearer than the target; 0 is right.
    """

    case: Case
    group: str
    drawings: Drawings
    places: dict[str, Int[Tensor, " candidates"]]

    def chosen(self) -> dict[str, int]:
        """Return the first candidate, and the best by each ranker, by the name of the choice."""
        return {"first": 0} | {name: int(scores.argmax()) for name, scores in sorted(self.drawings.scores.items())}

    def right(self, judge: str, choice: str, top: int) -> float:
        """Return 1 if the choice is right and 0 if not; of `any`, if one candidate is; of `mean`, the share that is."""
        right = self.places[judge] < top
        if choice == "any":
            return float(right.any())
        return float(right.float().mean()) if choice == "mean" else float(right[self.chosen()[choice]])


def judge_drawings(
    cases: Sequence[Case],
    pictures: Sequence[Picture],
    drawn: Mapping[str, Drawings],
    features: Mapping[str, FeaturesOf],
) -> list[Judged]:
    """Place every candidate among the real pictures of its case."""
    found = []
    for case in cases:
        picture = pictures[case.target]
        drawings = drawn[picture.caption]
        placed = {name: _places(of, drawings.features[name], case) for name, of in features.items()}
        found.append(Judged(case, picture.group, drawings, placed))
    return found


def _places(features: FeaturesOf, drawn: Tensor, case: Case) -> Tensor:
    return places(drawn, features([case.target])[0], features(case.others))


def groups_of(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """Return the captions by group; `cells` are the held-out ones of known concepts together."""
    found: dict[str, list[Judged]] = {"seen": [], "cells": []}
    for one in judged:
        for name in [one.group] + (["cells"] if one.group in CELLS else []):
            found.setdefault(name, []).append(one)
    return {name: members for name, members in found.items() if members}


def choices_of(judged: Sequence[Judged]) -> list[str]:
    """Return the names of the choices: `first`, one for each ranker, `mean` and `any`."""
    return [*judged[0].chosen(), "mean", "any"]


def shares(judged: Sequence[Judged]) -> list[dict[str, object]]:
    """Return the share that is right, for each judge, group, choice and top."""
    return [
        {"judge": judge, "group": group, "choice": choice, "top": top, "share": share(right)}
        for judge in judged[0].places
        for group, members in groups_of(judged).items()
        for choice in choices_of(judged)
        for top in TOP
        for right in [[one.right(judge, choice, top) for one in members]]
    ]


def gains(judged: Sequence[Judged]) -> list[dict[str, object]]:
    """Return what each ranker adds to the share of the first candidates, top-1."""
    rankers = [name for name in choices_of(judged) if name not in ("first", "mean", "any")]
    return [
        {"judge": judge, "group": group, "choice": choice, "gain": gain(right[choice], right["first"])}
        for judge in judged[0].places
        for group, members in groups_of(judged).items()
        for choice in rankers
        for right in [{name: [one.right(judge, name, 1) for one in members] for name in ("first", choice)}]
    ]


def floor(
    judged: Sequence[Judged], pictures: Sequence[Picture], features: Mapping[str, FeaturesOf]
) -> dict[str, Figure | None]:
    """Return how often a first candidate is right about another caption of its style: no better than chance."""
    by_style: dict[str, list[Judged]] = {}
    for one in judged:
        by_style.setdefault(pictures[one.case.target].style, []).append(one)
    found: dict[str, Figure | None] = {}
    for judge, of in features.items():
        right = []
        for members in by_style.values():
            for one, other in zip(members, [*members[1:], members[0]], strict=True):
                if pictures[one.case.target].concept != pictures[other.case.target].concept:
                    right.append(float(_places(of, one.drawings.features[judge][:1], other.case)[0] == 0))
        found[judge] = share(right)
    return found


def ceiling(
    cases: Sequence[Case],
    pictures: Sequence[Picture],
    features: Mapping[str, FeaturesOf],
    rebuild: Callable[[Sequence[int]], Mapping[str, Tensor]],
) -> dict[str, Figure | None]:
    """Return how often a target is right about itself once it has been through the image tokenizer.

    Args:
        rebuild: From pictures' indices to the judges' vectors of their reconstructions.
    """
    right: dict[str, list[float]] = {judge: [] for judge in features}
    for start in track(range(0, len(cases), BATCH), "judging reconstructions"):
        part = cases[start : start + BATCH]
        rebuilt = rebuild([case.target for case in part])
        for judge, of in features.items():
            right[judge] += [
                float(_places(of, own[None], case)[0] == 0) for own, case in zip(rebuilt[judge], part, strict=True)
            ]
    return {judge: share(values) for judge, values in right.items()}


@torch.inference_mode()
def bits_per_token(model: DALLE, pictures: Sequence[Picture], targets: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return the model's bits per image token of real pictures with their captions, by group; lower is better."""
    found = {}
    for group, indices in track(targets.items(), "measuring bits", len(targets)):
        nats, count = 0.0, 0
        for start in range(0, len(indices), BATCH):
            part = [pictures[at] for at in indices[start : start + BATCH]]
            images = read_pictures([one.path for one in part], model.image_tokenizer.image_size)
            text = torch.cat([text_tokens(model, one.caption) for one in part])
            losses = model.transformer.losses(text, model.image_tokenizer.encode(images))
            nats, count = nats + float(losses.image), count + losses.image_count
        if count:
            found[group] = nats / count / math.log(2)
    return found


def copies(
    judged: Sequence[Judged], known: Float[Tensor, "train 768"], real: Float[Tensor, "heldout 768"]
) -> dict[str, Figure | None]:
    """Return the share of pictures that are much nearer to one training picture than to all others, by 16×16 pixels.

    Of seen captions, such a drawing is what was asked for. Of the others it is a copy, as far as their share is above
    that of `heldout`, the real held-out pictures.

    Args:
        known: The training pictures.
        real: Held-out ones.
    """
    found: dict[str, Figure | None] = {}
    sides = {"seen": [one for one in judged if one.group == "seen"]}
    sides["held-out captions"] = [one for one in judged if one.group != "seen"]
    for name, members in sides.items():
        drawn = [one.drawings.features["pixels"][0] for one in members]
        found[name] = _copied(torch.stack(drawn), known) if drawn else None
    return found | {"real held-out pictures": _copied(real, known)}


def _copied(drawn: Tensor, known: Tensor) -> Figure | None:
    ratios, _ = nearest_ratio(drawn, known, same=SAME)
    return share((ratios < COPY_RATIO).float().tolist())
