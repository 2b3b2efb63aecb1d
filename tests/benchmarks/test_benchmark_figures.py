"""What the benchmarks count and fit, beside other ways to count it."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figures import growth_exponent
from benchmarks.work import attended_bytes, drawing_flops, matrices_of, training_flops, visible_positions, weights_in
from trencadis.config import TransformerConfig
from trencadis.stream import Stream
from trencadis.transformer import Transformer, layer_patterns, visibility


def config(attention: str, **given: object) -> TransformerConfig:
    sizes = {"text_len": 5, "text_vocab_size": 20, "grid_size": (4, 6), "image_vocab_size": 24, "num_layers": 4}
    sizes |= {"num_heads": 2, "head_dim": 8, "kernel_size": 3, "attention": attention}
    return TransformerConfig(**{**sizes, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.7])
def test_the_exponent_of_a_power_is_found(exponent: float) -> None:
    sizes = [256, 1024, 4096]
    assert growth_exponent(sizes, [3.5 * size**exponent for size in sizes]) == pytest.approx(exponent)


def test_no_exponent_is_made_up() -> None:
    assert growth_exponent([256], [1.0]) is None
    assert growth_exponent([256, 256], [1.0, 2.0]) is None
    assert growth_exponent([256, 1024], [1.0, -0.1]) is None


@pytest.mark.parametrize("attention", ["full", "sparse"])
def test_bytes_read_agree_with_the_dense_masks(attention: str) -> None:
    sizes = config(attention)
    masks = [visibility(p, Stream.of(sizes), kernel_size=sizes.kernel_size) for p in layer_patterns(sizes)]
    assert torch.equal(visible_positions(sizes), torch.stack([mask.sum(1) for mask in masks]))
    per_token = torch.stack([mask[sizes.text_len :].sum(1) for mask in masks]).sum(0) * (2 * 8 + 2 * 8) * 4
    assert torch.equal(attended_bytes(sizes), per_token)


def test_training_operations_are_the_counters_where_every_pair_counts() -> None:
    """The counter knows no masks: what it counts too much is the attention of pairs that do not see each other."""
    sizes = config("full")
    # In 64 bits every product is made of operations that the counter knows.
    transformer = Transformer(sizes).double()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        transformer.logits(torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 4, 6, dtype=torch.long))
    stream_len = 5 + 24
    unseen = stream_len * (stream_len - 1) // 2
    assert training_flops(sizes, 3) == 3 * (counter.get_total_flops() - 3 * 4 * 4 * sizes.dim * unseen)
    assert training_flops(config("sparse"), 3) < training_flops(sizes, 3)


@pytest.mark.parametrize("attention", ["full", "sparse"])
def test_drawing_a_picture_takes_a_forward_pass_less_what_is_not_needed(attention: str) -> None:
    """The text head is not used, and the last image token is never read."""
    sizes = config(attention)
    matrices, visible = matrices_of(sizes), visible_positions(sizes)
    text_head = 2 * weights_in([matrices.text_head]) * (sizes.text_len - 1)
    last_token = 2 * weights_in(matrices.blocks) + 4 * sizes.dim * int(visible[:, -1].sum())
    one, two = (drawing_flops(sizes, candidates, guided=False) for candidates in (1, 2))
    assert one == training_flops(sizes, 1) / 3 - text_head - last_token
    # A second picture of the same caption takes the passes of 23 more image tokens.
    of_matrices = 2 * weights_in(matrices.of_decoding) * 23
    assert two - one == of_matrices + 4 * sizes.dim * int(visible[:, sizes.text_len : -1].sum())
    assert drawing_flops(sizes, 2, guided=True) == 2 * two


def test_decoding_reads_every_matrix_but_the_text_head() -> None:
    sizes = config("full")
    transformer = Transformer(sizes)
    linear = {name: tuple(m.weight.shape) for name, m in transformer.named_modules() if isinstance(m, nn.Linear)}
    assert linear.pop("text_head") == matrices_of(sizes).text_head
    assert matrices_of(sizes).of_decoding == list(linear.values())
