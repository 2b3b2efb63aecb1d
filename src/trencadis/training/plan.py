"""The plan of a run: sizes and steps chosen by the data, the machine and the time, with the reasons."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from trencadis.config import DiscreteVAEConfig, RunConfig, StageConfig
from trencadis.config.plain import Settings, differing, overlay, to_plain
from trencadis.data.prefetch import available_cores
from trencadis.devices import usable_device
from trencadis.errors import ConfigError
from trencadis.image import load_image_tokenizer
from trencadis.model_directory import find_model
from trencadis.recipes import LADDER, RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.training import processes
from trencadis.training.candidates import SHARES, choose_candidate
from trencadis.training.elsewhere import Elsewhere
from trencadis.training.mixed_precision import default_precision
from trencadis.training.pace import FEWEST_STEPS, Budget
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import train_tokenizer
from trencadis.training.timing import Timing

USED = 0.9
"""Share of the time left that steps are fitted into: saving and further crops take time, and machines slow down."""

FEWEST_PICTURES = {"image": (50_000, "smeared pictures"), "transformer": (150_000, "blurs")}
"""Pictures below which a stage is said to have too little time, and what is drawn then: see docs/log.md."""

REPORT_S = 5.0
"""Kept for the report."""

LENGTH_SAMPLE = 20_000  # captions

SEEN = 10  # approximate times that a crop is seen; more often overfits
MOST_VARIANTS = 16
ENCODING = 0.05  # largest share of the training time for encoding further crops


@dataclass
class Plan:
    """What was chosen, and why."""

    choices: list[dict[str, str]] = field(default_factory=list)

    def say(self, what: str, value: object, why: str) -> None:
        self.choices.append({"what": what, "value": str(value), "why": why})

    def save(self, run: RunDirectory) -> None:
        run.write_choices(self.choices)

    def lines(self) -> list[str]:
        """Return the choices as a table of two columns."""
        named = [(f"{choice['what']} {choice['value']}", choice["why"]) for choice in self.choices]
        width = max((len(name) for name, _ in named), default=0)
        return [f"{name:<{width}}   {why}" for name, why in named]


def draft(overrides: Mapping[str, Any], recipe: str | None) -> RunConfig:
    """Return the config of a run before anything is chosen; its data and its seed are those of the run.

    Raises:
        ConfigError: The recipe is unknown, or a setting is unknown, of the wrong type or out of its range.
        ModelError: The given image tokenizer cannot be loaded.
    """
    config = LADDER[0]() if recipe is None else _recipe(recipe)
    return overlay(overlay(config, _given_tokenizer(overrides, Plan())), overrides)


def choose_sizes(
    overrides: Mapping[str, Any],
    recipe: str | None,
    hours: float,
    pairs: RunPairs,
    plan: Plan,
    elsewhere: Elsewhere | None = None,
) -> RunConfig:
    """Return the config of a run but for the steps that its speed decides. Raises what `draft` does.

    Args:
        overrides: Settings given by the user, nested; they are kept.
        recipe: Name of a recipe, or None to choose one by the time.
        plan: Gets the choices.
        elsewhere: The machine that is planned for; None is this one.
    """
    device = usable_device(overrides.get("device")) if elsewhere is None else "cuda"
    given = _given_tokenizer(overrides, plan)
    threads = overrides.get("threads") or processes.threads(available_cores())
    torch.set_num_threads(int(threads))
    chosen: Settings = {"hours": hours, "device": device, "threads": threads}

    def complete(base: Callable[[], RunConfig], plan: Plan) -> RunConfig:
        config = overlay(base(), given)
        is_fitted = overlay(config, overrides).text.fit_captions
        text = {"text": _choose_text(config, pairs, plan)} if is_fitted else {}
        return _with_precision(overlay(overlay(config, chosen | text), overrides), plan, elsewhere)

    if recipe is None:
        candidates = [(base, partial(complete, base, Plan())) for base in LADDER]
        base = _choose_recipe(candidates, hours, pairs, plan, elsewhere)
    else:
        base = partial(_recipe, recipe)
        why = "asked for" if overrides.get("start") is None else "of the training; the sizes are the model's"
        plan.say("recipe", recipe, why)
    config = complete(base, plan)
    for name in ("image", "decoder"):
        losses = getattr(config, name).losses
        if losses.perceptual and (name == "image" or config.decoder.steps):
            network = losses.perceptual_network
            why = "what pictures are compared through" if network else f"{name}.losses.perceptual_network was not given"
            plan.say("perceptual term" if name == "image" else "perceptual term of the decoder", network or "none", why)
    if config.decoder.steps:
        height, width = config.drawn_model().drawn_size
        why = f"asked for, beside the time budget; pictures of {height}×{width} pixels are drawn on the same codes"
        plan.say("decoder.steps", config.decoder.steps, why)
    if elsewhere is None:
        plan.say("threads", threads, f"the cores of this machine; training runs on {device}")
    return config


def _with_precision(config: RunConfig, plan: Plan, elsewhere: Elsewhere | None) -> RunConfig:
    """Return the config with a type for each stage that has none, so that a run keeps it on any machine."""
    open_stages = {
        name: stage
        for name in (*SHARES, "decoder")
        if (stage := getattr(config, name)).precision is None and _is_trained(config, name)
    }
    if elsewhere is not None:
        narrowed = {name: replace(stage, precision=elsewhere.precision(name)) for name, stage in open_stages.items()}
        return replace(config, **narrowed)
    precision = default_precision(torch.device(config.device))
    units = "has" if precision == "bfloat16" else "lacks"
    if open_stages:
        plan.say("precision", precision, f"this machine {units} units for bfloat16; of {', '.join(open_stages)}")
    return replace(config, **{name: replace(stage, precision=precision) for name, stage in open_stages.items()})


def _is_trained(config: RunConfig, stage: str) -> bool:
    if stage == "decoder":
        return config.decoder.steps > 0
    return stage != "image" or config.image.pretrained is None


def _recipe(name: str) -> RunConfig:
    if name not in RECIPES:
        raise ConfigError(f"recipe {name!r}", expected=f"one of {', '.join(RECIPES)}", remedy="choose one of these")
    return RECIPES[name]()


def _given_tokenizer(overrides: Mapping[str, Any], plan: Plan) -> Settings:
    """Return the settings of the given image tokenizer; none where the run trains its own."""
    image = overrides.get("image")
    if not isinstance(image, Mapping) or image.get("pretrained") is None:
        return {}
    name = str(image["pretrained"])
    others = [name for name in differing({}, image.get("model", {})) if name != "image_size"]
    if others:
        remedy = f"drop image.model.{others[0]}, or train a tokenizer"
        raise ConfigError(f"image.model.{others[0]}", expected="the tokenizer's own", remedy=remedy)
    model: DiscreteVAEConfig = load_image_tokenizer(find_model(name)).config
    rows, columns = model.grid_size
    why = f"given: {rows}×{columns} tokens of {model.image_vocab_size:,} codes; none is trained"
    plan.say("image tokenizer", name, why)
    return {"image": {"pretrained": name, "model": to_plain(model)}}


def _choose_recipe(
    candidates: Sequence[tuple[Callable[[], RunConfig], Callable[[], RunConfig]]],
    hours: float,
    pairs: RunPairs,
    plan: Plan,
    elsewhere: Elsewhere | None,
) -> Callable[[], RunConfig]:
    """Return the recipe for the time, the machine and the pictures.

    Args:
        candidates: Recipes, smallest first, each with its config in this run.
    """
    sides = sorted(min(pair.image_size) for pair in pairs.train if pair.image_size is not None)
    median_side = sides[len(sides) // 2] if sides else 0
    number, timed = choose_candidate([config for _, config in candidates], hours, pairs, median_side, elsewhere)
    for choice in timed:
        plan.say(*choice)
    base, config = candidates[number][0], candidates[number][1]()
    size, grid = config.image.model.image_size, config.image.model.grid_size
    where = "here" if elsewhere is None else "there"
    why = (
        f"the largest for {hours:g} h {where} and for pictures of which half have {median_side} pixels along each side"
    )
    plan.say("recipe", config.recipe, why)
    plan.say("picture", f"{size[0]}×{size[1]} pixels, {grid[0]}×{grid[1]} tokens", "of the recipe")
    return base


def _choose_text(config: RunConfig, pairs: RunPairs, plan: Plan) -> Settings:
    """Return the text length that nearly all captions fit into, and the number of tokens that they hold."""
    sample = pairs.train[:LENGTH_SAMPLE]
    tokenizer = train_tokenizer(sample, config.text.vocab_size)
    lengths = sorted(len(tokenizer.encode(caption)) for pair in sample for caption in pair.captions)
    needed = lengths[int(0.995 * (len(lengths) - 1))]
    # BPE-dropout makes captions longer: room for half as much again.
    text_len = min(256, max(16, -(-3 * needed // 2 // 8) * 8))
    plan.say("text_len", text_len, f"99.5 % of the captions have at most {needed} tokens; dropped merges take more")
    cut = sum(length > text_len for length in lengths)
    if cut:
        plan.say("captions cut", f"{cut:,} of {len(lengths):,}", f"they are longer than {text_len} tokens")
    plan.say("vocab_size", tokenizer.vocab_size, "what the captions hold, at most the recipe's")
    return {"text_len": text_len, "vocab_size": tokenizer.vocab_size}


def fit_steps(
    config: RunConfig, timing: Timing, left_s: float, pairs: RunPairs, plan: Plan
) -> tuple[RunConfig, dict[str, Budget]]:
    """Return the config with the steps that fit into the time, and the crops of each picture; given ones are kept.

    The stages whose steps were fitted have a budget too.

    Args:
        left_s: Seconds for all stages.
    """
    most_crops = int(ENCODING * left_s / timing.encoding_s) if timing.encoding_s else MOST_VARIANTS
    left_s -= timing.encoding_s * (config.transformer.token_variants or 1)
    shares, fitted = shares_of(config), dict[str, StageConfig]()
    for name, share in shares.items():
        stage: StageConfig = getattr(config, name)
        if stage.steps is not None:
            plan.say(f"{name}.steps", stage.steps, "asked for")
            continue
        steps = steps_in(share * left_s, timing, name)
        fitted[name] = replace(
            stage, steps=steps, ema_decay=min(stage.ema_decay, longest_ema(steps // stage.ema_every))
        )
        plan.say(f"{name}.steps", steps, why_so_many(share, timing, name))
    config = replace(config, **fitted)  # type: ignore[arg-type]
    _warn(config, fitted, pairs, plan)
    if config.transformer.token_variants is None:
        config = fit_variants(config, most_crops, pairs, plan)
    encoding_s = timing.encoding_s * (config.transformer.token_variants or 1)
    return config, budgets_of(config, shares, timing, left_s, fitted, encoding_s=encoding_s)


def _warn(config: RunConfig, fitted: Mapping[str, StageConfig], pairs: RunPairs, plan: Plan) -> None:
    """Say what to expect where the time is too short."""
    for name, (fewest, drawn) in FEWEST_PICTURES.items():
        if name not in fitted:
            continue
        passing = (fitted[name].steps or 0) * fitted[name].batch_size
        if passing < fewest:
            passes = passing / sum(pair.weight for pair in pairs.train)
            needed_h = config.hours * fewest / passing
            why = (
                f"the {'image tokenizer' if name == 'image' else name} sees each picture {passes:.2g} times, "
                f"{passing:,} in all; about {needed_h:.2g} h are what this takes here"
            )
            plan.say("expect", drawn, why)


def budgets_of(
    config: RunConfig,
    shares: Mapping[str, float],
    timing: Timing,
    left_s: float,
    fitted: Collection[str],
    *,
    began_s: float = 0.0,
    encoding_s: float,
) -> dict[str, Budget]:
    """Return when each of the `fitted` stages should end.

    Args:
        shares: Of `left_s`, in the order of the stages.
        began_s: Seconds that the run has been trained for.
        encoding_s: Seconds in which the pictures are encoded, between the image tokenizer and the transformer.
    """
    budgets, ends_s = {}, began_s
    for name, share in shares.items():
        ends_s += share * left_s * USED + (encoding_s if name == "transformer" else 0.0)
        if name in fitted:
            steps = getattr(config, name).steps
            budgets[name] = Budget(steps, round(ends_s, 3), round(timing.look_s[name], 3))
    return budgets


def shares_of(config: RunConfig, stages: Sequence[str] = tuple(SHARES)) -> dict[str, float]:
    """Return the share of the training time of each of some stages; together they have all of it."""
    shares = {name: SHARES[name] for name in stages if _is_trained(config, name)}
    whole = sum(shares.values())
    return {name: share / whole for name, share in shares.items()}


def steps_in(seconds: float, timing: Timing, stage: str) -> int:
    """Return how many updates of a stage fit into a time, its validations included."""
    return max(FEWEST_STEPS, int((seconds * USED - timing.look_s[stage]) / timing.step_s[stage]))


def why_so_many(share: float, timing: Timing, stage: str) -> str:
    return f"{share:.0%} of the time for training; a step takes {timing.step_s[stage] * 1000:.0f} ms {timing.where}"


def longest_ema(steps: int) -> float:
    """Return the largest decay of an EMA, which spans at most 3 % of a run, so that it forgets untrained weights."""
    return 1 - 1 / max(2.0, 0.03 * steps)


def fit_variants(config: RunConfig, most_crops: int, pairs: RunPairs, plan: Plan, *, least: int = 1) -> RunConfig:
    """Return the config with as many crops of each picture as its epochs are worth, from `least` to `most_crops`."""
    stage = config.transformer
    assert stage.steps is not None
    epochs = stage.steps * stage.batch_size / sum(pair.weight for pair in pairs.train)
    variants = max(least, min(round(epochs / SEEN), most_crops, MOST_VARIANTS))
    why = f"the pairs pass {epochs:.0f} times; a crop is best seen {SEEN} times"
    plan.say("transformer.token_variants", variants, why)
    return replace(config, transformer=replace(stage, token_variants=variants))
