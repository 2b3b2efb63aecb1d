"""What a stage keeps and how many updates it makes, on a clock and with validations that the tests make up."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trencadis.config import OptimizerConfig, StageConfig
from trencadis.run_directory import RunDirectory
from trencadis.run_log import RunLog, read_log
from trencadis.training import loop
from trencadis.training.best import is_overfitting
from trencadis.training.checkpoints import CheckpointWarning
from trencadis.training.loop import fit
from trencadis.training.pace import Budget, read_budgets, write_budgets
from trencadis.training.stage import Criterion, Stage, StageLoss, Term, Totals

STEPS = 40


class KilledError(Exception):
    pass


class Scripted(Stage[Any]):
    """Each update moves its one weight; its validations are told, by the step that the optimizer has come to."""

    name = "scripted"
    config = StageConfig(ema_decay=0.5, optimizer=OptimizerConfig(learning_rate=0.01, weight_decay=0.0))

    def __init__(self, values: Callable[[int], float] = lambda step: -float(step), dies_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(1, 1, bias=False)
        self.values, self.dies_at, self.made = values, dies_at, 0
        self.clock_s, self.update_s = 0.0, 1.0

    @property
    def criterion(self) -> Criterion | None:
        return Criterion("held_out")

    def batches(self, from_step: int, to_step: int) -> Generator[list[Tensor], None, None]:
        for step in range(from_step, to_step):
            if step == self.dies_at:
                raise KilledError
            self.made = step + 1
            self.clock_s += self.update_s
            yield [torch.ones(1, 1)]

    def totals(self, batch: Tensor, step: int, steps: int, *, is_whole: bool) -> dict[str, Tensor]:
        return {"rows": torch.tensor(len(batch))}

    def loss(self, batch: Tensor, totals: Totals, step: int, steps: int) -> StageLoss:
        return StageLoss({"sum": Term(self.model(batch).sum(), "rows")})

    def validate(self) -> dict[str, float]:
        return {"held_out": self.values(self.made)}

    def sample(self) -> None:
        return None


@pytest.fixture(autouse=True)
def _ten_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "VALIDATIONS", 10)
    monkeypatch.setattr(loop, "LOG_LINES", STEPS)
    monkeypatch.setattr(loop, "SAVING_SHARE", 1e9)  # after every update


def weight(stage: Scripted) -> float:
    return float(next(stage.model.parameters()).detach())


def fitted(
    stage: Scripted, path: Path, monkeypatch: pytest.MonkeyPatch, steps: int = STEPS, budget: Budget | None = None
) -> tuple[int, list[tuple[int, str]]]:
    said: list[tuple[int, str]] = []
    with monkeypatch.context() as patch:
        patch.setattr("trencadis.run_log.monotonic", lambda: stage.clock_s)
        path.mkdir(exist_ok=True)
        run = RunDirectory(path)
        with RunLog(run) as log:
            made = fit(
                stage,
                steps,
                run,
                log,
                save_every_s=0.0,
                budget=budget,
                replanned=lambda steps, why: said.append((steps, why)),
            )
    return made, said


def log_of(path: Path, metric: str) -> dict[int, float]:
    return {line["step"]: line[metric] for line in read_log(RunDirectory(path)) if metric in line}


def falling_then_rising(step: int) -> float:
    return abs(step - 16.0)


def test_the_weights_that_did_best_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Scripted(falling_then_rising)
    assert fitted(stage, tmp_path / "run", monkeypatch) == (STEPS, [])
    assert log_of(tmp_path / "run", "best_step")[STEPS] == 16
    only_16 = Scripted(lambda step: 0.0 if step == 16 else float("nan"))
    fitted(only_16, tmp_path / "other", monkeypatch)
    last = Scripted()
    fitted(last, tmp_path / "last", monkeypatch)
    assert weight(stage) == weight(only_16) != weight(last)
    assert [path.name for path in RunDirectory(tmp_path / "run").best("scripted").glob("step-*")] == ["step-00000016"]


@pytest.mark.parametrize("dies_at", [5, 17, 30, 39])
def test_a_kill_makes_no_difference_to_what_is_kept(
    dies_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Scripted(falling_then_rising)
    fitted(whole, tmp_path / "whole", monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(loop.SavingTimes, "is_due", lambda self: False)  # so that only what is kept was written
        if dies_at > 20:
            patch.setattr(loop.SavingTimes, "is_due", lambda self: True)
        with pytest.raises(KilledError):
            fitted(Scripted(falling_then_rising, dies_at), tmp_path / "killed", monkeypatch)
    resumed = Scripted(falling_then_rising)
    fitted(resumed, tmp_path / "killed", monkeypatch)
    assert weight(resumed) == weight(whole)
    for metric in ("best_step", "held_out", "learning_rate"):
        assert log_of(tmp_path / "killed", metric) == log_of(tmp_path / "whole", metric)


def test_a_stage_without_a_criterion_keeps_its_last_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(Scripted):
        @property
        def criterion(self) -> None:
            return None

    stage, last = Plain(falling_then_rising), Scripted()
    fitted(stage, tmp_path / "run", monkeypatch)
    fitted(last, tmp_path / "last", monkeypatch)
    assert weight(stage) == weight(last)
    assert not RunDirectory(tmp_path / "run").best("scripted").exists()


def test_a_longer_training_measures_what_was_kept_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out pairs may be others by then."""
    before = Scripted(falling_then_rising)
    fitted(before, tmp_path / "run", monkeypatch)
    kept = weight(before)
    still_best = Scripted(lambda step: 50.0 + step)  # what was kept has 50: no update was made before
    fitted(still_best, tmp_path / "run", monkeypatch, steps=60)
    assert weight(still_best) == kept
    outdone = Scripted(lambda step: 100.0 - step)
    fitted(outdone, tmp_path / "run", monkeypatch, steps=80)
    assert log_of(tmp_path / "run", "best_step")[80] == 80
    assert weight(outdone) != kept


