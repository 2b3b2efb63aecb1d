import math

import pytest
import torch
from torch import nn

from trencadis.config import OptimizerConfig
from trencadis.training.optimizers import adamw, clip_gradients, learning_rate


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, 3))


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.conv = nn.Conv2d(3, 4, 3)
        self.up = nn.ConvTranspose2d(3, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm((2, 3))
        self.embedding = nn.Embedding(5, 3)
        self.positions = Positions()
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_weight_decay_is_for_matrices_and_kernels_only() -> None:
    model = Parts()
    optimizer = adamw(model, OptimizerConfig(weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_decay = {g["weight_decay"]: {names[id(p)] for p in g["params"]} for g in optimizer.param_groups}
    assert by_decay[0.1] == {
        "linear.weight",
        "conv.weight",
        "up.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }
    frozen = {"frozen.weight", "frozen.bias"}
    assert by_decay[0.0] == set(names.values()) - by_decay[0.1] - frozen


def test_settings_are_the_configured_ones() -> None:
    optimizer = adamw(nn.Linear(2, 2), OptimizerConfig(learning_rate=0.3, beta2=0.7))
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"], group["fused"]) == (0.3, (0.9, 0.7), 1e-8, True)


def test_a_model_of_one_kind_of_parameter_has_one_group() -> None:
    assert len(adamw(nn.Embedding(3, 2), OptimizerConfig()).param_groups) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_updates_do_not_depend_on_threads_or_chance(threads: int) -> None:
    def updated() -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Linear(300, 300)
        optimizer = adamw(model, OptimizerConfig())
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
        return model.weight.detach()

    expected = updated()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(updated(), expected)
    finally:
        torch.set_num_threads(before)


def test_learning_rate_rises_in_equal_parts_then_falls_by_a_cosine() -> None:
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=4)
    rates = [learning_rate(step, 105, config) for step in range(105)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[54] == pytest.approx((1.0 + 0.1) / 2)
    assert rates[29] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert rates[-1] == pytest.approx(0.1)
    assert learning_rate(200, 105, config) == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_learning_rate_falls_straight_where_it_is_linear() -> None:
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=4, decay="linear", decay_end=0.5)
    rates = [learning_rate(step, 209, config) for step in range(209)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [rates[29], rates[54], rates[79]] == pytest.approx([0.775, 0.55, 0.325])
    assert rates[104:] == pytest.approx([0.1] * 105)


@pytest.mark.parametrize(("steps", "warmup_steps"), [(1000, 20), (10, 1), (1, 1)])
def test_warm_up_takes_a_fiftieth_unless_told(steps: int, warmup_steps: int) -> None:
    given = OptimizerConfig(warmup_steps=warmup_steps)
    for step in range(steps):
        assert learning_rate(step, steps, OptimizerConfig()) == learning_rate(step, steps, given)


def test_no_warm_up_starts_at_the_peak() -> None:
    config = OptimizerConfig(learning_rate=2.0, final_learning_rate=0.5, warmup_steps=0)
    assert [learning_rate(step, 2, config) for step in range(2)] == pytest.approx([2.0, 1.0])
    assert learning_rate(0, 1, config) == pytest.approx(2.0)


def with_gradients(*values: float) -> nn.Module:
    model = nn.Linear(1, 1)
    for parameter, value in zip(model.parameters(), values, strict=False):
        parameter.grad = torch.full_like(parameter, value)
    return model


@pytest.mark.parametrize(("max_norm", "expected"), [(2.5, (1.5, 2.0)), (10.0, (3.0, 4.0)), (None, (3.0, 4.0))])
def test_gradients_are_clipped_to_the_norm(max_norm: float | None, expected: tuple[float, float]) -> None:
    model = with_gradients(3.0, 4.0)
    assert clip_gradients(model, max_norm) == pytest.approx(5.0)
    found = [p.grad.item() for p in model.parameters() if p.grad is not None]
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_spoilt_gradient_shows_in_the_norm() -> None:
    assert math.isnan(clip_gradients(with_gradients(1.0, math.nan), 1.0))
    assert math.isinf(clip_gradients(with_gradients(1.0, math.inf), None))


def test_parameters_without_a_gradient_are_passed_over() -> None:
    model = with_gradients(3.0)
    assert clip_gradients(model, 1.0) == pytest.approx(3.0)
    assert list(model.parameters())[1].grad is None
    assert clip_gradients(nn.Linear(1, 1), 1.0) == 0.0
