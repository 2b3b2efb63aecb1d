"""Rotary position embedding along two axes."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from trencadis.stream import Stream

BASE = 10_000.0  # Su et al. 2021
WHOLE_VECTORS = 32  # floats in two vectors of 512 bits, which is how far torch unrolls

Rotary = tuple[Tensor, Tensor]
"""Cosine and sine of the angles of some positions."""


def rotary_angles(stream: Stream, head_dim: int) -> Float[Tensor, "stream_len half_head_dim"]:
    """Return the angle of each pair of a head's numbers at each position, in radians.

    Half of the pairs turn with the row and half with the column. Text goes along the diagonal of the same plane, and
    the picture begins behind it: text position i is at (i, i), and row r and column c of the picture are at
    (text_len + r, text_len + c). Sources: Su et al. 2021; for two axes, Heo et al. 2024; for the diagonal, Wang et al.
    2024 (Qwen2-VL).
    `head_dim` is a multiple of 4.
    """
    text = torch.arange(stream.text_len)
    rows = torch.cat([text, stream.text_len + stream.rows()])
    columns = torch.cat([text, stream.text_len + stream.columns()])
    quarter = head_dim // 4
    frequencies = BASE ** -(torch.arange(quarter) / quarter)
    return torch.cat([rows[:, None] * frequencies, columns[:, None] * frequencies], dim=1)


def rotate(
    x: Float[Tensor, "*batch positions head_dim"],
    cosine: Float[Tensor, "*#some positions half_head_dim"],
    sine: Float[Tensor, "*#some positions half_head_dim"],
) -> Float[Tensor, "*batch positions head_dim"]:
    """Rotate each pair of neighbouring numbers of a head by its angle.

    On a CPU this is one complex product, which is several times as fast there as the same in real numbers. Where a head
    is not a whole number of vectors, a complex product rounds differently at the end of a tensor than elsewhere; real
    ones do not, so that what is rotated beside a row does not change it.
    """
    pairs = rearrange(x, "... (pairs two) -> ... pairs two", two=2)
    if x.device.type == "cpu" and x.dtype == torch.float32 and x.shape[-1] % WHOLE_VECTORS == 0:
        return torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * torch.complex(cosine, sine)).flatten(-2)
    first, second = pairs.unbind(-1)
    rotated = first * cosine - second * sine, first * sine + second * cosine
    return torch.stack(rotated, dim=-1).flatten(-2).to(x.dtype)
