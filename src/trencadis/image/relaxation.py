"""The Gumbel-softmax relaxation of a categorical choice, for training.

Source: Jang et al. 2017; Maddison et al. 2017; Ramesh et al. 2021, section 2.1.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.errors import ConfigError

Codes = Float[Tensor, "*batch image_vocab_size"]


def standard_gumbel(shape: Sequence[int], *, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Return standard Gumbel noise, float32, on the generator's device.

    Computed as −ln of an exponential variate, which is never zero; −ln(−ln u) is infinite for u = 0.
    """
    exponential = torch.empty(tuple(shape), device=generator.device).exponential_(generator=generator)
    return exponential.clamp_min_(torch.finfo(torch.float32).tiny).log_().neg_()


def relax(logits: Codes, noise: Codes | None, relaxation_temperature: float, straight_through: bool = False) -> Codes:
    """Return softmax((logits + noise) / τ), soft one-hot codes that a small τ makes nearly hard.

    In float32, forward and backward, even under autocast: τ = 1/16 magnifies rounding sixteen times.

    Args:
        noise: Standard Gumbel noise; None gives the plain softmax.
        relaxation_temperature: τ, above 0.
        straight_through: Return the hard one-hot codes, with the gradient of the relaxation. Without noise and with
            τ = 1 this is index backpropagation quantization (Shi et al. 2024).

    Raises:
        ConfigError: τ is not above 0.
    """
    if relaxation_temperature <= 0:
        given = f"relaxation_temperature {relaxation_temperature}"
        raise ConfigError(given, expected="a temperature above 0", remedy="take the arg max instead")
    with torch.autocast(logits.device.type, enabled=False):
        noisy = logits.float() if noise is None else logits.float() + noise.float()
        relaxed = divided(noisy, relaxation_temperature).softmax(dim=-1)
        if not straight_through:
            return relaxed
        hard = torch.zeros_like(relaxed).scatter_(-1, relaxed.argmax(dim=-1, keepdim=True), 1.0)
        return hard + (relaxed - relaxed.detach())


def divided(logits: Codes, temperature: float) -> Codes:
    """Return logits / temperature; the same tensor for a temperature of 1."""
    return logits if temperature == 1 else logits / temperature
