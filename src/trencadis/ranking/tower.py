"""The transformer of both encoders of CLIP.

Source: Radford et al. 2021, section 2.4.
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.config import TowerConfig

MLP_RATIO = 4
"""Hidden width of the MLP over that of the residual stream."""


class TowerBlock(nn.Module):
    """Attention and MLP, each after a layer norm and added to the residual stream."""

    def __init__(self, config: TowerConfig, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(config.dim)
        self.query_key_value = nn.Linear(config.dim, 3 * config.dim)
        self.attention_output = nn.Linear(config.dim, config.dim)
        self.mlp_norm = nn.LayerNorm(config.dim)
        self.mlp_input = nn.Linear(config.dim, MLP_RATIO * config.dim)
        self.mlp_output = nn.Linear(MLP_RATIO * config.dim, config.dim)

    def forward(self, x: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions dim"]:
        x = x + self._attend(self.attention_norm(x))
        residual: Tensor = self.mlp_output(F.gelu(self.mlp_input(self.mlp_norm(x))))
        return x + residual

    def _attend(self, x: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions dim"]:
        pattern = "batch positions (parts heads head_dim) -> parts batch heads positions head_dim"
        query, key, value = rearrange(self.query_key_value(x), pattern, parts=3, heads=self.num_heads)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        merged = rearrange(attended, "batch heads positions head_dim -> batch positions (heads head_dim)")
        output: Tensor = self.attention_output(merged)
        return output


class Tower(nn.Module):
    """A stack of blocks; `causal` positions attend to themselves and those before, others to all."""

    def __init__(self, config: TowerConfig, *, causal: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TowerBlock(config, causal=causal) for _ in range(config.num_layers))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as CLIP does: layers that write to the residual stream shrink with the number of layers."""
        for block in self.blocks:
            assert isinstance(block, TowerBlock)
            dim = block.query_key_value.in_features
            added = dim**-0.5 * (2 * len(self.blocks)) ** -0.5
            deviations = {
                block.query_key_value: dim**-0.5,
                block.attention_output: added,
                block.mlp_input: (2 * dim) ** -0.5,
                block.mlp_output: added,
            }
            for linear, deviation in deviations.items():
                nn.init.normal_(linear.weight, std=deviation)
                nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions dim"]:
        for block in self.blocks:
            x = block(x)
        return x
