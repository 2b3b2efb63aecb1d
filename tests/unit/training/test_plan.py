"""What a run is planned as, for a machine, a time and pictures that the tests make up."""

import dataclasses
from typing import Any

import pytest

from trencadis.config import RunConfig
from trencadis.data import KeptPair
from trencadis.errors import ConfigError, FullMemoryError
from trencadis.recipes import LADDER, RECIPES
from trencadis.training import candidates, mixed_precision
from trencadis.training import plan as planning
from trencadis.training.candidates import OPTIMISM, SHARES
from trencadis.training.costs import training_flops
from trencadis.training.pace import FEWEST_STEPS
from trencadis.training.plan import Plan, choose_sizes, fit_steps
from trencadis.training.run_pairs import RunPairs
from trencadis.training.timing import Timing

# Counting calls every layer of every recipe.
pytestmark = pytest.mark.usefixtures("without_type_checks")


class Unread:
    """A source that planning has no need to read."""

    def __len__(self) -> int:
        raise AssertionError

    def sample_id(self, index: int) -> str:
        raise AssertionError

    def captions(self, index: int) -> tuple[str, ...]:
        raise AssertionError

    def weight(self, index: int) -> float:
        raise AssertionError

    def image_bytes(self, index: int) -> bytes:
        raise AssertionError


def pairs(count: int = 100, side: int = 300, caption: str = "a red circle on a blue ground") -> RunPairs:
    kept = tuple(
        KeptPair(index, str(index), (f"{caption} {index % 7}",), 0.5, (side, 2 * side)) for index in range(count)
    )
    return RunPairs(Unread(), kept[2:], kept[:2], count, {})


