"""The plan of a run: sizes and steps chosen by the data, the machine and the time, with the reasons."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trencadis.config import DiscreteVAEConfig, RunConfig, StageConfig
from trencadis.config.plain import Settings, differing, overlay, to_plain
from trencadis.data.prefetch import available_cores
from trencadis.devices import usable_device
from trencadis.errors import ConfigError
from trencadis.image import DiscreteVAE, Quantized, load_image_tokenizer
from trencadis.model_directory import find_model
from trencadis.ranking import CLIP
from trencadis.recipes import LADDER, RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.training.mixed_precision import default_precision
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import train_tokenizer
from trencadis.training.timing import Timing
from trencadis.transformer import Transformer
from trencadis.transformer.kernels.cpu import counted_products

SHARES = {"image": 0.32, "transformer": 0.53, "ranker": 0.15}
"""Shares of the training time, by stage."""

USED = 0.85
"""Share of the time left that steps are fitted into: machines slow down, and validation and saving take time."""

PICTURES_WORTH_IT = 30_000
"""A recipe is chosen only where this many pictures pass through it in the time."""

ASSUMED_MFU = 0.4
"""Assumed share of a plain matrix product's FLOP/s that training reaches, used only to pick a recipe."""

REPORT_S = 5.0
"""Kept for the report."""

LENGTH_SAMPLE = 20_000  # captions
FEWEST_STEPS = 20

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
    overrides: Mapping[str, Any], recipe: str | None, hours: float, pairs: RunPairs, plan: Plan
) -> RunConfig:
    """Return the config of a run but for the steps that its speed decides. Raises what `draft` does.

    Args:
        overrides: Settings given by the user, nested; they are kept.
        recipe: Name of a recipe, or None to choose one by the time.
        plan: Gets the choices.
    """
    device = usable_device(overrides.get("device"))
    given = _given_tokenizer(overrides, plan)
    threads = overrides.get("threads") or available_cores()
    torch.set_num_threads(int(threads))
    if recipe is None:
        config = _choose_recipe(hours, torch.device(device), pairs, plan, given)
    else:
        config = overlay(_recipe(recipe), given)
        plan.say("recipe", recipe, "asked for")
    chosen: Settings = {"hours": hours, "device": device, "threads": threads}
    if config.text.fit_captions:
        chosen["text"] = _choose_text(config, pairs, plan)
    config = _with_precision(overlay(overlay(config, chosen), overrides), plan)
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
    plan.say("threads", threads, f"the cores of this machine; training runs on {device}")
    return config


def _with_precision(config: RunConfig, plan: Plan) -> RunConfig:
    """Return the config with a type for each stage that has none, so that a run keeps it on any machine."""
    device = torch.device(config.device)
    precision = default_precision(device)
    units = "has" if precision == "bfloat16" else "lacks"
    open_stages = {
        name: stage
        for name in (*SHARES, "decoder")
        if (stage := getattr(config, name)).precision is None and _is_trained(config, name)
    }
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


