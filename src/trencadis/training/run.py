"""A whole run: byte-pair encoding, image tokenizer, cached tokens, transformer, CLIP; and the model that they make."""

import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from trencadis.config import RunConfig, StageConfig
from trencadis.config.plain import Settings, differing, overlay
from trencadis.data.contact_sheet import titled
from trencadis.data.training_sheet import training_sections
from trencadis.devices import usable_device
from trencadis.errors import ConfigError, StorageError, UserError
from trencadis.image import DiscreteVAE, count_codes, load_image_tokenizer
from trencadis.image.code_portraits import code_portraits
from trencadis.pipeline import DALLE
from trencadis.pretrained import config_from_dict, read_json
from trencadis.protocols import Savable
from trencadis.randomness import derive_seed
from trencadis.ranking import CLIP, CLIPRanker
from trencadis.report.page import write_report
from trencadis.run_directory import RunDirectory
from trencadis.run_log import RunLog, UnwrittenLog
from trencadis.sampling import Sampling
from trencadis.storage import write_picture
from trencadis.training import processes
from trencadis.training.build_stages import Stages
from trencadis.training.config_files import read_config, write_config
from trencadis.training.continuing import PLANNED_ANEW, continue_run, is_same_place, more_steps
from trencadis.training.decoder import DecoderTraining
from trencadis.training.known_pairs import Say, resumed_pairs, silent
from trencadis.training.loop import fit
from trencadis.training.pace import read_budgets, write_budgets
from trencadis.training.plan import Plan
from trencadis.training.planning import plan_run
from trencadis.training.run_pairs import RunPairs
from trencadis.training.stage import Stage
from trencadis.training.starting import read_start, take_weights
from trencadis.training.text import fit_text
from trencadis.training.token_cache import cache_tokens, encode_middle
from trencadis.transformer import Transformer

TrainedStage = TypeVar("TrainedStage", bound=Stage[Any])


def train(
    run_directory: Path,
    overrides: Settings,
    *,
    recipe: str | None = None,
    hours: float | None = None,
    say: Say = silent,
) -> RunConfig:
    """Train every part of a model. A run that was stopped is resumed; a finished one is continued if it is asked to be.

    A finished run goes on for `hours`, to more steps in `overrides`, or with new pairs in the data that these name.
    Otherwise it is left as it is, as it is by the hours and the data that it was planned with.
    With `start.model` in `overrides`, a new run keeps that model's tokenizers and trains its other parts further.
    Processes that torchrun started train one run together; each of them calls this, and the first one plans and writes.
    Torch's number of threads, its random state and its choice of deterministic algorithms are put back at the end.

    Args:
        run_directory: Made where it is absent; a run in it is resumed as it was planned.
        overrides: Settings that are not to be chosen, nested as `RunConfig` is; `data.path` among them.
        recipe: Name of the recipe; None chooses one by the time.
        hours: Time budget; None is 1, or what the run was planned for.
        say: Called with each line for the user: what is left out, the plan, and how a finished run is continued.

    Raises:
        UserError: The settings, the data or the directory cannot be used. Where nothing had begun, nothing is left.
        RunError: Training failed.
        SystemExit: The first of several processes failed, in which the reason is raised.
    """
    began_s, run = time.monotonic(), RunDirectory(run_directory)
    with _torch_state_restored(), processes.joined(), ExitStack() as held:
        with processes.first_goes_ahead():
            if processes.is_first():
                is_new = held.enter_context(run.lock())
                config, pairs = _plan(run, overrides, recipe, hours, began_s, say, is_new=is_new)
            else:
                config, pairs = read_config(run.config), None
        if processes.agreed(int(pairs is not None)):
            pairs = pairs or resumed_pairs(config.data, config.seed, run)
            torch.set_num_threads(config.threads)
            if config.device == "cpu":
                torch.use_deterministic_algorithms(True)
            with RunLog(run) if processes.is_first() else UnwrittenLog(run) as log:
                own = _Run(run, config, pairs, log, say)
                own.all_stages()
                config = own.config
    return config


@contextmanager
def _torch_state_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def _plan(
    run: RunDirectory,
    overrides: Settings,
    recipe: str | None,
    hours: float | None,
    began_s: float,
    say: Say,
    *,
    is_new: bool,
) -> tuple[RunConfig, RunPairs | None]:
    """Return the plan and the pairs; where nothing had begun and it fails, leave nothing."""
    try:
        begin = _begin_again if run.has_begun else _begin
        return begin(run, overrides, recipe, hours, began_s, say)
    except UserError:
        if is_new and not run.has_begun:
            run.clear()
        raise


