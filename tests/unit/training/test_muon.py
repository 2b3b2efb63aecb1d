"""Muon against the singular value decomposition and PyTorch's own, and in the trainer."""

import dataclasses
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trencadis.config import OptimizerConfig, StageConfig
from trencadis.errors import CheckpointError, ConfigError
from trencadis.training import muon
from trencadis.training.mixed_precision import Precision
from trencadis.training.muon import JORDAN, POLAR_EXPRESS, Muon, orthogonal
from trencadis.training.optimizer_state import optimizer_tensors, restore_optimizers
from trencadis.training.optimizers import optimizers
from trencadis.training.stage import Stage, StageLoss, Term, Totals
from trencadis.training.trainer import Trainer
from trencadis.transformer.kernels import cpu

SHAPES = [(6, 6), (6, 8), (6, 30)]  # the last is wide enough for the iteration on Gram matrices


def matrix(shape: tuple[int, int], spectrum: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix with these singular values, in 64 bits, and its polar factor."""
    generator = torch.Generator().manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
    return u * spectrum.double() @ v, u @ v


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("coefficients", "smallest", "error"),
    [(POLAR_EXPRESS, 1e-2, 0.14), (POLAR_EXPRESS, 1e-3, 0.17), (JORDAN, 1e-2, 0.33)],
)
def test_the_iteration_comes_near_the_polar_factor(
    shape: tuple[int, int], coefficients: tuple[muon.Quintic, ...], smallest: float, error: float
) -> None:
    # The Frobenius norm is twice the largest singular value at most, so that the smallest one is a little smaller.
    spectrum = torch.tensor([1.0, 0.3, 0.1, 3 * smallest, 2 * smallest, 1.2 * smallest])
    given, polar = matrix(shape, 7 * spectrum)
    found = orthogonal(torch.stack([given, -3 * given]).float(), coefficients).double()
    for sign, each in zip((1, -1), found, strict=True):
        assert torch.linalg.matrix_norm(each - sign * polar, ord=2) < error
    assert torch.linalg.matrix_norm(found[0] - given / (7 * spectrum.norm()), ord=2) > 0.8


@pytest.mark.parametrize("spectrum", [[1.0] * 6, [1.0, 0, 0, 0, 0, 0], [1.0, 1e-1, 1e-2, 1e-4, 1e-6, 1e-8]])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways_of_the_iteration_agree(shape: tuple[int, int], spectrum: list[float]) -> None:
    given, _ = matrix(shape, torch.tensor(spectrum))
    # Only 32 bits take the way over Gram matrices; the iteration amplifies small singular values a thousandfold, and
    # what rounding left in their place.
    torch.testing.assert_close(orthogonal(given[None].float()).double(), orthogonal(given[None]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_products_in_bfloat16_come_near_those_in_float32(shape: tuple[int, int]) -> None:
    given, _ = matrix(shape, torch.tensor([1.0, 0.3, 0.1, 3e-2, 2e-2, 1.2e-2]))
    given = torch.stack([1e-5 * given, 300 * given]).float()  # the norms are taken before the rounding
    narrow, expected = orthogonal(given, dtype=torch.bfloat16), orthogonal(given)
    assert narrow.dtype == torch.bfloat16
    assert (
        1e-4 < torch.linalg.norm(narrow.float() - expected) / torch.linalg.norm(expected) < 0.06
    )  # of rounding small singular values


@pytest.mark.parametrize(("keep", "factor"), [(1.0, 1.0), (0.3, -2.0)])
def test_a_product_is_added_alike_by_both_libraries(
    keep: float, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, x, y = torch.randn(3, 5, 6), torch.randn(3, 5, 4), torch.randn(3, 4, 6)
    for held_back in (False, True):
        monkeypatch.setattr(cpu, "_matmul_is_held_back", lambda held_back=held_back: held_back)
        found = cpu.added_product(base, x, y, keep=keep, factor=factor)
        torch.testing.assert_close(found, keep * base + factor * x @ y, atol=1e-5, rtol=1e-5)


def test_a_matrix_of_zeros_stays_so() -> None:
    for shape in SHAPES:
        assert orthogonal(torch.zeros(2, *shape)).abs().max() == 0


def parameter(rows: int, columns: int, seed: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))


def give_gradients(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for each in parameters:
        each.grad = torch.randn(each.shape, generator=generator)


def test_an_update_is_that_of_pytorch() -> None:
    shapes = [(8, 8), (8, 24), (24, 8), (10, 8), (8, 8)]
    ours = [parameter(*shape, seed) for seed, shape in enumerate(shapes)]
    theirs = [nn.Parameter(each.detach().clone()) for each in ours]
    mine = Muon([(p, (p.shape[0],)) for p in ours], lr=0.1, momentum=0.8, weight_decay=0.3, coefficients=JORDAN)
    reference = torch.optim.Muon(theirs, lr=0.1, momentum=0.8, weight_decay=0.3)
    for step in range(4):
        before = [each.detach().clone() for each in ours]
        for one, other in zip(ours, theirs, strict=True):
            other.data.copy_(one.data)
        give_gradients(ours, step)
        give_gradients(theirs, step)
        mine.step()
        reference.step()  # type: ignore[no-untyped-call]
        for one, other, old in zip(ours, theirs, before, strict=True):
            # Theirs computes in bfloat16, which has eight bits, and amplifies what they leave out.
            assert (one - other).norm() < 0.06 * (other - old).norm()


def test_the_parts_of_a_fused_matrix_are_trained_as_if_they_were_apart() -> None:
    rows = [6, 2, 2]
    fused, plain = parameter(10, 5, 0), parameter(10, 5, 0)
    apart = [nn.Parameter(part.clone()) for part in torch.split(fused.detach(), rows)]
    layouts: list[list[muon.HiddenMatrix]] = [
        [(fused, tuple(rows))],
        [(p, (p.shape[0],)) for p in apart],
        [(plain, (10,))],
    ]
    started = [Muon(matrices, lr=0.1, momentum=0.9, weight_decay=0.1) for matrices in layouts]
    for step in range(3):
        give_gradients([fused], step)
        give_gradients([plain], step)
        assert fused.grad is not None
        for each, gradient in zip(apart, torch.split(fused.grad, rows), strict=True):
            each.grad = gradient.clone()
        for optimizer in started:
            optimizer.step()
    torch.testing.assert_close(fused.detach(), torch.cat([each.detach() for each in apart]), atol=1e-6, rtol=1e-5)
    assert (fused - plain).abs().max() > 0.01


def trained(threads: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """A few matrices after three updates."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        parameters = [parameter(*shape, seed=0) for shape in ((384, 128), (128, 128), (512, 128), (128, 512))]
        matrices: list[muon.HiddenMatrix] = [(each, (each.shape[0],)) for each in parameters]
        matrices[0] = parameters[0], (128, 128, 128)
        optimizer = Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01, dtype=dtype)
        for step in range(3):
            give_gradients(parameters, step)
            optimizer.step()
        return [each.detach() for each in parameters]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_do_not_depend_on_threads_or_chance(dtype: torch.dtype) -> None:
    expected = trained(1, dtype)
    for threads in (1, 2):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(trained(threads, dtype), expected, strict=True))