def _choose_recipe(hours: float, device: torch.device, pairs: RunPairs, plan: Plan, given: Settings) -> RunConfig:
    """Return the largest recipe that enough pictures pass through in the time, and that is no larger than they are."""
    rate = ASSUMED_MFU * _matmul_rate(device)
    sides = sorted(min(pair.image_size) for pair in pairs.train if pair.image_size is not None)
    median_side = sides[len(sides) // 2] if sides else 0
    fitting: list[tuple[RunConfig, float]] = []
    for recipe in LADDER:
        config = overlay(recipe(), given)
        needed_h = PICTURES_WORTH_IT * sum(training_flops(config).values()) / rate / 3600
        is_filled = config.image.pretrained is not None or config.image.model.image_size[0] <= median_side
        if not fitting or (needed_h <= hours and is_filled):
            fitting.append((config, needed_h))
    config, needed_h = fitting[-1]
    why = (
        f"{PICTURES_WORTH_IT} pictures take about {needed_h:.2g} h at {rate / 1e9:.0f} GFLOP/s, "
        f"and half of the pictures have {median_side} pixels or more along their short side"
    )
    plan.say("recipe", config.recipe, why)
    size, grid = config.image.model.image_size, config.image.model.grid_size
    plan.say("picture", f"{size[0]}×{size[1]} pixels, {grid[0]}×{grid[1]} tokens", "of the recipe")
    return config


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


@cache
def training_flops(config: RunConfig) -> dict[str, float]:
    """Return the FLOPs of training on one pair, by stage, forward and backward; counted without computing."""
    counted = {}
    with FakeTensorMode():  # tensors without numbers
        vae, transformer = DiscreteVAE(config.image.model), Transformer(config.transformer_model())
        clip = CLIP(config.ranker_model())
        images = torch.zeros(1, 3, *config.image.model.drawn_size)
        tokens = torch.zeros(1, *config.image.model.grid_size, dtype=torch.long)
        text = torch.zeros(1, config.text.text_len, dtype=torch.long)
        runs: dict[str, Callable[[], object]] = {
            "image": lambda: vae(images, partial(_quantized, vae)) if config.image.pretrained is None else None,
            "transformer": lambda: transformer.logits(text, tokens),
            "ranker": lambda: (clip.image(images), clip.text(text)),
        }
        for stage, run in runs.items():
            # Only the plain form of attention is made of operations that are counted.
            counting = FlopCounterMode(display=False, custom_mapping=counted_products())
            with counting as counter, sdpa_kernel(SDPBackend.MATH):
                run()
            counted[stage] = 3.0 * counter.get_total_flops()
    return counted


def _quantized(vae: DiscreteVAE, latents: Tensor) -> Quantized:
    """Return codes of the right shape, at about the cost of training."""
    bottleneck = vae.bottleneck
    embedded = bottleneck.mix(bottleneck.logits(latents))
    return Quantized(embedded, latents.new_zeros(latents.shape[:-1], dtype=torch.long), latents)


def _matmul_rate(device: torch.device) -> float:
    """Return the FLOP/s of a matrix product on this machine."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    side = 4096 if device.type == "cuda" else 1024
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    best_s = float("inf")
    for _ in range(6):
        began_s = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a number back waits for the device
        best_s = min(best_s, time.perf_counter() - began_s)
    return 2 * side**3 / best_s


def fit_steps(config: RunConfig, timing: Timing, left_s: float, pairs: RunPairs, plan: Plan) -> RunConfig:
    """Return the config with the steps that fit into the time, and the crops of each picture; given ones are kept.

    `left_s` is the seconds for all stages.
    """
    most_crops = int(ENCODING * left_s / timing.encoding_s) if timing.encoding_s else MOST_VARIANTS
    left_s -= timing.encoding_s * (config.transformer.token_variants or 1)
    fitted: dict[str, StageConfig] = {}
    for name, share in shares_of(config).items():
        stage: StageConfig = getattr(config, name)
        if stage.steps is not None:
            plan.say(f"{name}.steps", stage.steps, "asked for")
            continue
        steps = steps_in(share * left_s, timing, name)
        fitted[name] = replace(stage, steps=steps, ema_decay=min(stage.ema_decay, longest_ema(steps)))
        plan.say(f"{name}.steps", steps, why_so_many(share, timing, name))
    config = replace(config, **fitted)  # type: ignore[arg-type]
    if config.transformer.token_variants is not None:
        return config
    return fit_variants(config, most_crops, pairs, plan)


def shares_of(config: RunConfig, stages: Sequence[str] = tuple(SHARES)) -> dict[str, float]:
    """Return the share of the training time of each of some stages; together they have all of it."""
    shares = {name: SHARES[name] for name in stages if _is_trained(config, name)}
    whole = sum(shares.values())
    return {name: share / whole for name, share in shares.items()}


def steps_in(seconds: float, timing: Timing, stage: str) -> int:
    """Return how many updates of a stage fit into a time, its validations included."""
    return max(FEWEST_STEPS, int((seconds * USED - timing.look_s[stage]) / timing.step_s[stage]))


def why_so_many(share: float, timing: Timing, stage: str) -> str:
    return f"{share:.0%} of the time for training; a step takes {timing.step_s[stage] * 1000:.0f} ms here"


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
