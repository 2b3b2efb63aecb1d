"""The kernels of training in bfloat16 on a CPU against the plain computation in float32, with their gradients."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.transformer import Transformer, attention, cross_entropy
from trencadis.transformer.cross_entropy import cross_entropy_sum
from trencadis.transformer.kernels import cpu, narrow
from trencadis.transformer.kernels.narrow import EPS, narrow_heads, narrow_rms_norm, suits_blocks
from trencadis.transformer.rotary import rotate


@pytest.fixture(autouse=True, params=[1, 300, 2**18])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a block, several with a shorter one at the end, and one block for all."""
    monkeypatch.setattr(narrow, "BLOCK", request.param)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype).requires_grad_()


def assert_near(one: Tensor, other: Tensor, inputs: list[Tensor]) -> None:
    """Assert that results and gradients differ by rounding to bfloat16 only; gradients have the inputs' types."""
    grad = draw(*one.shape).detach().bfloat16()
    pairs = [(one, other)]
    pairs += zip(
        torch.autograd.grad(one, inputs, grad.to(one.dtype)), torch.autograd.grad(other, inputs, grad.to(other.dtype)),
        strict=True,
    )  # fmt: skip
    for got, expected in pairs:
        assert (got.float() - expected.float()).norm() <= 0.01 * expected.float().norm()
    assert [got.dtype for got, _ in pairs[1:]] == [x.dtype for x in inputs]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_the_plain_one(dtype: torch.dtype) -> None:
    x, weight = draw(3, 5, 64, dtype=dtype), draw(64)
    y = narrow_rms_norm(x, weight)
    assert y.dtype == torch.bfloat16
    assert_near(y, F.rms_norm(x.float(), (64,), weight, EPS), [x, weight])


def plain_heads(qkv: Tensor, gains: Tensor, angles: Tensor) -> Tensor:
    parts = qkv.float().unflatten(-1, (3, 2, gains.shape[-1])).permute(2, 0, 3, 1, 4)  # type: ignore[no-untyped-call]
    normed = [F.rms_norm(x, x.shape[-1:], gain, EPS) for x, gain in zip(parts[:2], gains, strict=True)]
    return torch.stack([*(rotate(x, angles.cos(), angles.sin()) for x in normed), parts[2]])


def test_queries_and_keys_are_normalised_and_rotated() -> None:
    qkv, gains, angles = draw(3, 7, 3 * 2 * 8, dtype=torch.bfloat16), draw(2, 8), draw(7, 4).detach()
    got = torch.stack(narrow_heads(qkv, gains, torch.polar(torch.ones_like(angles), angles)))
    assert got.dtype == torch.bfloat16
    assert_near(got, plain_heads(qkv, gains, angles), [qkv, gains])


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("logits_at_once", [33, 2**24])
def test_the_loss_is_the_plain_one(with_bias: bool, logits_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_AT_ONCE", logits_at_once)
    torch.manual_seed(0)
    head, states, targets = nn.Linear(64, 11, bias=with_bias), draw(40, 64, dtype=torch.bfloat16), torch.arange(40) % 11
    with torch.autocast("cpu", torch.bfloat16):
        got = cross_entropy_sum(head, states, targets, 11)
    expected = F.cross_entropy(head(states.float()), targets, reduction="sum")
    assert got.dtype == torch.float32
    assert_near(got, expected, [states, *head.parameters()])
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(cross_entropy_sum(head, states, targets, 11), got)


def test_the_loss_keeps_no_logits() -> None:
    head, states, kept = nn.Linear(4, 500), draw(40, 4, dtype=torch.bfloat16), list[int]()

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autocast("cpu", torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cross_entropy_sum(head, states, torch.arange(40), 500)
    assert max(kept) == head.weight.numel()


def gradients(transformer: Transformer, text: Tensor, image: Tensor) -> list[Tensor]:
    transformer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = transformer.losses(text, image)
    (losses.text / losses.text_count + losses.image / losses.image_count).backward()  # type: ignore[no-untyped-call]
    return [p.grad for p in transformer.parameters() if p.grad is not None]


def test_a_transformer_learns_as_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = TransformerConfig(
        num_layers=2, num_heads=2, head_dim=16, text_len=6, text_vocab_size=20, image_vocab_size=30, grid_size=(3, 3),
        attention="full", design=MODERN_DESIGN,
    )  # fmt: skip
    transformer = Transformer(config)
    for parameter in transformer.parameters():  # zeros would hide what a branch computes
        nn.init.normal_(parameter, std=0.2)
    text, image = torch.randint(1, 20, (4, 6)), torch.randint(30, (4, 3, 3))
    used: list[str] = []
    for name in ("narrow_heads", "suits_blocks"):
        monkeypatch.setattr(attention, name, _noting(getattr(attention, name), name, used))
    got = gradients(transformer, text, image)
    assert used.count("narrow_heads") == 2
    for module in (attention, cpu, cross_entropy):
        monkeypatch.setattr(module, "suits_blocks", lambda x: False)
    monkeypatch.setattr(cpu, "_fuses_bfloat16", lambda: False)
    expected = gradients(transformer, text, image)
    assert used.count("narrow_heads") == 2
    for one, other in zip(got, expected, strict=True):
        assert (one - other).norm() <= 0.05 * other.norm()


def _noting(function: Callable[..., object], name: str, used: list[str]) -> Callable[..., object]:
    def call(*arguments: object) -> object:
        used.append(name)
        return function(*arguments)

    return call


def test_they_are_for_autocast_to_bfloat16_alone() -> None:
    x = draw(2, 4)
    assert not suits_blocks(x)
    with torch.autocast("cpu", torch.float16):
        assert not suits_blocks(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert suits_blocks(x)
        assert not suits_blocks(x.to("meta"))


def test_losses_of_many_lengths_have_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = range(1, 5000)
    rounded = [cross_entropy._rounded_up(count) for count in counts]
    assert len(set(rounded)) <= 64
    assert all(count <= more <= max(count + 63, count * 9 / 8) for count, more in zip(counts, rounded, strict=True))
    shapes, linear = set(), F.linear

    def seen(x: Tensor, *arguments: Tensor) -> Tensor:
        shapes.add(tuple(x.shape))
        return linear(x, *arguments)

    monkeypatch.setattr(F, "linear", seen)
    head = torch.nn.Linear(8, 16)
    for count in (65, 70, 100, 128):
        with torch.autocast("cpu", torch.bfloat16):
            cross_entropy.cross_entropy_sum(head, torch.rand(count, 8), torch.zeros(count, dtype=torch.long), 16)
    assert shapes == {(128, 8)}
