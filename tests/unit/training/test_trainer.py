"""Updates: those that are skipped, codes that begin anew, and averages that stand in for the weights."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trencadis.config import DataConfig, OptimizerConfig, StageConfig
from trencadis.config.plain import overlay
from trencadis.errors import DivergenceError, FullMemoryError
from trencadis.recipes import RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.training import schedules
from trencadis.training.image import ImageBatch, ImageTraining
from trencadis.training.known_pairs import read_pairs
from trencadis.training.run_pairs import RunPairs
from trencadis.training.stage import Stage, StageLoss, Term, Totals
from trencadis.training.trainer import Trainer


class Diverging(Stage[Any]):
    """Its loss is not a number, but for a batch of 1."""

    name = "diverging"
    config = StageConfig(optimizer=OptimizerConfig(warmup_steps=0))

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(2, 1)

    def batches(self, from_step: int, to_step: int) -> Generator[list[Tensor], None, None]:
        yield from ()

    def totals(self, batch: Tensor, step: int, steps: int, *, is_whole: bool) -> dict[str, Tensor]:
        return {"rows": torch.tensor(len(batch))}

    def loss(self, batch: Tensor, totals: Totals, step: int, steps: int) -> StageLoss:
        loss = self.model(batch).sum() * (1.0 if len(batch) == 1 else float("nan"))
        return StageLoss({"sum": Term(loss, "rows")})

    def validate(self) -> dict[str, float]:
        return {}

    def sample(self) -> None:
        return None


GOOD, BAD = [torch.ones(1, 2)], [torch.ones(2, 2)]


def test_skipped_updates_are_counted_over_a_restart(tmp_path: Path) -> None:
    killed = Trainer(Diverging(), 100)
    for _ in range(19):
        killed.update(BAD)
    killed.save(tmp_path)
    resumed = Trainer(Diverging(), 100)
    resumed.resume(tmp_path)
    with pytest.raises(DivergenceError, match="in the 20 updates up to step 20"):
        resumed.update(BAD)
    healed = Trainer(Diverging(), 100)
    healed.resume(tmp_path)
    assert float(healed.update(GOOD)["skipped"]) == 0
    assert float(healed.update(BAD)["skipped"]) == 1


class Full(Diverging):
    def loss(self, batch: Tensor, totals: Totals, step: int, steps: int) -> StageLoss:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes.")


def test_an_update_without_room_says_what_to_change() -> None:
    said = (
        r"no room for 4,000 MB more while training diverging on 64 samples in 1 parts; "
        r"raise diverging\.microbatches, or lower diverging\.batch_size"
    )
    with pytest.raises(FullMemoryError, match=said):
        Trainer(Full(), 100).update(GOOD)


class Warming(Diverging):
    config = StageConfig()


def rates(trainer: Trainer, count: int) -> list[float]:
    return [float(trainer.update(GOOD)["learning_rate"]) for _ in range(count)]


def test_a_longer_training_goes_on_with_the_same_rates_over_a_restart(tmp_path: Path) -> None:
    first = Trainer(Warming(), 20)
    shorter = rates(first, 20)
    first.save(tmp_path)
    unbroken = Trainer(Warming(), 220)
    unbroken.resume(tmp_path)
    longer = rates(unbroken, 200)
    planned = rates(Trainer(Warming(), 220), 220)
    assert shorter[-1] < longer[0] < longer[1]
    assert longer[4:] == planned[24:], "after the 4 updates of the rise, 2 % of what is added"
    broken: list[float] = []
    for count in (2, 3, 100):
        resumed = Trainer(Warming(), 220)
        resumed.resume(tmp_path)
        broken += rates(resumed, count)
        resumed.save(tmp_path)
    assert broken == longer[:105]
    again = Trainer(Warming(), 400)
    again.resume(tmp_path)
    assert longer[104] < rates(again, 1)[0]


class Flat(Diverging):
    config = StageConfig(optimizer=OptimizerConfig(warmup_steps=0, decay="plateaus"))

    def loss(self, batch: Tensor, totals: Totals, step: int, steps: int) -> StageLoss:
        loss = super().loss(batch, totals, step, steps)
        return StageLoss({"sum": Term(0.0 * loss.terms["sum"].sum + 3.0, "rows")})


def test_halvings_at_plateaus_go_on_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "PLATEAU_WINDOW", 3)
    unbroken = rates(Trainer(Flat(), 100), 60)
    assert unbroken[0] == OptimizerConfig.learning_rate
    assert len(set(unbroken)) == 4, "a window for the best, then six flat ones for each of three halvings"
    broken: list[float] = []
    trainer = Trainer(Flat(), 100)
    for count in (10, 11, 23, 16):
        broken += rates(trainer, count)
        trainer.save(tmp_path)
        trainer = Trainer(Flat(), 100)
        trainer.resume(tmp_path)
    assert broken == unbroken


@pytest.fixture
def pairs(shapes: Path, tmp_path: Path) -> RunPairs:
    return read_pairs(DataConfig(path=str(shapes)), 0, RunDirectory(tmp_path))


def image_trainer(recipe: str, pairs: RunPairs) -> Trainer:
    config = overlay(RECIPES[recipe](), {"image": {"revive_below": 0.5, "batch_size": 32}}).image
    stage = ImageTraining(config, pairs, DataConfig(), seed=0, device=torch.device("cpu"))
    return Trainer(stage, 100)


@pytest.mark.parametrize("recipe", ["tiny", "tiny-ibq", "tiny-vqvae"])
def test_codes_that_begin_anew_have_no_past(recipe: str, pairs: RunPairs) -> None:
    trainer = image_trainer(recipe, pairs)
    model, replaced = trainer.stage.model, dict[str, Tensor]()
    learn = trainer.stage.after_update

    def watched(*arguments: object) -> object:
        effects = learn(*arguments)  # type: ignore[arg-type]
        replaced.update(effects.replaced_rows)
        return effects

    trainer.stage.after_update = watched  # type: ignore[method-assign, assignment]
    images = torch.rand(1, 3, 1, 1).expand(32, 3, 16, 16).contiguous()  # of one colour: few codes are used
    for step in range(40):
        replaced.clear()
        trainer.update([ImageBatch(images, tuple(range(32 * step, 32 * step + 32)))])
        if step > 3 and replaced:
            break
    assert replaced
    assert all(len(rows) for rows in replaced.values())
    kept = 0
    for name, rows in replaced.items():
        parameter = model.get_parameter(name)
        others = torch.ones(len(parameter), dtype=torch.bool)
        others[rows] = False
        average = trainer.ema.state_dict()[name]
        assert torch.equal(average[rows], parameter[rows])
        assert not others.any() or not torch.equal(average[others], parameter[others])
        for optimizer in trainer.optimizers:
            moments = [m for m in optimizer.state.get(parameter, {}).values() if m.shape == parameter.shape]
            assert all(not moment[rows].any() for moment in moments)
            kept += sum(bool(moment[others].any()) for moment in moments)
    assert bool(kept) == (recipe != "tiny-vqvae")  # whose codes no optimizer trains


def test_averages_stand_in_without_a_copy() -> None:
    trainer = Trainer(Diverging(), 10)
    trainer.update(GOOD)
    (weight, *_), average = trainer.stage.model.parameters(), trainer.ema.state_dict()["weight"]
    own = weight.data_ptr()
    with trainer.ema.apply_to(trainer.stage.model):
        assert weight.data_ptr() == average.data_ptr()
    assert weight.data_ptr() == own
