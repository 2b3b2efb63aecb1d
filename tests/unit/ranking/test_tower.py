import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trencadis.config import TowerConfig
from trencadis.ranking.tower import Tower, TowerBlock

CONFIG = TowerConfig(num_layers=2, num_heads=3, head_dim=4)


@pytest.mark.parametrize("causal", [False, True])
def test_a_block_is_attention_and_mlp_added_to_the_stream(causal: bool) -> None:
    torch.manual_seed(0)
    block = Tower(CONFIG, causal=causal).blocks[0]
    assert isinstance(block, TowerBlock)
    reference = nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    reference.load_state_dict(
        {
            "in_proj_weight": block.query_key_value.weight,
            "in_proj_bias": block.query_key_value.bias,
            "out_proj.weight": block.attention_output.weight,
            "out_proj.bias": block.attention_output.bias,
        }
    )
    x = torch.randn(2, 5, 12)
    mask = nn.Transformer.generate_square_subsequent_mask(5) if causal else None
    y = block.attention_norm(x)
    expected = x + reference(y, y, y, attn_mask=mask, need_weights=False)[0]
    expected = expected + block.mlp_output(F.gelu(block.mlp_input(block.mlp_norm(expected))))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)
