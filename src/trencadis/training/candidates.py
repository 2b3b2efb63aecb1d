"""The choice of a recipe: real updates of candidates are timed on this machine, from the smallest on."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import takewhile

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trencadis.config import RunConfig
from trencadis.errors import FullMemoryError
from trencadis.image import DiscreteVAE, Quantized
from trencadis.ranking import CLIP
from trencadis.training.run_pairs import RunPairs
from trencadis.training.timing import time_candidate
from trencadis.transformer import Transformer
from trencadis.transformer.kernels.cpu import counted_products

SHARES = {"image": 0.32, "transformer": 0.53, "ranker": 0.15}
"""Shares of the training time, by stage."""

PICTURES_WORTH_IT = {"image": 100_000, "transformer": 300_000}
"""A recipe with more image tokens is chosen only where so many pictures pass through its stages in their shares."""

OPTIMISM = 2.0  # a larger recipe makes at most so many times the FLOP/s of a smaller one; else it is not even timed


def choose_candidate(
    candidates: Sequence[Callable[[], RunConfig]], hours: float, pairs: RunPairs, median_side: int
) -> tuple[int, list[tuple[str, str, str]]]:
    """Return which recipe is the largest that the time is enough for, and that is no larger than the pictures.

    Args:
        candidates: Functions that return complete configs, smallest first. The first is for any time and picture.
        hours: For all stages.
        median_side: Pixels that half of the pictures have along their short side, at least.

    Returns:
        Its number, and what was measured: what, value and why of each candidate that was timed.
    """
    chosen, said = 0, list[tuple[str, str, str]]()
    filled = list(takewhile(lambda config: _is_filled(config, median_side), (make() for make in candidates[1:])))
    if not filled:
        return chosen, said  # nothing to choose, and so nothing to time
    configs, needed_h = [candidates[0](), *filled], 0.0
    for number, config in enumerate(configs):
        if number and needed_h * _times(config, configs[number - 1]) / OPTIMISM > hours:
            break
        try:
            sample_s = time_candidate(config, pairs)
        except FullMemoryError:
            said.append((config.recipe, "too large", "there is no room for an update"))
            break
        needed_h = max(PICTURES_WORTH_IT[name] * each / SHARES[name] for name, each in sample_s.items()) / 3600
        times = ", ".join(f"{name} {1000 * each:.3g} ms a picture" for name, each in sample_s.items())
        said.append((config.recipe, times, f"timed here; worth its image tokens from about {needed_h:.2g} h on"))
        if needed_h > hours:
            break
        chosen = number
    return chosen, said


def _is_filled(config: RunConfig, median_side: int) -> bool:
    return config.image.pretrained is not None or config.image.model.image_size[0] <= median_side


def _times(config: RunConfig, other: RunConfig) -> float:
    """Return how many times the operations of another recipe one has, where that is least."""
    ours, theirs = training_flops(config), training_flops(other)
    return min(ours[name] / theirs[name] for name in PICTURES_WORTH_IT if theirs[name])


@cache
def training_flops(config: RunConfig) -> dict[str, float]:
    """Return the FLOPs of training on one pair, by stage, forward and backward; counted without computing."""
    counted = {}
    with FakeTensorMode():  # tensors without numbers
        vae, transformer = DiscreteVAE(config.image.model), Transformer(config.transformer_model())
        clip = CLIP(config.ranker_model())
        images = torch.zeros(1, 3, *config.image.model.image_size)
        tokens = torch.zeros(1, *config.image.model.grid_size, dtype=torch.long)
        text = torch.zeros(1, config.text.text_len, dtype=torch.long)
        runs: dict[str, Callable[[], object]] = {
            "image": lambda: vae(images, partial(_quantized, vae)) if config.image.pretrained is None else None,
            "transformer": lambda: transformer.logits(text, tokens),
            "ranker": lambda: (clip.image(images), clip.text(text)),
        }
        for stage, run in runs.items():
            # Only the plain form of attention is made of operations that are counted.
            counting = FlopCounterMode(display=False, custom_mapping=counted_products())
            with counting as counter, sdpa_kernel(SDPBackend.MATH):
                run()
            counted[stage] = 3.0 * counter.get_total_flops()
    return counted


def _quantized(vae: DiscreteVAE, latents: Tensor) -> Quantized:
    """Return codes of the right shape, at about the cost of training."""
    bottleneck = vae.bottleneck
    embedded = bottleneck.mix(bottleneck.logits(latents))
    return Quantized(embedded, latents.new_zeros(latents.shape[:-1], dtype=torch.long), latents)