def test_damaged_weights_are_said_and_the_last_ones_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, last = Scripted(falling_then_rising), Scripted()
    fitted(last, tmp_path / "last", monkeypatch)
    validate = stage.validate

    def damaging() -> dict[str, float]:
        if stage.made == STEPS:
            (file,) = RunDirectory(tmp_path / "run").best("scripted").glob("step-*/model.safetensors")
            file.write_bytes(b"nothing")
        return validate()

    monkeypatch.setattr(stage, "validate", damaging)
    with pytest.warns(CheckpointWarning, match="the last weights are used"):
        fitted(stage, tmp_path / "run", monkeypatch)
    assert weight(stage) == weight(last)


def test_a_stage_that_overfits_ends_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(STEPS, ends_s=float(STEPS), look_s=0.0)
    stage = Scripted(falling_then_rising)
    made, said = fitted(stage, tmp_path / "run", monkeypatch, budget=budget)
    assert made == 28
    assert said == [(28, "instead of 40: held-out pairs became worse 3 times in a row")]
    again = Scripted(falling_then_rising, dies_at=0)
    assert fitted(again, tmp_path / "run", monkeypatch, budget=budget) == (28, [])
    assert weight(again) == weight(stage)


def test_overfitting_is_three_falls_in_a_row() -> None:
    lower, higher = Criterion("loss"), Criterion("psnr", is_higher_better=True)
    assert is_overfitting([4.0, 1.0, 1.1, 1.2, 1.3], lower)
    assert not is_overfitting([4.0, 1.0, 1.1, 1.05, 1.3], lower)
    assert not is_overfitting([1.0, 1.1, 1.2], lower)
    assert is_overfitting([9.0, 8.0, 7.0, 6.0], higher)
    assert not is_overfitting([9.0, 8.0, 7.0, 6.0], lower)


