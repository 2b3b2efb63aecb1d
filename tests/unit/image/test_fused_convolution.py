"""Fused convolutions beside PyTorch's own operators; and what they must leave alone."""

import gc
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trencadis.config import OptimizerConfig
from trencadis.image import fused_convolution
from trencadis.image.architectures.published import Block
from trencadis.image.fused_convolution import add_convolved, convolve
from trencadis.training.optimizers import adamw

LAYOUTS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(1, 3, 8, 12), (3, 16, 1, 1), (2, 16, 5, 7), (1, 64, 4, 2)]
GAIN = 0.3  # no power of two, so that it is not exact
assert_close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def layer_of(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    torch.manual_seed(in_channels)
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2).requires_grad_(False)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_fused_is_plain(shape: tuple[int, ...], kernel_size: int, layout: torch.memory_format) -> None:
    x, layer = drawn(*shape).to(memory_format=layout), layer_of(shape[1], 24, kernel_size)
    total = drawn(shape[0], 24, *shape[2:]).to(memory_format=layout)
    assert layer.bias is not None
    kept_x, kept_total = x.clone(), total.clone()
    plain = F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=kernel_size // 2)
    expected = total + GAIN * plain
    with torch.no_grad():
        assert_close(convolve(layer, x).double(), plain)
        assert_close(convolve(layer, x, relu=True).double(), plain.relu())
        summed = add_convolved(total, layer, x, gain=GAIN)
        assert_close(summed.double(), expected)
        assert torch.equal(total, kept_total)
        summed = add_convolved(total, layer, x, gain=GAIN, inplace=True)
        assert_close(summed.double(), expected)
    assert torch.equal(x, kept_x)


@pytest.mark.parametrize("consumes", [False, True])
@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("in_channels", [16, 24])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_block_is_the_same_with_and_without_a_gradient(
    in_channels: int, layout: torch.memory_format, doubled: bool, consumes: bool
) -> None:
    torch.manual_seed(0)
    block = Block(in_channels, 24, (1, 3, 3, 3), GAIN, doubled=doubled, consumes=consumes)
    x = drawn(2, in_channels, 6, 4).to(memory_format=layout)
    kept = x.clone()
    plain = block(x)
    assert torch.equal(x, kept)
    with torch.no_grad():
        fused = block(x)
    assert_close(fused, plain)
    assert torch.equal(x, kept) or consumes


def test_doubling_inside_a_block_is_doubling_before_it() -> None:
    torch.manual_seed(0)
    block = Block(16, 24, (1, 3, 3, 3), GAIN, doubled=True)
    x = drawn(2, 16, 3, 5).requires_grad_()
    inside = block(x)
    block.doubled = False
    before = block(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(inside, before)
    gradients = [torch.autograd.grad(output.square().sum(), x)[0] for output in (inside, before)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_what_records_a_gradient_or_is_no_float32_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(16, 24, 3), drawn(1, 16, 4, 4)
    if not fused_convolution._has_fused():
        pytest.skip("no fused convolutions here")
    monkeypatch.setattr(fused_convolution, "_geometry", lambda layer: pytest.fail("fused"))
    assert convolve(layer.requires_grad_(), x, relu=True).requires_grad
    with torch.no_grad():
        assert convolve(layer.bfloat16(), x.bfloat16()).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert convolve(layer.float(), x).dtype == torch.bfloat16
        with pytest.raises(pytest.fail.Exception, match="fused"):
            convolve(layer, x)


def test_weights_that_change_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_convolution, "LARGE", 1)
    layer, x, total = layer_of(16, 24, 3), drawn(1, 16, 4, 4), drawn(1, 24, 4, 4)

    def agree() -> None:
        plain = F.conv2d(x, layer.weight, layer.bias, padding=1)
        assert_close(convolve(layer, x), plain)  # as it was left by the call before
        for gain in (GAIN, 2.0):
            assert_close(add_convolved(total, layer, x, gain=gain), total + gain * plain)
        assert_close(convolve(layer, x), plain)

    with torch.no_grad():
        agree()
        layer.weight.mul_(2)
        agree()
        layer.load_state_dict(layer_of(16, 24, 3).state_dict())
        agree()
        layer.weight.data = torch.randn_like(layer.weight)
        agree()
        agree()
        kept = layer.weight.clone()
        layer.weight.copy_(kept.flip(0))  # the same sum, at the same address
        agree()
        layer.weight = nn.Parameter(torch.randn_like(layer.weight))
        agree()
    optimizer = adamw(layer, OptimizerConfig(learning_rate=0.1))
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    with torch.no_grad():
        agree()
    with torch.inference_mode():
        layer.weight = nn.Parameter(torch.randn(24, 16, 3, 3), requires_grad=False)
        agree()
        layer.weight.mul_(2)
        agree()


def test_nothing_outlives_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    if not fused_convolution._has_fused():
        pytest.skip("no fused convolutions here")
    monkeypatch.setattr(fused_convolution, "LARGE", 1)
    before, layer = len(fused_convolution._reordered), layer_of(16, 24, 3)
    with torch.no_grad():
        convolve(layer, drawn(1, 16, 4, 4))
    assert len(fused_convolution._reordered) == before + 1
    del layer
    gc.collect()
    assert len(fused_convolution._reordered) <= before
