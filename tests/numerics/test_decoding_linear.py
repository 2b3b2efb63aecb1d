"""Linear layers of decoding: near the exact ones, and every row as it is alone, for any kernel."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trencadis.transformer import Weights
from trencadis.transformer.kernels import decoding_linear
from trencadis.transformer.kernels.cpu import Activation
from trencadis.transformer.kernels.decoding_linear import BLOCK, SIZES, DecodingLinear, in_sizes, steady_sizes
from trencadis.transformer.layers import Linear

WEIGHTS: tuple[Weights, ...] = ("float32", "bfloat16", "int8")


def activated(y: Tensor, activation: Activation | None) -> Tensor:
    if activation is None:
        return y
    return F.gelu(y) if activation == "gelu" else F.relu(y).square()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("activation", [None, "gelu", "relu2"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_row_is_near_the_exact_one_and_does_not_depend_on_the_others(
    weights: Weights, bias: bool, activation: Activation | None
) -> None:
    torch.manual_seed(0)
    linear = Linear(64, 48, bias=bias)
    layer = DecodingLinear(linear, weights, activation=activation)
    x = torch.randn(150, 64) * torch.tensor([1e-3, 1.0, 1e3])[torch.arange(150) % 3, None]
    with torch.no_grad():
        together, exact = layer(x), activated(linear(x), activation)
        for rows in (1, 2, 3, 7, 16, 33, 64, 65, 100):
            for start in (0, 150 - rows):
                assert torch.equal(layer(x[start : start + rows]), together[start : start + rows])
    limit = {"float32": 1e-5, "bfloat16": 0.02, "int8": 0.03}[weights] * (2 if activation == "relu2" else 1)
    assert ((together - exact).norm(dim=1) / exact.norm(dim=1)).max() < limit


def unsteady(rows: Tensor) -> Tensor:
    """A kernel that adds up in another order where it has few rows, as real ones do."""
    weight = torch.linspace(-1, 1, 96).view(3, 32).sin()
    halves = rows[:, :16] @ weight[:, :16].T + rows[:, 16:] @ weight[:, 16:].T
    return halves if len(rows) in (1, 2, 32) else rows @ weight.T


def test_sizes_at_which_a_kernel_adds_up_otherwise_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_linear, "_STEADY", {})
    sizes = steady_sizes(unsteady, "float32", in_dim=32)
    assert BLOCK in sizes
    assert not {1, 2, 32} & set(sizes)
    rows = torch.randn(70, 32)
    whole = in_sizes(unsteady, rows, sizes)
    assert torch.allclose(whole, unsteady(rows), atol=1e-5)
    for count in range(1, 71):
        assert torch.equal(in_sizes(unsteady, rows[:count], sizes), whole[:count])


def test_products_have_few_sizes() -> None:
    counts: set[int] = set()

    def counting(rows: Tensor) -> Tensor:
        counts.add(len(rows))
        return rows

    for count in range(1, 200):
        assert torch.equal(in_sizes(counting, torch.ones(count, 2), SIZES), torch.ones(count, 2))
    assert counts == set(SIZES)
