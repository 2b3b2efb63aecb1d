"""Continues a finished run from its weights: for more hours, to more steps, or with more pairs.

The transformer and CLIP are trained further. The text tokenizer stays as it is, and so does the image tokenizer unless
more steps are asked for: the transformer knows their tokens. Its decoder can be trained further, or for the first time.
"""

import shlex
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trencadis.config import RunConfig, StageConfig
from trencadis.config.plain import Settings, overlay
from trencadis.data.check import left_out_line
from trencadis.devices import usable_device
from trencadis.errors import ConfigError
from trencadis.run_directory import RunDirectory
from trencadis.run_log import read_log
from trencadis.spelling import counted
from trencadis.text import CaptionTokenizer
from trencadis.training.build_stages import check_networks
from trencadis.training.candidates import SHARES
from trencadis.training.config_files import write_config
from trencadis.training.known_pairs import Grown, Say, grown_pairs
from trencadis.training.mixed_precision import default_precision
from trencadis.training.optimizers import learning_rate, warmup
from trencadis.training.pace import Budget, read_budgets, write_budgets
from trencadis.training.plan import (
    ENCODING,
    MOST_VARIANTS,
    REPORT_S,
    Plan,
    budgets_of,
    fit_variants,
    longest_ema,
    shares_of,
    steps_in,
    why_so_many,
)
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import cut_captions
from trencadis.training.timing import Timing, time_stages

BY_HOURS = ("transformer", "ranker")
"""The stages that more hours go to."""

PLANNED_ANEW = {"hours", "device", "threads", "save_every_s", "data.path", "transformer.token_variants"}
"""The settings that a finished run may be given anew, besides more steps."""


def more_steps(config: RunConfig, asked: RunConfig) -> dict[str, int]:
    """Return the steps of the stages that are asked to make more than they were planned with."""
    both = {name: (getattr(config, name).steps, getattr(asked, name).steps) for name in (*SHARES, "decoder")}
    return {name: after for name, (before, after) in both.items() if None not in (before, after) and after > before}


def continue_run(
    run: RunDirectory, config: RunConfig, overrides: Settings, hours: float | None, began_s: float, say: Say
) -> tuple[RunConfig, RunPairs] | None:
    """Plan more training of a finished run and write the plan; return it with the pairs.

    Args:
        config: Of the run, as it is finished.
        overrides: Settings that are given anew: some of `PLANNED_ANEW`, and more steps.
        hours: Time budget of what is added; None is what the run was planned for, unless steps are asked for.
        began_s: When the command began.

    Returns:
        None where the run is left as it is: no steps are asked for, no data of another place with new pairs, and no
        hours, or those of the command that planned the run. How it is continued has been said.

    Raises:
        UserError: The data, the device or what is asked for cannot be used. The run is as it was.
    """
    asked = overlay(config, overrides)
    more, is_named = more_steps(config, asked), "path" in overrides.get("data", {})
    if hours is None and not more and not is_named:
        _say_how(run, config, 0, say)
        return None
    grown = grown_pairs(asked.data, config.seed, run)
    is_elsewhere = is_named and not is_same_place(asked.data.path, config.data.path)
    is_by_hours = hours is not None and (not is_named or hours != config.hours or bool(grown.new))
    if not (more or is_by_hours or (is_elsewhere and grown.new)):
        _say_how(run, config, len(grown.new), say)
        return None
    asked = replace(asked, device=usable_device(asked.device))
    if hours is None and not more:
        hours = config.hours
    longer = _Longer(run, config, asked, grown, hours, Plan())
    longer.check(more)
    check_networks(asked, more)
    if line := left_out_line(grown.known.curated):
        say(line)
    planned, budgets = longer.planned(more, began_s)
    longer.write(planned, budgets)
    for line in longer.plan.lines():
        say(line)
    return planned, grown.pairs


def is_same_place(one: str, other: str) -> bool:
    """Return whether two paths are of one place, such as a link and what it leads to."""
    if one == other:
        return True
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def _say_how(run: RunDirectory, config: RunConfig, new: int, say: Say) -> None:
    more = f"; pairs that came since: {new:,}" if new else ""
    command = f"trencadis train --out {shlex.quote(str(run.path))} --hours {config.hours:g}"
    say(f"{run.path} is finished{more}; `{command}` continues it")


