"""Each mask against the definition in the paper, written out token by token."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis.config import TransformerConfig
from trencadis.stream import Stream
from trencadis.transformer import Pattern, layer_patterns, visibility

sizes = {
    "text_len": st.integers(1, 6),
    "rows": st.integers(1, 7),
    "columns": st.integers(1, 7),
    "half": st.integers(0, 4),
}


def sees(pattern: Pattern, query: int, key: int, text_len: int, columns: int, half: int) -> bool:
    """The definition, one pair of positions at a time."""
    if key > query:
        return False
    if query < text_len or key < text_len or pattern == "full":
        return True
    query, key = query - text_len, key - text_len
    if pattern == "row":
        return key in {query - back for back in range(columns + 1)}
    if pattern == "column":
        return key % columns == query % columns
    return key in {query - up * columns + side for up in range(half + 1) for side in range(-half, half + 1)}


@settings(max_examples=60, deadline=None)
@given(**sizes)
def test_each_mask_equals_its_definition(text_len: int, rows: int, columns: int, half: int) -> None:
    stream = Stream(text_len, 10, (rows, columns), 4)
    patterns: tuple[Pattern, ...] = ("full", "row", "column", "convolutional")
    for pattern in patterns:
        mask = visibility(pattern, stream, kernel_size=2 * half + 1)
        expected = [
            [sees(pattern, q, k, text_len, columns, half) for k in range(stream.stream_len)]
            for q in range(stream.stream_len)
        ]
        assert torch.equal(mask, torch.tensor(expected)), pattern


def test_a_row_layer_sees_33_image_tokens_of_a_grid_of_32_and_5_of_a_grid_of_4() -> None:
    for columns, count in ((32, 33), (4, 5)):
        stream = Stream(3, 10, (columns, columns), 4)
        last = visibility("row", stream, kernel_size=11)[-1, 3:]
        assert int(last.sum()) == count


def test_every_image_token_sees_every_text_position_in_every_pattern() -> None:
    stream = Stream(5, 10, (4, 4), 4)
    patterns: tuple[Pattern, ...] = ("full", "row", "column", "convolutional")
    for pattern in patterns:
        assert visibility(pattern, stream, kernel_size=3)[5:, :5].all()


def test_the_order_of_layers_is_the_papers() -> None:
    patterns = layer_patterns(TransformerConfig())
    assert patterns[:6] == ("row", "column", "row", "row", "row", "column")
    assert patterns[-1] == "convolutional"
    assert patterns.count("convolutional") == 1
    assert patterns.count("column") == 16
    assert len(patterns) == 64
