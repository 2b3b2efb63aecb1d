"""A whole run: byte-pair encoding, image tokenizer, cached tokens, transformer, CLIP; and the model that they make."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from trencadis.config import RunConfig
from trencadis.config.plain import Settings, differing, overlay
from trencadis.devices import usable_device
from trencadis.errors import ConfigError, StorageError, UserError
from trencadis.image import DiscreteVAE, count_codes
from trencadis.image.code_portraits import code_portraits
from trencadis.pipeline import DALLE
from trencadis.pretrained import Pretrained
from trencadis.randomness import derive_seed
from trencadis.ranking import CLIPRanker
from trencadis.report.page import write_report
from trencadis.run_log import RunLog
from trencadis.storage import sweep, write_picture, write_whole
from trencadis.training.build_stages import Stages, check_models
from trencadis.training.config_files import read_config, write_config
from trencadis.training.loop import fit
from trencadis.training.optimizer_state import RunLock
from trencadis.training.plan import Plan, choose_sizes, draft, fit_steps
from trencadis.training.run_pairs import RunPairs, read_pairs
from trencadis.training.text import fit_text
from trencadis.training.timing import time_stages
from trencadis.training.token_cache import cache_tokens, encode_middle

TrainedStage = TypeVar("TrainedStage", bound=Any)  # a Stage; its model's type goes through
REPORT_S = 5.0


def train(
    run_directory: Path,
    overrides: Settings,
    *,
    recipe: str | None = None,
    hours: float | None = None,
    say: Callable[[Plan], None] | None = None,
) -> RunConfig:
    """Train every part of a model, from where the run's directory left it.

    Args:
        run_directory: Made where it is absent; a run that it holds already is gone on with, as it was planned.
        overrides: Settings that are not to be chosen, nested as `RunConfig` is; `data.path` among them.
        recipe: Name of the recipe; None chooses one by the time.
        hours: Time budget; None is 1, or what the run was planned for.
        say: Called with what was chosen, where this call plans the run.

    Returns:
        The config that was followed.

    Raises:
        UserError: The settings, the data or the directory cannot be used. Where nothing had begun, nothing is left.
        RunError: Training failed.
    """
    began_s, is_new = time.monotonic(), not run_directory.exists()
    try:
        with RunLock(run_directory):
            for path in [run_directory, *run_directory.rglob("*")]:
                if path.is_dir():
                    sweep(path)
            config, pairs = _begin(run_directory, overrides, recipe, hours, began_s, say)
            torch.set_num_threads(config.threads)
            with RunLog(run_directory) as log, _deterministic(strict=config.device == "cpu"):
                _Run(run_directory, config, pairs, log).all_stages()
    except UserError:
        if is_new and not (run_directory / "config.yaml").exists():
            shutil.rmtree(run_directory, ignore_errors=True)
        raise
    return config


@contextmanager
def _deterministic(*, strict: bool) -> Iterator[None]:
    """Have torch use what repeats bit for bit; where it must and cannot, it raises."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _begin(
    run_directory: Path,
    overrides: Settings,
    recipe: str | None,
    hours: float | None,
    began_s: float,
    say: Callable[[Plan], None] | None,
) -> tuple[RunConfig, RunPairs]:
    """Return the plan of a run that has one, or make it."""
    config_path = run_directory / "config.yaml"
    if config_path.exists():
        config = read_config(config_path)
        named = {"recipe": recipe, "hours": hours}
        _check_same(config, overrides | {name: value for name, value in named.items() if value is not None})
        usable_device(config.device)
        return config, read_pairs(config.data, config.seed, run_directory, resumed=True)
    own = {"pairs.json", "plan.json", "data.json"}
    strangers = {path.name for path in run_directory.iterdir() if not path.name.startswith(".")} - own
    if strangers:
        found = f"{run_directory} holds {sorted(strangers)[0]}"
        raise StorageError(found, expected="an empty folder or a run", remedy="choose another --out")
    given = draft(overrides, recipe)
    pairs = read_pairs(given.data, given.seed, run_directory, resumed=False)
    write_whole(run_directory / "data.json", json.dumps(_data_summary(pairs), indent=2) + "\n")
    plan = Plan()
    hours = 1.0 if hours is None else hours
    config = choose_sizes(overrides, recipe, hours, pairs, plan)
    check_models(config)
    config = _fit_steps(config, pairs, began_s, plan)
    plan.save(run_directory)
    write_config(config_path, config)
    if say is not None:
        say(plan)
    return config, pairs


