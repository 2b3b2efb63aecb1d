"""Hand-written backward passes against PyTorch's own."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trencadis.transformer.kernels import cpu
from trencadis.transformer.kernels.cpu import Activation, linear, mlp, multiplied_product, product, rms_norm

ACTIVATIONS = get_args(Activation)


@pytest.fixture(params=[True, False], ids=["onednn", "mkl"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products by either library, whichever is the faster here."""
    if request.param and not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(cpu, "_matmul_is_held_back", lambda: request.param)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size * 31**place for place, size in enumerate(shape)))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def assert_same(one: Tensor, other: Tensor, inputs: list[Tensor]) -> None:
    """Assert that two results agree, and that their gradients do."""
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    grad = draw(*one.shape).detach()
    gradients = (torch.autograd.grad(y, inputs, grad) for y in (one, other))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def plain_mlp(x: Tensor, w_in: Tensor, b_in: Tensor | None, w_out: Tensor, b_out: Tensor | None, name: str) -> Tensor:
    hidden = F.linear(x, w_in, b_in)
    return F.linear(F.gelu(hidden) if name == "gelu" else F.relu(hidden).square(), w_out, b_out)


def kept_numbers(run: Callable[[], Tensor]) -> int:
    """Return how many numbers a computation keeps for its backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("shape", [(4,), (7, 4), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_is_the_plain_one(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight, bias = draw(*shape), draw(5, 4), draw(5) if with_bias else None
    inputs = [x, weight] if bias is None else [x, weight, bias]
    assert_same(linear(x, weight, bias), F.linear(x, weight, bias), inputs)


@pytest.mark.usefixtures("library")
def test_products_take_transposed_views_and_slices() -> None:
    x, weight = draw(6, 9).detach(), draw(9, 5).detach()
    torch.testing.assert_close(product(x, weight.t()), x @ weight)
    torch.testing.assert_close(product(x.t(), weight.t()[:, :6]), x.t() @ weight[:6])
    torch.testing.assert_close(product(x[:, 2:7], weight.t()[:, 2:7], relu=True), (x[:, 2:7] @ weight[2:7]).relu())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_mlp_is_the_plain_one(activation: Activation, with_bias: bool) -> None:
    x, w_in, w_out = draw(2, 5, 4), draw(16, 4), draw(4, 16)
    b_in, b_out = (draw(16), draw(4)) if with_bias else (None, None)
    inputs = [tensor for tensor in (x, w_in, b_in, w_out, b_out) if tensor is not None]
    assert_same(
        mlp(x, w_in, b_in, w_out, b_out, activation), plain_mlp(x, w_in, b_in, w_out, b_out, activation), inputs
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_agrees_with_finite_differences(activation: Activation) -> None:
    inputs = [draw(*shape, dtype=torch.float64) for shape in ((3, 2), (6, 2), (6,), (2, 6), (2,))]
    assert torch.autograd.gradcheck(
        lambda x, w_in, b_in, w_out, b_out: mlp(x, w_in, b_in, w_out, b_out, activation), inputs
    )


@pytest.mark.parametrize("frozen", range(5))
def test_mlp_with_a_frozen_part(frozen: int) -> None:
    inputs = [draw(*shape) for shape in ((3, 4), (16, 4), (16,), (4, 16), (4,))]
    inputs[frozen] = inputs[frozen].detach()
    trained = [tensor for tensor in inputs if tensor.requires_grad]
    x, w_in, b_in, w_out, b_out = inputs
    assert_same(mlp(x, w_in, b_in, w_out, b_out, "gelu"), plain_mlp(x, w_in, b_in, w_out, b_out, "gelu"), trained)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_keeps_its_hidden_layer_once(activation: Activation) -> None:
    x, w_in, w_out = draw(10, 4), draw(16, 4), draw(4, 16)
    weights_and_input = x.numel() + w_in.numel() + w_out.numel()
    assert kept_numbers(lambda: mlp(x, w_in, None, w_out, None, activation)) == weights_and_input + 10 * 16
    assert kept_numbers(lambda: plain_mlp(x, w_in, None, w_out, None, activation)) >= weights_and_input + 2 * 10 * 16


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_under_autocast(activation: Activation) -> None:
    inputs = [draw(*shape) for shape in ((8, 4), (16, 4), (16,), (4, 16), (4,))]
    x, w_in, b_in, w_out, b_out = inputs
    with torch.autocast("cpu", torch.bfloat16):
        y = mlp(x, w_in, b_in, w_out, b_out, activation)
        plain = plain_mlp(x, w_in, b_in, w_out, b_out, activation)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, plain, atol=0.1, rtol=0.05)
    for one, other in zip(torch.autograd.grad(y.sum(), inputs), torch.autograd.grad(plain.sum(), inputs), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=0.3, rtol=0.05)


@pytest.mark.parametrize("with_weight", [True, False])
def test_rms_norm_is_the_plain_one(with_weight: bool) -> None:
    x, weight = draw(3, 5, 8), draw(8) if with_weight else None
    inputs = [x] if weight is None else [x, weight]
    assert_same(rms_norm(x, weight, eps=1e-3), F.rms_norm(x, (8,), weight, eps=1e-3), inputs)


@pytest.mark.parametrize("with_weight", [True, False])
def test_rms_norm_agrees_with_finite_differences(with_weight: bool) -> None:
    x, weight = draw(4, 5, dtype=torch.float64), draw(5, dtype=torch.float64)
    inputs = (x, weight) if with_weight else (x,)
    assert torch.autograd.gradcheck(rms_norm, inputs)


def test_rms_norm_of_zeros_is_zero_and_its_gradient_is_finite() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    y = rms_norm(x)
    assert torch.equal(y, torch.zeros(2, 4))
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()


def test_rms_norm_under_autocast_computes_in_float32() -> None:
    x, weight = 300 * draw(4, 8), draw(8)
    with torch.autocast("cpu", torch.float16):  # in float16 the squares would overflow
        y = rms_norm(x.half(), weight.half())
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, F.rms_norm(x, (8,), weight), atol=1e-2, rtol=1e-2)


def test_the_product_that_is_multiplied_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, factors = (draw(*shape).detach().bfloat16() for shape in ((6, 64), (32, 64), (6, 32)))
    expected = factors.float() * (x.float() @ weight.float().t())
    torch.testing.assert_close(multiplied_product(x, weight, factors).float(), expected, atol=1e-2, rtol=1e-2)
    monkeypatch.setattr(cpu, "_fuses_bfloat16", lambda: False)
    torch.testing.assert_close(multiplied_product(x, weight, factors).float(), expected, atol=0.2, rtol=0.02)
