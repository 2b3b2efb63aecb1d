"""Where models are computed."""

from typing import Literal

import torch

from trencadis.errors import ConfigError

Device = Literal["cpu", "cuda"]


def usable_device(asked: str | None) -> Device:
    """Return the device that is asked for, or the GPU where there is one and nothing is asked for."""
    if asked == "cuda" and not torch.cuda.is_available():
        expected = "a machine with a CUDA device, and a torch built for it"
        raise ConfigError("device cuda", expected=expected, remedy="leave --device out, or choose cpu")
    return "cuda" if torch.cuda.is_available() and asked != "cpu" else "cpu"


def has_bfloat16_units(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16 natively; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
