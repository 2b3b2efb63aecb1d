"""Gradient scales: the identity where nothing overflows, and a wall where something does."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from trencadis.devices import has_bfloat16_units
from trencadis.training.mixed_precision import (
    FALL,
    FIRST_SCALE,
    GREATEST_SCALE,
    LEAST_SCALE,
    RISE,
    UPDATES_BETWEEN_FALLS,
    GradientScales,
    autocast,
)

CPU = torch.device("cpu")


class HalfLayer(nn.Module):
    """A linear layer whose product, and the gradient of it, are float16; its parameters are not."""

    def __init__(self, dim: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim) * gain)

    def forward(self, x: Tensor) -> Tensor:
        return x.half() @ self.weight.half().t()


def stack(num_blocks: int, dtype: torch.dtype) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(6, 6, dtype=dtype) for _ in range(num_blocks)]


def run(layers: Sequence[nn.Module], x: Tensor, weight: float = 1.0) -> Tensor:
    """Return the loss of a residual stack; its gradient is as small as `weight`."""
    for layer in layers:
        x = x + layer(x)
    return (x * weight).sum()


def scales_of(layers: Sequence[nn.Module]) -> GradientScales:
    return GradientScales([(layer,) for layer in layers])


def scales_alone(count: int) -> GradientScales:
    return scales_of([nn.Identity() for _ in range(count)])


def gradients(layers: Sequence[nn.Module]) -> list[Tensor]:
    return [parameter.grad for layer in layers for parameter in layer.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaled_gradients_are_the_plain_ones_bit_for_bit(dtype: torch.dtype) -> None:
    plain, scaled = stack(4, dtype), stack(4, dtype)
    x = torch.randn(5, 6, dtype=dtype)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    scales = scales_of(scaled)
    scales.update([True, True, True, True])  # no longer a power of two
    losses = run(plain, inputs[0]), run(scaled, inputs[1])
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    assert not torch.equal(gradients(plain)[0], gradients(scaled)[0])
    assert scales.unscale() == [True] * 4
    assert inputs[0].grad is not None
    assert inputs[1].grad is not None
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    for one, other in zip(gradients(plain), gradients(scaled), strict=True):
        assert torch.equal(one, other)


def test_gradients_too_small_for_float16_come_through() -> None:
    tiny = 2.0**-26  # below the least subnormal of float16, 2**-24
    x = torch.ones(2, 4)
    plain, scaled = ([HalfLayer(4) for _ in range(3)] for _ in range(2))
    run(plain, x, tiny).backward()  # type: ignore[no-untyped-call]
    assert all(not gradient.any() for gradient in gradients(plain))
    scales = scales_of(scaled)
    run(scaled, x, tiny).backward()  # type: ignore[no-untyped-call]
    scales.unscale()
    doubled = [layer.double() for layer in stack_of_identities(3)]
    run(doubled, x.double(), tiny).backward()  # type: ignore[no-untyped-call]
    for one, exact in zip(gradients(scaled), gradients(doubled), strict=True):
        torch.testing.assert_close(one.double(), exact, rtol=1e-3, atol=0)


def stack_of_identities(num_blocks: int) -> list[nn.Linear]:
    layers = [nn.Linear(4, 4, bias=False) for _ in range(num_blocks)]
    for layer in layers:
        nn.init.eye_(layer.weight)
    return layers


def test_an_overflow_on_the_way_out_of_a_block_does_not_reach_the_one_before() -> None:
    layers = [HalfLayer(4), HalfLayer(4, gain=60_000.0)]
    scales = scales_of(layers)
    x = torch.full((2, 4), 2.0**-20).requires_grad_()
    # 2**13 / 2**8 times the gain is more than float16 holds: the second block's own gradient of its input is infinite.
    run(layers, x, 2.0**-8).backward()  # type: ignore[no-untyped-call]
    assert scales.unscale() == [True, True]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((2, 4), 2.0**-7))  # that of the identity and of the first block


def test_a_block_that_overflows_is_zeroed_and_its_scale_lowered_while_the_others_go_on() -> None:
    layers = [HalfLayer(4) for _ in range(3)]

    class Spoilt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layers[1]

        def forward(self, x: Tensor) -> Tensor:
            residual: Tensor = self.layer(x)
            residual.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
            return residual

    modules = [layers[0], Spoilt(), layers[2]]
    scales = scales_of(modules)
    x = torch.ones(2, 4, requires_grad=True)
    run(modules, x, 2.0**-8).backward()  # type: ignore[no-untyped-call]
    finite = scales.unscale()
    assert finite == [True, False, True]
    assert [bool(gradient.any()) for gradient in gradients(layers)] == [True, False, True]
    assert x.grad is not None
    assert x.grad.isfinite().all()
    scales.update(finite)
    raised, lowered = FIRST_SCALE * RISE, FIRST_SCALE * FALL
    assert scales.state_dict()["scales"].tolist() == [raised, lowered, raised]


def test_scales_fall_once_in_125_updates_and_not_in_the_meantime() -> None:
    scales = scales_alone(1)
    for _ in range(UPDATES_BETWEEN_FALLS + 1):
        scales.update([False])
    assert scales.state_dict()["scales"].item() == pytest.approx(FIRST_SCALE * FALL)
    scales.update([False])
    assert scales.state_dict()["scales"].item() == pytest.approx(FIRST_SCALE * FALL**2)


def test_scales_double_in_1000_finite_updates_and_are_applied_as_powers_of_two() -> None:
    scales = scales_alone(1)
    for _ in range(999):
        scales.update([True])
        assert scales.factor(0) == FIRST_SCALE
    scales.update([True])
    scales.update([True])
    assert scales.factor(0) == 2 * FIRST_SCALE


def test_scales_stay_within_their_bounds() -> None:
    scales = scales_alone(2)
    for _ in range(12_000):
        scales.update([True, False])
    assert scales.state_dict()["scales"].tolist() == [GREATEST_SCALE, LEAST_SCALE]


def test_state_goes_on_where_it_left_off() -> None:
    scales, resumed = scales_alone(3), scales_alone(3)
    pattern = [[True, index % 7 != 0, index % 3 != 0] for index in range(300)]
    for finite in pattern[:150]:
        scales.update(finite)
    resumed.load_state_dict(scales.state_dict())
    for finite in pattern[150:]:
        scales.update(finite)
        resumed.update(finite)
    for name, tensor in scales.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
    assert not math.isclose(scales.factor(2), FIRST_SCALE)


def test_blocks_without_gradients_count_as_finite() -> None:
    layers = stack(2, torch.float32)
    scales = scales_of(layers)
    layers[1](torch.ones(1, 6)).sum().backward()
    assert scales.unscale() == [True, True]
    assert scales_of([]).unscale() == []


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_autocast_computes_products_in_its_type(precision: str, dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 4)
    with autocast(CPU, precision):  # type: ignore[arg-type]
        assert layer(torch.ones(2, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_scales_under_autocast_to_float16() -> None:
    torch.manual_seed(0)
    layers, plain = stack(3, torch.float32), stack(3, torch.float32)
    scales = scales_of(layers)
    x = torch.randn(5, 6)
    with autocast(CPU, "float16"):
        loss = run(layers, x, 2.0**-24)
    assert loss.dtype == torch.float32
    loss.backward()  # type: ignore[no-untyped-call]
    assert scales.unscale() == [True] * 3
    run(plain, x, 2.0**-24).backward()  # type: ignore[no-untyped-call]
    for one, exact in zip(gradients(layers), gradients(plain), strict=True):
        torch.testing.assert_close(one, exact, rtol=0.02, atol=float(exact.abs().max()) * 0.01)


def test_says_whether_bfloat16_is_fast() -> None:
    assert isinstance(has_bfloat16_units(CPU), bool)
    assert not has_bfloat16_units(torch.device("meta"))