@dataclass(frozen=True)
class _Longer:
    """What a finished run becomes: its config before and as it is asked for, and its pairs."""

    run: RunDirectory
    before: RunConfig
    asked: RunConfig
    grown: Grown
    hours: float | None  # that steps are fitted into; None where they are all given
    plan: Plan

    def check(self, more: Collection[str]) -> None:
        """Raise a `ConfigError` for what cannot be trained further."""
        if "image" in more and self.hours is None and "transformer" not in more:
            raise ConfigError(
                "more image.steps and no more transformer.steps",
                expected="a transformer that learns the codes as they are then",
                remedy="give --hours or --transformer.steps too",
            )
        if "image" in more and self.before.decoder.steps:
            raise ConfigError(
                "more image.steps where a decoder has been trained on the codes",
                expected="codes that stay",
                remedy="train into another --out",
            )
        new = set() if self.before.decoder.steps else {"decoder"}
        for name in {*more, *(BY_HOURS if self.hours is not None else ())} - new:
            if not getattr(self.before, name).steps:
                continue  # it begins with the weights of the model that the run started from
            checkpoint = self.run.latest_checkpoint(name)
            if checkpoint is None or not checkpoint.is_dir():
                raise ConfigError(
                    f"{self.run.checkpoints(name)} holds no checkpoint",
                    expected="the last one, with the optimizer's state, to continue from",
                    remedy="restore it, or train into another --out",
                )

    def planned(self, more: dict[str, int], began_s: float) -> tuple[RunConfig, dict[str, Budget]]:
        """Return the config with all steps and the budgets of stages that get hours, and say what is done."""
        before = {name: getattr(self.before, name).steps for name in SHARES}
        at = ", ".join(f"{name}.steps {before[name]}" for name in BY_HOURS)
        self.plan.say("continued", f"at {at}", "where the run was finished")
        self._say_what_stays(more)
        by_hours = []
        if self.hours is not None:  # what was to be left as it is stays so
            by_hours = [name for name in BY_HOURS if name not in more and before[name]]
        timing, left_s = Timing(), 0.0
        if by_hours:
            timing = time_stages(self._to_be_timed(by_hours), self.grown.pairs)
            left_s = (self.hours or 0.0) * 3600 - (time.monotonic() - began_s) - REPORT_S
            left_s -= timing.encoding_s * self._new_share()
        shares = shares_of(self.asked, [name for name in SHARES if name in more or name in by_hours])
        stages: dict[str, StageConfig] = {}
        for name, share in shares.items():
            steps, why = more.get(name), "asked for"
            if steps is None:
                steps = before[name] + steps_in(share * left_s, timing, name)
                why = why_so_many(share, timing, name)
            stages[name] = self._longer_stage(name, steps)
            self.plan.say(f"{name}.steps", steps, f"{why}; {self._schedule(name, steps)}")
        if "decoder" in more:
            stages["decoder"] = self._longer_decoder(more["decoder"])
        planned = replace(self.asked, hours=self.before.hours if self.hours is None else self.hours, **stages)  # type: ignore[arg-type]
        budgets = budgets_of(
            planned,
            shares,
            timing,
            left_s,
            by_hours,
            began_s=max((line["elapsed_s"] for line in read_log(self.run)), default=0.0),
            encoding_s=timing.encoding_s * self._new_share(),
        )
        return self._with_crops(planned, timing, left_s), budgets

    def _to_be_timed(self, stages: Collection[str]) -> RunConfig:
        """Return a config in which only the steps of some stages are open, with the image tokenizer as it is."""
        changed: dict[str, StageConfig] = {name: replace(getattr(self.asked, name), steps=None) for name in stages}
        changed["image"] = replace(self.asked.image, pretrained=str(self.run.part("image")))
        return replace(self.asked, **changed)  # type: ignore[arg-type]

    def _say_what_stays(self, more: Collection[str]) -> None:
        pairs, new = self.grown.pairs, self.grown.new
        if new or self.grown.absent:
            why = f"{len(new):,} new ones, {len(self.grown.absent):,} gone or changed; the others stay on their side"
            self.plan.say("pairs", f"{pairs.kept:,}", f"{why} of the split")
        if new:
            tokenizer, text_len = CaptionTokenizer.from_pretrained(self.run.part("text")), self.before.text.text_len
            why = f"its vocabulary is fixed; of the new pairs, {cut_captions(tokenizer, new, text_len)}"
            self.plan.say("text tokenizer", "stays", why)
        if "image" not in more:
            self.plan.say("image tokenizer", "stays", "the transformer knows its codes")

    def _new_share(self) -> float:
        """Return the share of the training pairs that have no tokens yet, times the crops of each."""
        if not self.grown.new:
            return 0.0
        return (self.before.transformer.token_variants or 1) * len(self.grown.new) / len(self.grown.pairs.train)

    def _longer_stage(self, name: str, steps: int) -> StageConfig:
        """Return a stage with more steps, and a longer EMA where a short training had limited it."""
        stage: StageConfig = getattr(self.asked, name)
        assert stage.steps is not None
        budget, ema_decay = read_budgets(self.run).get(name), stage.ema_decay
        if ema_decay == longest_ema(getattr(self.before, name).steps if budget is None else budget.steps):
            ema_decay = max(ema_decay, min(StageConfig.ema_decay, longest_ema(steps)))
        return replace(stage, steps=steps, ema_decay=ema_decay)

    def _longer_decoder(self, steps: int) -> StageConfig:
        """Return the decoder's stage with more steps, or with its first ones."""
        if self.before.decoder.steps:
            self.plan.say("decoder.steps", steps, f"asked for; {self._schedule('decoder', steps)}")
            return self._longer_stage("decoder", steps)
        self.plan.say("decoder.steps", steps, "asked for; its first ones, on codes that stay")
        stage: StageConfig = self.asked.decoder
        precision = stage.precision or default_precision(torch.device(self.asked.device))
        return replace(stage, precision=precision, ema_decay=min(stage.ema_decay, longest_ema(steps)))

    def _schedule(self, name: str, steps: int) -> str:
        """Return what happens to the learning rate, in words."""
        before: StageConfig = getattr(self.before, name)
        assert before.steps is not None
        if not before.steps:
            return "it had none, and begins with the weights of the model that the run started from"
        optimizer = before.optimizer
        rise = min(steps - before.steps, warmup(steps - before.steps, optimizer))
        end = learning_rate(before.steps - 1, before.steps, optimizer, peak=1.0)
        met = learning_rate(min(before.steps + rise, steps - 1), steps, optimizer, peak=1.0)
        return (
            f"it had {before.steps:,}, and the learning rate goes from {end:.2%} of its peak to the {met:.2%} that "
            f"{steps:,} steps have there, in {counted(rise, 'step')}"
        )

    def _with_crops(self, planned: RunConfig, timing: Timing, left_s: float) -> RunConfig:
        """Return the config with more crops of each picture where there are more epochs, unless they are given."""
        before = self.before.transformer.token_variants or 1
        is_given = self.asked.transformer.token_variants != before
        if is_given or planned.transformer.steps == self.before.transformer.steps:
            return planned
        most = before + int(ENCODING * left_s / timing.encoding_s) if timing.encoding_s else MOST_VARIANTS
        return fit_variants(planned, most, self.grown.pairs, self.plan, least=before)

    def write(self, planned: RunConfig, budgets: dict[str, Budget]) -> None:
        """Write the plan. The config comes last: until it is there, the run is finished, and it is planned again."""
        for name in (*SHARES, "decoder"):
            if getattr(planned, name).steps != (before := getattr(self.before, name).steps):
                self.run.mark_trained(name, before)
        self.grown.known.save(self.run)
        self.run.write_data(self.grown.pairs.summary())
        choices = self.run.read_choices()
        if self.plan.choices[0] in choices:  # of a start that was killed before the config was written
            choices = choices[: choices.index(self.plan.choices[0])]
        self.run.write_choices([*choices, *self.plan.choices])
        write_budgets(self.run, budgets)
        write_config(self.run.config, planned)