def _begin(
    run: RunDirectory, overrides: Settings, recipe: str | None, hours: float | None, began_s: float, say: Say
) -> tuple[RunConfig, RunPairs]:
    """Plan a run."""
    if strangers := run.strangers():
        found = f"{run.path} holds {strangers[0]}"
        raise StorageError(found, expected="an empty folder or a run", remedy="choose another --out")
    planned = plan_run(run, overrides, recipe, hours, began_s, say)
    run.write_data(planned.pairs.summary())
    planned.plan.save(run)
    write_budgets(run, planned.budgets)
    write_config(run.config, planned.config)
    for line in planned.plan.lines():
        say(line)
    return planned.config, planned.pairs


def _begin_again(
    run: RunDirectory, overrides: Settings, recipe: str | None, hours: float | None, began_s: float, say: Say
) -> tuple[RunConfig, RunPairs | None]:
    """Return the plan and the pairs of a run that has a plan; no pairs where it is finished and left as it is."""
    config = read_config(run.config)
    processes.check(config)
    named = {"recipe": recipe, "hours": hours}
    asked = overlay(config, overrides | {name: value for name, value in named.items() if value is not None})
    if run.is_finished:
        more = {f"{name}.steps" for name in more_steps(config, asked)}
        if "decoder.steps" in more and not config.decoder.steps:  # none of its settings has been used
            more |= {name for name in differing(config, asked) if name.startswith("decoder.")}
        _check_same(config, asked, but=PLANNED_ANEW | more)
        return continue_run(run, config, overrides, hours, began_s, say) or (config, None)
    _check_same(config, asked, but={"data.path"})
    usable_device(config.device)
    pairs = resumed_pairs(asked.data, config.seed, run, say)
    if asked.data.path != config.data.path:
        config = replace(config, data=asked.data)
        write_config(run.config, config)
    return config, pairs


def _check_same(config: RunConfig, asked: RunConfig, *, but: Collection[str]) -> None:
    changed = [name for name in differing(config, asked) if name not in but and not _is_same_path(config, asked, name)]
    if changed:
        raise ConfigError(
            f"another {changed[0]} than the run was planned with",
            expected="the plan in the run's config.yaml",
            remedy="drop the option to resume the run, or choose another --out",
        )


def _is_same_path(config: RunConfig, asked: RunConfig, setting: str) -> bool:
    one, other = (attrgetter(setting)(settings) for settings in (config, asked))
    return isinstance(one, str) and isinstance(other, str) and is_same_place(one, other)