def test_updates_in_bfloat16_are_about_those_in_float32_and_leave_weights_and_momentum_in_32_bits() -> None:
    start = [parameter(*shape, seed=0).detach() for shape in ((384, 128), (128, 128), (512, 128), (128, 512))]
    for before, wide, narrow in zip(start, trained(1), trained(1, torch.bfloat16), strict=True):
        assert narrow.dtype == torch.float32
        assert 1e-5 < (narrow - wide).norm() / (wide - before).norm() < 0.02


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [(None, torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.bfloat16)],
)
def test_products_have_the_type_of_the_stage(
    precision: Precision | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = SmallStage()
    stage.config = dataclasses.replace(stage.config, precision=precision)
    trainer, types = Trainer(stage, 4), []

    def watched(matrices: Tensor, coefficients: tuple[muon.Quintic, ...], dtype: torch.dtype) -> Tensor:
        types.append((matrices.dtype, dtype))
        return orthogonal(matrices, coefficients, dtype)

    monkeypatch.setattr(muon, "orthogonal", watched)
    trainer.update(next(stage.batches(0, 1)))
    assert set(types) == {(torch.float32, dtype)}
    moments = optimizer_tensors(trainer.optimizers, stage.model)
    assert {tensor.dtype for tensor in moments.values() if tensor.is_floating_point()} == {torch.float32}


def test_a_large_model_is_not_stacked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(1)
    counts = []

    def counted(matrices: Tensor, coefficients: tuple[muon.Quintic, ...], dtype: torch.dtype) -> Tensor:
        counts.append(len(matrices))
        return orthogonal(matrices, coefficients, dtype)

    monkeypatch.setattr(muon, "orthogonal", counted)
    monkeypatch.setattr(muon, "_MOST_STACKED", 3 * 128 * 128)
    found = trained(1)
    assert counts == [3, 1, 1, 1] * 3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("shape", "rows"), [((4, 3), (2, 1)), ((4,), (4,)), ((4, 3, 2), (4,))])
def test_parts_that_do_not_add_up_are_refused(shape: tuple[int, ...], rows: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="has no parts of"):
        Muon([(nn.Parameter(torch.zeros(shape)), rows)], lr=0.1, momentum=0.9, weight_decay=0.0)


