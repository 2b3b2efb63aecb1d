"""The cross-entropy of a linear head, which never holds the logits of a large batch at once."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**24
"""Most logits of a chunk: 64 MiB in float32."""


def cross_entropy_sum(
    head: nn.Module, states: Float[Tensor, "rows dim"], targets: Int[Tensor, " rows"], vocab_size: int
) -> Float[Tensor, ""]:
    """Return the sum of the rows' cross-entropies in nats, in float32; 0 for no rows.

    Where the logits would take more than `LOGITS_AT_ONCE`, the rows go in chunks whose logits are computed a second
    time in the backward pass.
    """
    rows = max(1, LOGITS_AT_ONCE // vocab_size)
    if len(states) <= rows:
        return _chunk_sum(head, states, targets)
    sums = [
        checkpoint(_chunk_sum, head, *chunk, use_reentrant=False)
        for chunk in zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.stack(sums).sum()


def _chunk_sum(head: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    logits = head(states)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(wide), targets, reduction="sum")