def _check_same(config: RunConfig, asked: Settings) -> None:
    """Refuse options that differ from the plan that a run follows."""
    changed = differing(config, overlay(config, asked))
    if changed:
        raise ConfigError(
            f"another {changed[0]} than the run was planned with",
            expected="the plan in the run's config.yaml",
            remedy="drop the option to go on with the run, or choose another --out",
        )


def _data_summary(pairs: RunPairs) -> dict[str, Any]:
    return {
        "train": len(pairs.train),
        "validation": len(pairs.validation),
        "kept": pairs.kept,
        "dropped": pairs.dropped,
    }


def _fit_steps(config: RunConfig, pairs: RunPairs, began_s: float, plan: Plan) -> RunConfig:
    """Time each stage whose steps are open, and fit them into what is left of the budget."""
    timed = time_stages(config, pairs)
    spent_s = time.monotonic() - began_s
    return fit_steps(config, timed, config.hours * 3600 - spent_s - REPORT_S, pairs, plan)


class _Run:
    """The stages of a run, one after the other.

    Args:
        directory: Of the run.
        config: Its plan.
        pairs: Its data.
        log: Where metrics go.
    """

    def __init__(self, directory: Path, config: RunConfig, pairs: RunPairs, log: RunLog) -> None:
        self.directory, self.config, self.pairs, self.log = directory, config, pairs, log
        self.model_directory = directory / "model"
        self.device = torch.device(config.device)

    def all_stages(self) -> None:
        """Train what is not trained yet, and write the model directory and the report."""
        tokenizer = fit_text(self.pairs, self.config.text, self.model_directory)
        stages = Stages(self.config, self.pairs, tokenizer, self.device)
        vae = self._image_tokenizer(stages)
        self._save_part("image", vae)
        train_tokens, validation_tokens = self._tokens(vae)
        drawing = stages.transformer(vae, train_tokens, validation_tokens)
        write_whole(self.directory / "samples" / "captions.json", json.dumps(drawing.shown, ensure_ascii=False) + "\n")
        transformer = self._fit(drawing).model
        self._save_part("transformer", transformer)
        clip = self._fit(stages.ranker()).model
        self._save_part("ranker", clip)
        DALLE(
            text_tokenizer=tokenizer,
            image_tokenizer=vae,
            transformer=transformer,
            ranker=CLIPRanker(clip, tokenizer),
            name=self.directory.resolve().name,
        ).save_settings(self.model_directory)
        write_report(self.directory)

    def _image_tokenizer(self, stages: Stages) -> DiscreteVAE:
        """Return the image tokenizer: trained now, or the one that the run was given, which it keeps a copy of."""
        if self.config.image.pretrained is not None:
            return stages.given_tokenizer(kept=self.model_directory / "image")
        return self._fit(stages.image()).model

    def _fit(self, stage: TrainedStage) -> TrainedStage:
        steps = stage.config.steps
        assert steps is not None, "a plan fixes the steps of every stage"
        fit(stage, steps, self.directory, self.log, save_every_s=self.config.save_every_s)
        write_report(self.directory)
        return stage

    def _save_part(self, name: str, part: Pretrained) -> None:
        """Write a part of the model, unless it is there: it is written whole, after its stage has ended."""
        if not (self.model_directory / name).exists():
            part.save_pretrained(self.model_directory / name)

    def _tokens(self, vae: DiscreteVAE) -> tuple[Tensor, Tensor]:
        """Return the cached tokens of the training pairs, and those of the validation pairs."""
        data, pairs, variants = self.config.data, self.pairs, self.config.transformer.token_variants
        assert variants is not None, "a plan fixes how many crops are cached"
        train_tokens = cache_tokens(
            vae,
            pairs,
            data,
            self.directory / "tokens",
            variants=variants,
            seed=derive_seed(self.config.seed, "tokens"),
            device=self.device,
        )
        counts = count_codes(train_tokens, image_vocab_size=vae.image_vocab_size)
        write_whole(self.directory / "samples" / "codes.json", json.dumps(counts.tolist()) + "\n")
        self._portraits(vae, train_tokens)
        return train_tokens, encode_middle(vae, pairs, pairs.validation, data, self.device)

    def _portraits(self, vae: DiscreteVAE, train_tokens: Tensor) -> None:
        """Show what the most used codes draw, in the report too while the transformer is trained."""
        path = self.directory / "samples" / "codes.png"
        if not path.exists():
            write_picture(path, code_portraits(vae, train_tokens.flatten(0, 1), device=self.device))
            write_report(self.directory)
