"""The chunked loss of a head against PyTorch's own, on all rows at once."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trencadis.transformer import cross_entropy
from trencadis.transformer.cross_entropy import cross_entropy_sum
from trencadis.transformer.layers import Linear


def head(rows: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a head of 11 ids, states and targets."""
    torch.manual_seed(0)
    return Linear(8, 11), torch.randn(rows, 8, requires_grad=True), torch.randint(11, (rows,))


@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize("logits_at_once", [11, 33, 2**24])
def test_is_the_plain_loss_with_its_gradients(rows: int, logits_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_AT_ONCE", logits_at_once)
    layer, states, targets = head(rows)
    inputs = [states, *layer.parameters()]
    got = cross_entropy_sum(layer, states, targets, 11)
    expected = F.cross_entropy(layer(states), targets, reduction="sum")
    torch.testing.assert_close(got, expected)
    for one, other in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_no_rows_cost_nothing_and_have_no_gradient() -> None:
    layer, states, targets = head(0)
    loss = cross_entropy_sum(layer, states, targets, 11)
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in torch.autograd.grad(loss, [states, *layer.parameters()]))


def test_the_logits_of_a_large_batch_are_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_AT_ONCE", 50)
    layer, states, targets = head(40)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cross_entropy_sum(layer, states, targets, 11)
    assert max(kept) <= states.numel()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        F.cross_entropy(layer(states), targets)
    assert max(kept) == 40 * 11


def test_under_autocast_the_softmax_is_in_float32() -> None:
    layer, states, targets = head(33)
    with torch.autocast("cpu", torch.bfloat16):
        got = cross_entropy_sum(layer, states, targets, 11)
        logits = layer(states)
    assert logits.dtype == torch.bfloat16
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, F.cross_entropy(logits.float(), targets, reduction="sum"))