@pytest.mark.parametrize(("update_s", "least", "most"), [(2.0, 20, 25), (0.5, 70, 80), (1.05, STEPS, STEPS)])
def test_the_steps_left_follow_the_machine(
    update_s: float, least: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, budget = Scripted(), Budget(STEPS, ends_s=float(STEPS), look_s=0.0)
    stage.update_s = update_s
    made, said = fitted(stage, tmp_path / "run", monkeypatch, budget=budget)
    assert least <= made <= most
    assert made * update_s == pytest.approx(budget.ends_s, rel=0.13)
    assert bool(said) == (made != STEPS)
    assert all(f"a step takes {1000 * update_s:.0f} ms now" in why for _, why in said)
    rates = list(log_of(tmp_path / "run", "learning_rate").values())
    assert rates[-1] == pytest.approx(0.01 / 32), "the schedule ends where it should"
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_uneven_updates_and_the_start_of_batches_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Uneven(Scripted):
        """One update of eight takes longer, and so does the first one of `batches`; 1.075 s on average."""

        def batches(self, from_step: int, to_step: int) -> Generator[list[Tensor], None, None]:
            self.clock_s += 4.0
            for step, batch in enumerate(super().batches(from_step, to_step), from_step):
                self.clock_s += 2.0 if step % 8 == 4 else -0.2
                yield batch

    stage = Uneven()
    made, said = fitted(stage, tmp_path / "run", monkeypatch, steps=240, budget=Budget(240, ends_s=262.0, look_s=0.0))
    assert (made, said) == (240, [])
    half = Uneven()
    made, said = fitted(half, tmp_path / "half", monkeypatch, steps=240, budget=Budget(240, ends_s=133.0, look_s=0.0))
    assert made == pytest.approx(120, abs=20)
    assert 1 <= len(said) <= 2


def test_no_time_left_still_lets_the_learning_rate_fall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis.training.pace.LEAST_LEFT", 0.1)
    monkeypatch.setattr("trencadis.training.pace.FEWEST_STEPS", 3)
    stage = Scripted()
    made, _ = fitted(stage, tmp_path / "run", monkeypatch, budget=Budget(STEPS, ends_s=0.0, look_s=0.0))
    assert made == 8  # four of them before the first rate is known
    assert list(log_of(tmp_path / "run", "learning_rate").values())[-1] == pytest.approx(0.01 / 32)


def test_steps_that_were_asked_for_are_made_on_any_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Scripted()
    stage.update_s = 100.0
    assert fitted(stage, tmp_path / "run", monkeypatch) == (STEPS, [])


def test_a_killed_run_repeats_the_changes_that_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(STEPS, ends_s=float(STEPS), look_s=0.0)
    whole, killed = Scripted(), Scripted(dies_at=12)
    whole.update_s = killed.update_s = 2.0
    made, _ = fitted(whole, tmp_path / "whole", monkeypatch, budget=budget)
    with pytest.raises(KilledError):
        fitted(killed, tmp_path / "killed", monkeypatch, budget=budget)
    resumed = Scripted()
    resumed.update_s = 2.0
    assert fitted(resumed, tmp_path / "killed", monkeypatch, budget=budget)[0] == made
    assert weight(resumed) == weight(whole)
    assert log_of(tmp_path / "killed", "learning_rate") == log_of(tmp_path / "whole", "learning_rate")


def test_validations_are_not_taken_for_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Scripted()

    def slow(step: int) -> float:
        stage.clock_s += 4.0
        return -float(step)

    stage.values = slow
    assert fitted(stage, tmp_path / "run", monkeypatch, budget=Budget(STEPS, 80.0, look_s=40.0)) == (STEPS, [])


def test_budgets_are_read_as_they_were_written_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    run, budgets = RunDirectory(tmp_path), {"image": Budget(7, 12.5, 1.0), "ranker": Budget(9, 20.0, 0.5)}
    assert read_budgets(run) == {}
    write_budgets(run, budgets)
    assert read_budgets(run) == budgets
    run.budgets.write_text('{"image": {"steps": 7}, "ranker": {"steps": 9, "ends_s": 20.0, "look_s": 0.5}, "text": 3}')
    assert read_budgets(run) == {"ranker": budgets["ranker"]}