def planned(hours: float, *, rate: float, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[RunConfig, Plan]:
    """Plan for a machine that makes `rate` FLOP/s with every recipe."""

    def timed(config: RunConfig, pairs: RunPairs) -> dict[str, float]:
        return {stage: training_flops(config)[stage] / rate for stage in ("image", "transformer")}

    monkeypatch.setattr(candidates, "time_candidate", timed)
    plan = Plan()
    return choose_sizes({"device": "cpu"}, None, hours, options.pop("data", pairs()), plan), plan


@pytest.mark.parametrize(
    ("hours", "rate", "side", "recipe"),
    [
        (0.1, 2e11, 300, "pocket"),
        (2.0, 2e11, 300, "pocket"),
        (30.0, 2e11, 300, "small"),
        (2.0, 2e14, 300, "large"),
        (2.0, 2e14, 200, "medium"),
        (2.0, 2e14, 100, "small"),
        (2.0, 2e14, 20, "pocket"),
    ],
)
def test_the_recipe_goes_with_time_machine_and_pictures(
    hours: float, rate: float, side: int, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, plan = planned(hours, rate=rate, data=pairs(side=side), monkeypatch=monkeypatch)
    assert config.recipe == recipe
    assert recipe in {choice["value"] for choice in plan.choices}
    assert all(choice["why"] for choice in plan.choices)


def test_only_recipes_that_may_fit_are_timed_and_the_plan_has_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []

    def slow(config: RunConfig, pairs: RunPairs) -> dict[str, float]:
        timed.append(config.recipe)
        assert config.image.precision is not None
        assert config.text.text_len < 256
        return {"image": 0.012, "transformer": 0.024}

    monkeypatch.setattr(candidates, "time_candidate", slow)
    plan = Plan()
    config = choose_sizes({"device": "cpu"}, None, 1.0, pairs(), plan)
    assert config.recipe == "pocket"
    assert timed == ["pocket"], "the smallest one is worth more time than there is"
    (choice,) = [choice for choice in plan.choices if choice["what"] == "pocket"]
    assert choice["value"] == "image 12 ms a picture, transformer 24 ms a picture"
    assert choice["why"] == "timed here; worth its image tokens from about 3.8 h on"
    choose_sizes({"device": "cpu"}, None, 3.8, pairs(side=90), plan)
    assert timed == ["pocket"], "there was nothing to choose"
    assert OPTIMISM > 1


def test_a_recipe_without_room_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(config: RunConfig, pairs: RunPairs) -> dict[str, float]:
        if config.recipe != "pocket":
            raise FullMemoryError("training", remedy="lower the batch")
        return {"image": 1e-5, "transformer": 1e-5}

    monkeypatch.setattr(candidates, "time_candidate", full)
    plan = Plan()
    assert choose_sizes({"device": "cpu"}, None, 10.0, pairs(), plan).recipe == "pocket"
    assert {"what": "small", "value": "too large", "why": "there is no room for an update"} in plan.choices


def test_too_little_time_is_said_with_the_time_that_it_takes() -> None:
    config = choose_sizes({"device": "cpu"}, "pocket", 1.0, pairs(), Plan())
    timing = Timing({"image": 0.1, "transformer": 1.0, "ranker": 0.4}, dict.fromkeys(SHARES, 0.0), 0.0)
    short, enough = Plan(), Plan()
    fitted, _ = fit_steps(config, timing, 3600.0, pairs(), short)
    (expected,) = [choice for choice in short.choices if choice["what"] == "expect" and "transformer" in choice["why"]]
    passing = (fitted.transformer.steps or 0) * 32
    assert expected["value"] == "blurs"
    assert f"{passing:,} in all; about {150_000 / passing:.2g} h are what this takes here" in expected["why"]
    fit_steps(config, timing, 36_000.0, pairs(), enough)
    assert "expect" not in {choice["what"] for choice in enough.choices}


@pytest.mark.parametrize("has_units", [True, False])
def test_each_stage_gets_the_type_that_the_machine_is_fast_in(has_units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "has_bfloat16_units", lambda device: has_units)
    chosen = "bfloat16" if has_units else "float32"
    config, plan = planned(0.1, rate=1e11, monkeypatch=monkeypatch)
    assert [getattr(config, stage).precision for stage in SHARES] == [chosen] * 3
    assert [choice["value"] for choice in plan.choices if choice["what"] == "precision"] == [chosen]


def test_a_type_that_was_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "has_bfloat16_units", lambda device: True)
    asked: dict[str, Any] = {"transformer": {"precision": "float16"}, "image": {"precision": "float32"}}
    config = choose_sizes({"device": "cpu", **asked}, "tiny", 0.1, pairs(), Plan())
    precisions = config.image.precision, config.transformer.precision, config.ranker.precision
    assert precisions == ("float32", "float16", "bfloat16")


@pytest.mark.parametrize("recipe", ["pocket", "small", "medium", "large"])
def test_what_measured_best_is_the_default_and_the_paper_stays_the_paper(recipe: str) -> None:
    config, paper = RECIPES[recipe](), RECIPES[f"{recipe}-paper"]()
    assert config.image == RECIPES[f"{recipe}-ibq"]().image
    assert config.image.relaxation == "ibq"
    assert paper.image == RECIPES[f"{recipe}-gumbel"]().image
    assert (paper.image.relaxation, paper.image.model.architecture.kind) == ("gumbel", "published")
    rows, columns = config.image.model.grid_size
    assert config.transformer.model.attention == ("full" if rows * columns <= 256 else "sparse")
    assert paper.transformer.model.attention == "sparse"
    assert not paper.transformer.optimizer.muon
    assert config.transformer.model.head_dim == 64


def test_sizes_that_parts_share_agree() -> None:
    for recipe in RECIPES:
        config = RECIPES[recipe]()
        transformer, ranker = config.transformer_model(), config.ranker_model()
        assert transformer.grid_size == config.image.model.grid_size
        assert transformer.image_vocab_size == config.image.model.image_vocab_size
        assert transformer.text_len == config.text.text_len == ranker.text_len
        assert transformer.text_vocab_size == config.text.vocab_size == ranker.text_vocab_size
        assert ranker.image_size == ((224, 224) if recipe == "dalle_v1" else config.image.model.image_size)


def test_text_is_as_long_as_the_captions_need(monkeypatch: pytest.MonkeyPatch) -> None:
    short, _ = planned(0.1, rate=1e11, monkeypatch=monkeypatch)
    long, _ = planned(
        0.1, rate=1e11, data=pairs(caption="word " * 2 + "other words of it " * 40), monkeypatch=monkeypatch
    )
    assert short.text.text_len < long.text.text_len <= 256


def test_overrides_stand_and_carry_over(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = {"device": "cpu", "image": {"model": {"image_size": [96, 64]}}, "text": {"text_len": 77}}
    config = choose_sizes(overrides, "pocket", 1.0, pairs(), Plan())
    assert config.image.model.image_size == (96, 64)
    assert config.transformer_model().grid_size == (12, 8)
    assert config.ranker_model().image_size == (96, 64)
    assert config.transformer_model().text_len == 77
    with pytest.raises(ConfigError, match="recipe 'huge'"):
        choose_sizes({}, "huge", 1.0, pairs(), Plan())


def test_larger_recipes_take_more_operations() -> None:
    totals = [sum(training_flops(recipe()).values()) for recipe in LADDER]
    assert totals == sorted(totals)
    # By hand: six operations a parameter and position of the blocks, three times attention's two products, the heads.
    model = LADDER[0]().transformer_model()
    positions = model.text_len + 64
    blocks = model.num_layers * 12 * model.dim**2
    attention = 3 * model.num_layers * 4 * positions**2 * model.dim
    heads = 6 * model.dim * (255 * (4096 + 256) + 64 * 1024)
    assert training_flops(LADDER[0]())["transformer"] == pytest.approx(
        6 * blocks * positions + attention + heads, rel=0.02
    )


def test_steps_fill_the_time_and_leave_some() -> None:
    config = choose_sizes({"device": "cpu"}, "pocket", 1.0, pairs(), Plan())
    timing = Timing({"image": 0.2, "transformer": 0.7, "ranker": 0.4}, dict.fromkeys(SHARES, 10.0), 2.0)
    fitted, budgets = fit_steps(config, timing, 3600.0, pairs(), Plan())
    spent_s = sum(timing.step_s[name] * getattr(fitted, name).steps + 10.0 for name in SHARES)
    spent_s += timing.encoding_s * (fitted.transformer.token_variants or 0)
    assert 0.88 * 3600 < spent_s < 0.95 * 3600
    assert {name: budget.steps for name, budget in budgets.items()} == {
        name: getattr(fitted, name).steps for name in SHARES
    }
    ends_s = [budgets[name].ends_s for name in SHARES]
    assert ends_s == sorted(ends_s)
    assert 0.9 * 3600 < ends_s[-1] < 0.95 * 3600
    given = dataclasses.replace(config, image=dataclasses.replace(config.image, steps=7))
    kept, others = fit_steps(given, timing, 3600.0, pairs(), Plan())
    assert kept.image.steps == 7
    assert {name: budget.ends_s for name, budget in others.items()} == {
        name: budgets[name].ends_s for name in ("transformer", "ranker")
    }, "the time of the others does not depend on what was asked for"
    assert fit_steps(config, timing, 1.0, pairs(), Plan())[0].ranker.steps == FEWEST_STEPS


def test_few_pairs_get_more_crops_each() -> None:
    config = choose_sizes({"device": "cpu"}, "pocket", 1.0, pairs(), Plan())
    timing = Timing({"image": 0.2, "transformer": 0.7, "ranker": 0.4}, dict.fromkeys(SHARES, 1.0), 0.1)
    few, many = (fit_steps(config, timing, 1000.0, pairs(count), Plan())[0] for count in (100, 20_000))
    assert few.transformer.token_variants == planning.MOST_VARIANTS
    assert many.transformer.token_variants == 1
    slow = dataclasses.replace(timing, encoding_s=20.0)
    assert fit_steps(config, slow, 1000.0, pairs(100), Plan())[0].transformer.token_variants == 2
