"""The chunked loss of a head against PyTorch's own, on all rows at once."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from trencadis.transformer.losses import linear_cross_entropy

from trencadis.transformer import losses, products


def head(
    rows: int, dim: int, vocab: int, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return states, weight, bias and targets."""
    generator = torch.Generator().manual_seed(rows * 10_007 + dim * 101 + vocab)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    x, weight, bias = draw(rows, dim), draw(vocab, dim), draw(vocab)
    return x, weight, bias, torch.randint(0, vocab, (rows,), generator=generator)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 23),
    dim=st.integers(1, 9),
    vocab=st.integers(1, 40),
    chunk_rows=st.one_of(st.none(), st.integers(1, 30)),
    reduction=st.sampled_from(["mean", "sum"]),
    with_bias=st.booleans(),
)
def test_is_the_plain_loss_with_its_gradients(
    rows: int, dim: int, vocab: int, chunk_rows: int | None, reduction: str, with_bias: bool
) -> None:
    x, weight, bias, targets = head(rows, dim, vocab)
    inputs = [x, weight, bias] if with_bias else [x, weight]
    given_bias = bias if with_bias else None
    expected = F.cross_entropy(F.linear(x, weight, given_bias), targets, reduction=reduction)
    got = linear_cross_entropy(x, weight, given_bias, targets, reduction=reduction, chunk_rows=chunk_rows)  # type: ignore[arg-type]
    torch.testing.assert_close(got, expected)
    # As a part of a weighted total, so that the scale of the backward pass counts.
    for one, other in zip(
        torch.autograd.grad(got * 0.7, inputs), torch.autograd.grad(expected * 0.7, inputs), strict=True
    ):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("with_bias", [True, False])
def test_gradients_agree_with_finite_differences(with_bias: bool) -> None:
    x, weight, bias, targets = head(7, 3, 5, dtype=torch.float64)
    inputs = (x, weight, bias) if with_bias else (x, weight)
    assert torch.autograd.gradcheck(
        lambda x, weight, bias=None: linear_cross_entropy(x, weight, bias, targets, chunk_rows=3), inputs
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_rows_cost_nothing_and_pull_on_nothing(reduction: str) -> None:
    x, weight, bias, targets = head(0, 4, 6)
    loss = linear_cross_entropy(x, weight, bias, targets, reduction=reduction)  # type: ignore[arg-type]
    assert loss.item() == 0
    for gradient, parameter in zip(torch.autograd.grad(loss, [x, weight, bias]), (x, weight, bias), strict=True):
        torch.testing.assert_close(gradient, torch.zeros_like(parameter))


def test_computes_no_gradient_where_none_is_asked_for() -> None:
    x, weight, bias, targets = head(9, 4, 6)
    expected = F.cross_entropy(F.linear(x, weight, bias), targets)
    with mock.patch.object(losses, "_logits_gradient", side_effect=AssertionError("a gradient was computed")):
        with torch.no_grad():
            torch.testing.assert_close(linear_cross_entropy(x, weight, bias, targets), expected.detach())
        frozen = [parameter.detach() for parameter in (x, weight, bias)]
        assert not linear_cross_entropy(frozen[0], frozen[1], frozen[2], targets).requires_grad


def test_frozen_weights_get_no_gradient_and_states_still_do() -> None:
    x, weight, bias, targets = head(9, 4, 6)
    loss = linear_cross_entropy(x, weight.detach(), bias.detach(), targets, chunk_rows=4)
    plain = F.cross_entropy(F.linear(x, weight, bias), targets)
    torch.testing.assert_close(torch.autograd.grad(loss, x), torch.autograd.grad(plain, x))


def test_backward_may_be_taken_twice() -> None:
    x, weight, bias, targets = head(9, 4, 6)
    loss = linear_cross_entropy(x, weight, bias, targets)
    first, second = (torch.autograd.grad(loss * 3, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_under_autocast_the_softmax_is_in_float32() -> None:
    x, weight, bias, targets = head(33, 16, 200)
    inputs = [x, weight, bias]
    with torch.autocast("cpu", torch.bfloat16):
        got = linear_cross_entropy(x, weight, bias, targets, chunk_rows=8)
        logits = F.linear(x, weight, bias)
    expected = F.cross_entropy(logits.float(), targets)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)
    for one, other in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=1e-3, rtol=2e-2)


def test_extreme_logits_neither_overflow_nor_lose_the_target() -> None:
    x = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    weight = torch.tensor([[3e4], [-3e4]])
    loss = linear_cross_entropy(x, weight, None, torch.tensor([0, 0]), reduction="sum")
    assert loss.item() == 6e4
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], torch.tensor([[0.0], [-6e4]]))


@pytest.mark.parametrize("held_back", [True, False])
def test_either_library_gives_the_plain_loss(held_back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if held_back and not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(products, "_matmul_is_held_back", lambda: held_back)
    x, weight, bias, targets = head(50, 32, 70)
    got = linear_cross_entropy(x, weight, bias, targets, chunk_rows=16)
    expected = F.cross_entropy(F.linear(x, weight, bias), targets)
    inputs = [x, weight, bias]
    for one, other in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 700])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_the_rows_that_fill_up_a_step_do_not_count(rows: int, with_gradient: bool) -> None:
    torch.manual_seed(0)
    x, weight, targets = torch.randn(rows, 8), torch.randn(11, 8), torch.randint(11, (rows,))
    with torch.set_grad_enabled(with_gradient):
        loss = losses.linear_cross_entropy(x.requires_grad_(), weight, None, targets, chunk_rows=100)
    expected = torch.nn.functional.cross_entropy(x @ weight.T, targets)
    assert torch.allclose(loss, expected, atol=1e-5)
    if with_gradient:
        (gradient,), (reference,) = torch.autograd.grad(loss, x), torch.autograd.grad(expected, x)
        assert torch.allclose(gradient, reference, atol=1e-6)


def test_products_have_few_sizes_however_many_captions_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = set()

    def counting(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        sizes.add((x.shape, weight.shape))
        return torch.nn.functional.linear(x, weight, bias)

    monkeypatch.setattr(losses, "product", counting)
    weight = torch.randn(11, 8)
    for rows in range(1, 513, 7):
        losses.linear_cross_entropy(torch.randn(rows, 8), weight, None, torch.zeros(rows, dtype=torch.long))
    assert len(sizes) == 2
