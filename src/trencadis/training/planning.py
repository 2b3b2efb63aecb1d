"""The plan of a run that is not there yet, from the pictures to the steps of each stage. Nothing is trained."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from trencadis.config import RunConfig, StartConfig
from trencadis.config.plain import Settings, overlay
from trencadis.run_directory import RunDirectory
from trencadis.training import processes
from trencadis.training.build_stages import check_models, check_networks
from trencadis.training.candidates import SHARES
from trencadis.training.costs import stage_costs
from trencadis.training.elsewhere import Elsewhere
from trencadis.training.known_pairs import Say, read_pairs, silent
from trencadis.training.pace import Budget
from trencadis.training.plan import REPORT_S, Plan, choose_sizes, draft, fit_steps
from trencadis.training.run_pairs import RunPairs
from trencadis.training.starting import TUNING_RECIPE, read_start
from trencadis.training.timing import Timing, time_stages

Measure = Callable[[RunConfig, RunPairs], Timing]


@dataclass(frozen=True)
class PlannedRun:
    """What a run would be.

    Args:
        config: Every setting, steps included.
        plan: What was chosen, and why.
        budgets: The time of each stage whose steps were fitted into it.
        timing: What the steps were fitted by.
    """

    config: RunConfig
    pairs: RunPairs
    plan: Plan
    budgets: dict[str, Budget]
    timing: Timing


@dataclass(frozen=True)
class StageEstimate:
    """What one stage takes.

    Args:
        hours: Of its updates, validations and drawings.
        memory_bytes: Of an update, about; for one device, with a copy of the model.
    """

    stage: str
    steps: int
    step_s: float
    hours: float
    memory_bytes: float


def plan_run(
    run: RunDirectory,
    overrides: Settings,
    recipe: str | None,
    hours: float | None,
    began_s: float,
    say: Say = silent,
    *,
    elsewhere: Elsewhere | None = None,
    measure: Measure = time_stages,
) -> PlannedRun:
    """Choose everything. What is read of the pairs is written into the run's directory, and nothing else.

    Args:
        hours: Time budget; None is 1.
        began_s: When planning began, by `time.monotonic`; the time since then is not trained in.
        elsewhere: The machine that is planned for; None is this one.
        measure: Times the stages.

    Raises:
        UserError: The settings or the data cannot be used.
    """
    plan, start = Plan(), read_start(overlay(StartConfig(), overrides.get("start", {}), "start."))
    if start is not None:
        recipe = recipe or TUNING_RECIPE
        overrides = start.settings(overrides, recipe)
    given = draft(overrides, recipe)
    pairs = read_pairs(given.data, given.seed, run, say, before=None if start is None else start.run)
    if start is not None:
        start.say(overrides, pairs, plan)
    config = choose_sizes(overrides, recipe, 1.0 if hours is None else hours, pairs, plan, elsewhere)
    processes.check(config)
    check_models(config)
    check_networks(config, {"decoder"} if config.image.pretrained is not None else {"image", "decoder"})
    timing = measure(config, pairs)
    spent_s = time.monotonic() - began_s if elsewhere is None else 0.0
    config, budgets = fit_steps(config, timing, config.hours * 3600 - spent_s - REPORT_S, pairs, plan)
    return PlannedRun(config, pairs, plan, budgets, timing)


def time_every_stage(config: RunConfig, pairs: RunPairs) -> Timing:
    """Time the stages whose steps are asked for too."""
    stages = {name: getattr(config, name) for name in SHARES}
    timed = {name: replace(stage, steps=None) for name, stage in stages.items() if stage.steps}
    return time_stages(replace(config, **timed), pairs)


def estimates(planned: PlannedRun) -> list[StageEstimate]:
    """Return what each stage of a plan takes, in order; those that are not trained are left out."""
    found, costs, timing = [], stage_costs(planned.config), planned.timing
    for name in SHARES:
        stage = getattr(planned.config, name)
        if not stage.steps or (name == "image" and stage.pretrained is not None):
            continue
        seconds = stage.steps * timing.step_s[name] + timing.look_s[name]
        if name == "transformer":
            seconds += timing.encoding_s * (stage.token_variants or 1)
        samples = -(-stage.batch_size // stage.microbatches)
        memory = costs[name].memory_bytes(samples, narrow=stage.precision not in (None, "float32"))
        found.append(StageEstimate(name, stage.steps, timing.step_s[name], seconds / 3600, memory))
    return found