@dataclass
class _Run:
    """The stages of a run, one after the other. A stage whose part is in the model directory is not entered."""

    run: RunDirectory
    config: RunConfig
    pairs: RunPairs
    log: RunLog
    say: Say

    @property
    def device(self) -> torch.device:
        return torch.device(self.config.device)

    def all_stages(self) -> None:
        """Train what is not trained yet, and complete the model directory."""
        with processes.first_goes_ahead():
            self._show_training_pictures()
            if not self.run.part("text").exists() and (start := read_start(self.config.start)) is not None:
                start.copy_to(self.run, self.config, self.pairs)
            sampling = self._sampling()
            tokenizer = fit_text(self.pairs, self.config.text, self.run.part("text"))
        stages = Stages(self.config, self.pairs, tokenizer, self.device)
        vae = self._decoder(stages, self._image_tokenizer(stages))
        transformer = self._transformer(stages, vae)
        ranker = CLIPRanker(self._ranker(stages), tokenizer)
        parts = {"text_tokenizer": tokenizer, "image_tokenizer": vae, "transformer": transformer, "ranker": ranker}
        if processes.is_first():
            DALLE(**parts, sampling=sampling, name=self.run.name).save_settings(self.run.model)  # type: ignore[arg-type]

    def _sampling(self) -> Sampling:
        """Return how the model draws by default: as the one before, of a run that starts from one or is continued."""
        settings = self.run.model / "config.json"
        if not settings.exists():
            return Sampling()
        sampling: Sampling = config_from_dict(Sampling, read_json(settings).get("sampling", {}))
        return sampling

    def _show_training_pictures(self) -> None:
        if not self.run.training_pictures.exists():
            config, pairs = self.config, self.pairs
            size = config.image.model.drawn_size
            sections = training_sections(pairs.source, pairs.train, size, config.data, seed=config.seed)
            write_picture(self.run.training_pictures, titled(sections))

    def _image_tokenizer(self, stages: Stages) -> DiscreteVAE:
        """Return the image tokenizer: trained, or a copy of the one that the run was given."""
        part, config = self.run.part("image"), self.config.image
        if self.run.is_trained("image", config.steps):
            return load_image_tokenizer(part, image_size=config.model.image_size).to(self.device)
        if config.pretrained is not None:
            vae = stages.given_tokenizer()
            if processes.is_first():
                vae.save_pretrained(part)
            return vae
        if processes.is_first():
            # Until the transformer knows the codes of a tokenizer that is trained further, there is no whole model.
            self.run.withdraw_model()
        return self._fit(stages.image()).model

    def _decoder(self, stages: Stages, vae: DiscreteVAE) -> DiscreteVAE:
        """Return the image tokenizer with the decoder of the plan. Its codes stay, so that the model is whole."""
        if self.run.is_trained("decoder", self.config.decoder.steps):
            return vae
        return self._fit(stages.decoder(vae)).tokenizer

    def _transformer(self, stages: Stages, vae: DiscreteVAE) -> Transformer:
        if self.run.is_trained("transformer", self.config.transformer.steps):
            return Transformer.from_pretrained(self.run.part("transformer"))
        stage = stages.transformer(vae, *self._tokens(vae))
        if processes.is_first():
            self.run.write_captions(stage.shown)
        return self._fit(stage).model

    def _ranker(self, stages: Stages) -> CLIP:
        if self.run.is_trained("ranker", self.config.ranker.steps):
            return CLIP.from_pretrained(self.run.part("ranker"))
        return self._fit(stages.ranker()).model

    def _fit(self, stage: TrainedStage) -> TrainedStage:
        """Train a stage to its last step, and put its model into the model directory."""
        budget = read_budgets(self.run).get(stage.name)
        steps = stage.config.steps if budget is None else budget.steps
        assert steps is not None, "a plan fixes the steps of every stage"
        if stage.name != "decoder" and self.run.read_trained().get(stage.name) == 0:
            take_weights(stage.model, self.run.part(stage.name))
        steps = fit(
            stage,
            steps,
            self.run,
            self.log,
            save_every_s=self.config.save_every_s,
            budget=budget,
            replanned=lambda steps, why: self._replan(stage.name, steps, why),
        )
        self._write_steps(stage.name, steps)  # a kill may have come between the checkpoint and the plan
        if processes.is_first():
            write_report(self.run)
            part = stage.tokenizer if isinstance(stage, DecoderTraining) else stage.model
            assert isinstance(part, Savable)
            part.save_pretrained(self.run.part(stage.name))
            self.run.mark_trained(stage.name, steps)
        processes.wait()
        return stage

    def _replan(self, stage: str, steps: int, why: str) -> None:
        """Write and say the number of steps that a stage now makes."""
        if not processes.is_first():
            return
        change = Plan()
        change.say(f"{stage}.steps", f"{steps:,}", why)
        self.run.write_choices([*self.run.read_choices(), *change.choices])
        self._write_steps(stage, steps)
        for line in change.lines():
            self.say(line)

    def _write_steps(self, stage: str, steps: int) -> None:
        settings: StageConfig = getattr(self.config, stage)
        if settings.steps != steps:
            self.config = replace(self.config, **{stage: replace(settings, steps=steps)})  # type: ignore[arg-type]
            if processes.is_first():
                write_config(self.run.config, self.config)

    def _tokens(self, vae: DiscreteVAE) -> tuple[Tensor, Tensor]:
        """Return the cached tokens of the training pairs, and those of the validation pairs."""
        pairs, data, variants = self.pairs, self.config.data, self.config.transformer.token_variants
        assert variants is not None, "a plan fixes how many crops are cached"
        seed = derive_seed(self.config.seed, "tokens")
        train_tokens = cache_tokens(vae, pairs, data, self.run.tokens, variants=variants, seed=seed, device=self.device)
        if processes.is_first():
            self._show_codes(vae, train_tokens)
        return train_tokens, encode_middle(vae, pairs, pairs.validation, data, self.device)

    def _show_codes(self, vae: DiscreteVAE, train_tokens: Tensor) -> None:
        self.run.write_code_counts(count_codes(train_tokens, image_vocab_size=vae.image_vocab_size).tolist())
        if not self.run.code_portraits.exists():
            portraits = code_portraits(vae, train_tokens.flatten(0, 1), device=self.device)
            write_picture(self.run.code_portraits, portraits)
            write_report(self.run)