class Small(nn.Module):
    """Stands for the transformer: two layers between an embedding and a head, the first fused."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.fused = nn.Linear(4, 12)
        self.plain = nn.Linear(12, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)

    def hidden_matrices(self) -> list[muon.HiddenMatrix]:
        return [(self.fused.weight, (4, 4, 4)), (self.plain.weight, (4,))]

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embedding(ids)
        return self.head(self.norm(hidden + self.plain(self.fused(hidden).tanh())))  # type: ignore[no-any-return]


CONFIG = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, muon=True, muon_learning_rate=0.5, warmup_steps=2)


class SmallStage(Stage[Any]):
    """Learns to say which id it was given; one step of it has a gradient that is not finite."""

    name = "small"
    config = StageConfig(ema_decay=0.9, optimizer=CONFIG)
    spoilt = 3

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = Small()

    def batches(self, from_step: int, to_step: int) -> Generator[list[Tensor], None, None]:
        for step in range(from_step, to_step):
            yield [torch.randint(5, (6,), generator=torch.Generator().manual_seed(step))]

    def totals(self, batch: Tensor, step: int, steps: int, *, is_whole: bool) -> dict[str, Tensor]:
        return {"ids": torch.tensor(len(batch))}

    def loss(self, batch: Tensor, totals: Totals, step: int, steps: int) -> StageLoss:
        loss = nn.functional.cross_entropy(self.model(batch), batch, reduction="sum")
        return StageLoss({"ids": Term(loss * (math.nan if step == self.spoilt else 1.0), "ids")})

    def validate(self) -> dict[str, float]:
        return {}

    def sample(self) -> None:
        return None


def test_hidden_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    model = Small()
    names = {id(each): name for name, each in model.named_parameters()}
    adamw, hidden = optimizers(model, CONFIG)
    assert isinstance(adamw, torch.optim.AdamW)
    assert isinstance(hidden, Muon)
    held = [[names[id(p)] for group in each.param_groups for p in group["params"]] for each in (adamw, hidden)]
    assert held[1] == ["fused.weight", "plain.weight"]
    assert sorted(held[0] + held[1]) == sorted(names.values())
    assert {group["peak"] for group in adamw.param_groups} == {1e-2}
    group = hidden.param_groups[0]
    assert (group["peak"], group["momentum"], group["weight_decay"]) == (0.5, 0.95, 0.01)
    assert group["parts"] == [(4, 4, 4), (4,)]


def test_a_model_that_does_not_say_which_matrices_are_hidden_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.muon true for Linear.*hidden_matrices"):
        optimizers(nn.Linear(2, 2), CONFIG)


def test_both_learning_rates_are_on_one_schedule_and_that_of_adamw_is_logged() -> None:
    stage = SmallStage()
    trainer = Trainer(stage, 12)
    logged = []
    for microbatches in stage.batches(0, 12):
        logged.append(float(trainer.update(microbatches)["learning_rate"]))
        rates = [group["lr"] for each in trainer.optimizers for group in each.param_groups]
        assert rates[:2] == [logged[-1]] * 2
        assert rates[2] == pytest.approx(50 * logged[-1])
    assert max(logged) == pytest.approx(1e-2)
    assert logged[-1] == pytest.approx(1e-2 / 32)


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    model = trainer.stage.model
    named = {"weights": model.state_dict(), "ema": trainer.ema.state_dict()}
    named["optimizer"] = optimizer_tensors(trainer.optimizers, model)
    return {f"{group}/{name}": tensor.clone() for group, tensors in named.items() for name, tensor in tensors.items()}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("cut", [1, 4, 5])
def test_a_resumed_run_equals_a_straight_one_bit_for_bit(tmp_path: Path, cut: int) -> None:
    straight = Trainer(SmallStage(), 10)
    losses = [straight.update(batch)["loss"] for batch in straight.stage.batches(0, 10)]
    assert losses[-1] < 0.8 * losses[0]

    first = Trainer(SmallStage(), 10)
    for batch in first.stage.batches(0, cut):
        first.update(batch)
    first.save(tmp_path)
    second = Trainer(SmallStage(), 10)
    second.resume(tmp_path)
    assert_equal(state_of(second), state_of(first))
    for batch in second.stage.batches(cut, 10):
        second.update(batch)
    assert_equal(state_of(second), state_of(straight))
    assert "optimizer/fused.weight/momentum" in state_of(second)
    assert "optimizer/fused.weight/exp_avg" not in state_of(second)


def test_a_skipped_update_leaves_no_trace() -> None:
    trainer = Trainer(SmallStage(), 10)
    for batch in trainer.stage.batches(0, SmallStage.spoilt):
        trainer.update(batch)
    before = state_of(trainer)
    (batch,) = trainer.stage.batches(SmallStage.spoilt, SmallStage.spoilt + 1)
    assert trainer.update(batch)["skipped"] == 1.0
    assert_equal(state_of(trainer), before)


@pytest.mark.parametrize("was", [True, False])
def test_the_state_of_the_other_optimizer_is_refused(was: bool) -> None:
    model = Small()
    model(torch.arange(5)).square().sum().backward()
    before = optimizers(model, CONFIG if was else OptimizerConfig())
    for each in before:
        each.step()
    after = optimizers(model, OptimizerConfig() if was else CONFIG)
    with pytest.raises(CheckpointError, match=r"(fused|plain)\.weight/.*muon was changed"):
        restore_optimizers(after, model, optimizer_tensors(before, model))
