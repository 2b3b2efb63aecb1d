"""A whole run: byte-pair encoding, image tokenizer, cached tokens, transformer, CLIP; and the model that they make."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from trencadis.config import RunConfig
from trencadis.config.plain import Settings, differing, overlay
from trencadis.data.contact_sheet import titled
from trencadis.data.training_sheet import training_sections
from trencadis.devices import usable_device
from trencadis.errors import ConfigError, StorageError, UserError
from trencadis.image import DiscreteVAE, count_codes, load_image_tokenizer
from trencadis.image.code_portraits import code_portraits
from trencadis.pipeline import DALLE
from trencadis.randomness import derive_seed
from trencadis.ranking import CLIP, CLIPRanker
from trencadis.report.page import write_report
from trencadis.run_directory import RunDirectory
from trencadis.run_log import RunLog
from trencadis.storage import write_picture
from trencadis.training.build_stages import Stages, check_models
from trencadis.training.config_files import read_config, write_config
from trencadis.training.loop import fit
from trencadis.training.plan import Plan, choose_sizes, draft, fit_steps
from trencadis.training.run_pairs import RunPairs, read_pairs
from trencadis.training.stage import Stage
from trencadis.training.text import fit_text
from trencadis.training.timing import time_stages
from trencadis.training.token_cache import cache_tokens, encode_middle
from trencadis.transformer import Transformer

TrainedStage = TypeVar("TrainedStage", bound=Stage[Any])
REPORT_S = 5.0


def train(
    run_directory: Path,
    overrides: Settings,
    *,
    recipe: str | None = None,
    hours: float | None = None,
    say: Callable[[Plan], None] | None = None,
) -> RunConfig:
    """Train every part of a model; a run that was stopped is resumed, and a finished one is left as it is.

    Torch's number of threads, its random state and its choice of deterministic algorithms are put back at the end.

    Args:
        run_directory: Made where it is absent; a run in it is resumed as it was planned.
        overrides: Settings that are not to be chosen, nested as `RunConfig` is; `data.path` among them.
        recipe: Name of the recipe; None chooses one by the time.
        hours: Time budget; None is 1, or what the run was planned for.
        say: Called with what was chosen, where this call plans the run.

    Raises:
        UserError: The settings, the data or the directory cannot be used. Where nothing had begun, nothing is left.
        RunError: Training failed.
    """
    began_s, run = time.monotonic(), RunDirectory(run_directory)
    with _torch_state_restored(), run.lock() as is_new:
        try:
            config, pairs = _begin(run, overrides, recipe, hours, began_s, say)
        except UserError:
            if is_new and not run.has_begun:
                run.clear()
            raise
        if not run.is_finished:
            torch.set_num_threads(config.threads)
            if config.device == "cpu":
                torch.use_deterministic_algorithms(True)
            with RunLog(run) as log:
                _Run(run, config, pairs, log).all_stages()
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


def _begin(
    run: RunDirectory,
    overrides: Settings,
    recipe: str | None,
    hours: float | None,
    began_s: float,
    say: Callable[[Plan], None] | None,
) -> tuple[RunConfig, RunPairs]:
    """Return the plan of a run that has one, or make it."""
    if run.has_begun:
        config = read_config(run.config)
        named = {"recipe": recipe, "hours": hours}
        _check_same(config, overrides | {name: value for name, value in named.items() if value is not None})
        if not run.is_finished:
            usable_device(config.device)
        return config, read_pairs(config.data, config.seed, run, resumed=True)
    if strangers := run.strangers():
        found = f"{run.path} holds {strangers[0]}"
        raise StorageError(found, expected="an empty folder or a run", remedy="choose another --out")
    given = draft(overrides, recipe)
    pairs = read_pairs(given.data, given.seed, run, resumed=False)
    run.write_data(pairs.summary())
    plan = Plan()
    hours = 1.0 if hours is None else hours
    config = choose_sizes(overrides, recipe, hours, pairs, plan)
    check_models(config)
    timed = time_stages(config, pairs)
    spent_s = time.monotonic() - began_s
    config = fit_steps(config, timed, config.hours * 3600 - spent_s - REPORT_S, pairs, plan)
    plan.save(run)
    write_config(run.config, config)
    if say is not None:
        say(plan)
    return config, pairs


def _check_same(config: RunConfig, asked: Settings) -> None:
    if changed := differing(config, overlay(config, asked)):
        raise ConfigError(
            f"another {changed[0]} than the run was planned with",
            expected="the plan in the run's config.yaml",
            remedy="drop the option to resume the run, or choose another --out",
        )


@dataclass(frozen=True)
class _Run:
    """The stages of a run, one after the other. A stage whose part is in the model directory is not entered."""

    run: RunDirectory
    config: RunConfig
    pairs: RunPairs
    log: RunLog

    @property
    def device(self) -> torch.device:
        return torch.device(self.config.device)

    def all_stages(self) -> None:
        """Train what is not trained yet, and complete the model directory."""
        self._show_training_pictures()
        tokenizer = fit_text(self.pairs, self.config.text, self.run.part("text"))
        stages = Stages(self.config, self.pairs, tokenizer, self.device)
        vae = self._image_tokenizer(stages)
        transformer = self._transformer(stages, vae)
        ranker = CLIPRanker(self._ranker(stages), tokenizer)
        model = DALLE(
            text_tokenizer=tokenizer, image_tokenizer=vae, transformer=transformer, ranker=ranker, name=self.run.name
        )
        model.save_settings(self.run.model)

    def _show_training_pictures(self) -> None:
        if not self.run.training_pictures.exists():
            config, pairs = self.config, self.pairs
            size = config.image.model.image_size
            sections = training_sections(pairs.source, pairs.train, size, config.data, seed=config.seed)
            write_picture(self.run.training_pictures, titled(sections))

    def _image_tokenizer(self, stages: Stages) -> DiscreteVAE:
        """Return the image tokenizer: trained, or a copy of the one that the run was given."""
        part, config = self.run.part("image"), self.config.image
        if part.exists():
            return load_image_tokenizer(part, image_size=config.model.image_size).to(self.device)
        vae = self._fit(stages.image()).model if config.pretrained is None else stages.given_tokenizer()
        vae.save_pretrained(part)
        return vae

    def _transformer(self, stages: Stages, vae: DiscreteVAE) -> Transformer:
        part = self.run.part("transformer")
        if part.exists():
            return Transformer.from_pretrained(part)
        stage = stages.transformer(vae, *self._tokens(vae))
        self.run.write_captions(stage.shown)
        transformer = self._fit(stage).model
        transformer.save_pretrained(part)
        return transformer

    def _ranker(self, stages: Stages) -> CLIP:
        part = self.run.part("ranker")
        if part.exists():
            return CLIP.from_pretrained(part)
        clip = self._fit(stages.ranker()).model
        clip.save_pretrained(part)
        return clip

    def _fit(self, stage: TrainedStage) -> TrainedStage:
        steps = stage.config.steps
        assert steps is not None, "a plan fixes the steps of every stage"
        fit(stage, steps, self.run, self.log, save_every_s=self.config.save_every_s)
        write_report(self.run)
        return stage

    def _tokens(self, vae: DiscreteVAE) -> tuple[Tensor, Tensor]:
        """Return the cached tokens of the training pairs, and those of the validation pairs."""
        pairs, data, variants = self.pairs, self.config.data, self.config.transformer.token_variants
        assert variants is not None, "a plan fixes how many crops are cached"
        seed = derive_seed(self.config.seed, "tokens")
        train_tokens = cache_tokens(vae, pairs, data, self.run.tokens, variants=variants, seed=seed, device=self.device)
        self.run.write_code_counts(count_codes(train_tokens, image_vocab_size=vae.image_vocab_size).tolist())
        if not self.run.code_portraits.exists():
            portraits = code_portraits(vae, train_tokens.flatten(0, 1), device=self.device)
            write_picture(self.run.code_portraits, portraits)
            write_report(self.run)
        return train_tokens, encode_middle(vae, pairs, pairs.validation, data, self.device)
