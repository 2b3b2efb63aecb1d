"""The world: scenes are pure functions, captions say what is asked, and no held-out combination is trained on."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mosaic.captions import caption, captions, said
from mosaic.claims import CLAIMS, all_cases, cases
from mosaic.commands import main
from mosaic.draw import draw
from mosaic.scene import COLOURS, DECADES, LETTERS, OPPOSITE, SHAPES, Beside, Group, Scene, Twice, Word
from mosaic.scenes import dice, scene
from mosaic.splits import REASONS, reasons

from trencadis.data import open_source

SCENES = [scene(0, index) for index in range(6000)]


def combinations(each: Scene) -> set[tuple[object, ...]]:
    """Return what may be held out in a scene, written down anew: as a caption would say it, either way round."""
    found: set[tuple[object, ...]] = {("composition", thing.shape, thing.colour) for thing in each.things()}
    found |= {("decade", thing.shape, each.decade) for thing in each.things()}
    match each.layout:
        case Group(thing, count):
            found.add(("count", thing.shape, count))
        case Beside(first, second, relation):
            found.add(("relation", first.shape, relation, second.shape))
            if relation in OPPOSITE:
                found.add(("relation", second.shape, OPPOSITE[relation], first.shape))
            found.add(("binding", frozenset([(first.shape, first.colour), (second.shape, second.colour)])))
        case Twice(thing, attribute, value):
            found.add(("change", thing.shape, attribute, value))
        case Word(letters):
            found.add(("word", letters))
    return found


def test_no_combination_of_a_held_out_scene_is_trained_on() -> None:
    trained = {each for one in SCENES if not reasons(one) for each in combinations(one)}
    for name in REASONS:
        held = [case.scene for case in cases(f"{name}-unseen", 24)]
        assert len(held) == 24
        for one in held:
            assert reasons(one) == {name}
            own = {each for each in combinations(one) if each[0] == name}
            assert own - trained, f"{one} has no {name} that is new"


def test_every_held_out_reason_is_the_only_new_thing_of_its_scenes() -> None:
    trained = Counter(each for one in SCENES if not reasons(one) for each in combinations(one))
    rare = ("binding", "word")  # too many to have met each
    for name in REASONS:
        for case in cases(f"{name}-unseen", 24):
            others = {each for each in combinations(case.scene) if each[0] not in (name, *rare)}
            assert all(trained[each] for each in others), case


def test_all_that_is_composed_occurs_in_training() -> None:
    trained = [one for one in SCENES if not reasons(one)]
    things = [thing for one in trained for thing in one.things()]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {one.decade for one in trained} == set(DECADES)
    assert {one.layout.count for one in trained if isinstance(one.layout, Group)} == set(range(1, 7))
    assert set("".join(one.layout.letters for one in trained if isinstance(one.layout, Word))) == set(LETTERS)
    share = len(trained) / len(SCENES)
    assert 0.4 < share < 0.7


def test_scenes_and_pictures_depend_on_seed_and_index_alone() -> None:
    first, again, other = (draw(scene(seed, 5)) for seed in (3, 3, 4))
    assert np.array_equal(np.asarray(first), np.asarray(again))
    assert not np.array_equal(np.asarray(first), np.asarray(other))
    assert first.size == (64, 64)


def test_a_caption_says_what_is_asked_and_nothing_else() -> None:
    for index, whole in enumerate(SCENES[:400]):
        asked = said(whole, dice(index, "said"))
        words = set(re.findall(r"[a-z]+|\d+s?", caption(asked, dice(index)).lower()))
        mentioned = {colour for colour in COLOURS if colour in words}
        assert (asked.decade in words) == (asked.decade is not None)
        if isinstance(asked.layout, Word):
            assert mentioned == ({asked.layout.colour} - {None})
            continue
        wanted = {thing.colour for thing in asked.things()} - {None}
        assert mentioned == wanted
        assert ("striped" in words) == ("striped" in {thing.texture for thing in asked.things()})


def test_every_layout_has_several_phrasings() -> None:
    by_layout: dict[str, set[str]] = {}
    for index, one in enumerate(SCENES[:60]):
        by_layout.setdefault(type(one.layout).__name__, set()).update(captions(one, 4, dice(index)))
    assert all(len(found) > 8 for found in by_layout.values())


def test_captions_of_a_claim_are_different_and_the_first_stay_the_same() -> None:
    for claim in CLAIMS:
        more, fewer = cases(claim, 8), cases(claim, 3)
        assert more[:3] == fewer
        assert len({case.caption for case in more}) == len(more)
    assert len({case.name for case in all_cases(3)}) == 3 * len(CLAIMS)


def test_a_build_is_a_dataset_of_two_sides_and_is_whole_or_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mosaic"
    assert main(["build", "--out", str(out), "--train", "12", "--heldout", "6"]) == 0
    assert "12 pictures to train on" in capsys.readouterr().out
    for side, count in (("train", 12), ("heldout", 6)):
        rows = [json.loads(line) for line in (out / side / "metadata.jsonl").read_text().splitlines()]
        assert len(rows) == len(open_source(str(out / side))) == count
        assert all(("split" in row) == (side == "heldout") for row in rows)
    assert main(["build", "--out", str(out), "--train", "1"]) == 2
    assert "is there" in capsys.readouterr().err


def test_prompts_are_printed_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "--captions", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(["prompts", "--captions", "2", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows] == lines
    assert not any(row["name"].startswith("change") for row in rows)
    with pytest.raises(SystemExit):
        main(["prompts", "--captions", "0"])
