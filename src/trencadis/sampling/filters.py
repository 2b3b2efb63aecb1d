"""From logits to a token: guidance, temperature, top-k, top-p, and the draw."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.sampling.noise import gumbel_noise
from trencadis.sampling.options import GuidanceSchedule


def guide(
    conditional: Float[Tensor, "*batch vocab"],
    unconditional: Float[Tensor, "*batch vocab"],
    guidance_scale: float | Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch vocab"]:
    """Move away from what would be drawn without the caption; 1 leaves the conditional logits as they are.

    Source: Ho and Salimans 2022; for tokens, Crowson 2021 and Gafni et al. 2022.
    """
    scale = guidance_scale[..., None] if isinstance(guidance_scale, Tensor) else guidance_scale
    return unconditional + scale * (conditional - unconditional)


def guidance_scales(guidance_scale: float, schedule: GuidanceSchedule, image_len: int) -> Float[Tensor, " image_len"]:
    """Return the scale at each raster index.

    Under a rising schedule the first token is drawn without guidance and the last with the whole of it, so that
    `guidance_scale` is the highest that any token has, and its range is that of a constant one. Muse, MAR and VAR count
    so too (Chang et al. 2023; Li et al. 2024; Tian et al. 2024). The mean is half-way between 1 and `guidance_scale`:
    to compare with a constant scale s at the same mean, as Wang et al. 2024 do, give 2s - 1.

    Args:
        schedule: `linear` rises evenly, `cosine` slowly at both ends. A single token has the whole scale.
    """
    if schedule == "constant" or image_len == 1:
        return torch.full((image_len,), guidance_scale)
    risen = torch.linspace(0, 1, image_len, dtype=torch.float64)
    if schedule == "cosine":
        risen = (1 - torch.cos(math.pi * risen)) / 2
    return (1 + (guidance_scale - 1) * risen).float()


def filter_logits(
    logits: Float[Tensor, "*batch vocab"],
    *,
    temperature: float | Float[Tensor, "*#batch"],
    top_k: int | Int[Tensor, "*#batch"] | None = None,
    top_p: float | Float[Tensor, "*#batch"] | None = None,
) -> Float[Tensor, "*batch vocab"]:
    """Divide by the temperature, then rule out tokens by top-k, then by top-p; the softmax of it is drawn from.

    Each setting is one number, or one for each row. Top-p is that of Holtzman et al. 2020.

    Args:
        logits: Of the next token, after guidance.
        temperature: Above 0; 1 draws from the model's own distribution.
        top_k: Keep so many likeliest tokens, and those that tie with the last of them; from 1, None keeps all.
        top_p: Keep the smallest set of likeliest tokens whose probability reaches this; in (0, 1], None keeps all.
    """
    logits = logits / _of_rows(temperature, logits)
    if top_k is None and top_p is None:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    if top_k is not None:
        last = _of_rows(top_k, logits).long().clamp(max=logits.shape[-1]) - 1
        least = ordered.gather(-1, last.expand(*logits.shape[:-1], 1))
        logits, ordered = (x.masked_fill(x < least, -math.inf) for x in (logits, ordered))
    if top_p is not None:
        probabilities = ordered.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        beyond = before >= _of_rows(top_p, logits)
        beyond = beyond.scatter(-1, order, beyond.clone())
        logits = logits.masked_fill(beyond, -math.inf)
    return logits


def _of_rows(setting: float | int | Tensor, logits: Tensor) -> Tensor:
    return torch.as_tensor(setting, device=logits.device)[..., None]


def draw(
    logits: Float[Tensor, "*batch vocab"],
    seeds: Int[Tensor, "*#batch"],
    position: int | Int[Tensor, "*#batch"],
) -> Int[Tensor, "*batch"]:
    """Draw one token a row from filtered logits; the noise depends on the row's seed and position alone.

    Args:
        position: Raster index of the token that is drawn.
    """
    return (logits + gumbel_noise(seeds, position, logits.shape[-1])).argmax(-1)
