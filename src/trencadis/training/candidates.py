"""The choice of a recipe: updates of candidates are timed on this machine, or computed for another one."""

from collections.abc import Callable, Sequence
from itertools import takewhile

from trencadis.config import RunConfig
from trencadis.errors import FullMemoryError
from trencadis.training.costs import training_flops
from trencadis.training.elsewhere import Elsewhere
from trencadis.training.run_pairs import RunPairs
from trencadis.training.timing import time_candidate

SHARES = {"image": 0.32, "transformer": 0.53, "ranker": 0.15}
"""Shares of the training time, by stage."""

PICTURES_WORTH_IT = {"image": 100_000, "transformer": 300_000}
"""A recipe with more image tokens is chosen only where so many pictures pass through its stages in their shares."""

OPTIMISM = 2.0  # a larger recipe makes at most so many times the FLOP/s of a smaller one; else it is not even timed


def choose_candidate(
    candidates: Sequence[Callable[[], RunConfig]],
    hours: float,
    pairs: RunPairs,
    median_side: int,
    elsewhere: Elsewhere | None = None,
) -> tuple[int, list[tuple[str, str, str]]]:
    """Return which recipe is the largest that the time is enough for, and that is no larger than the pictures.

    Args:
        candidates: Functions that return complete configs, smallest first. The first is for any time and picture.
        hours: For all stages.
        median_side: Pixels that half of the pictures have along their short side, at least.
        elsewhere: The machine that is planned for; None times this one.

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
            sample_s = time_candidate(config, pairs) if elsewhere is None else elsewhere.sample_s(config)
        except FullMemoryError:
            said.append((config.recipe, "too large", "there is no room for an update"))
            break
        needed_h = max(PICTURES_WORTH_IT[name] * each / SHARES[name] for name, each in sample_s.items()) / 3600
        times = ", ".join(f"{name} {1000 * each:.3g} ms a picture" for name, each in sample_s.items())
        how = "timed here" if elsewhere is None else f"computed for {elsewhere}"
        said.append((config.recipe, times, f"{how}; worth its image tokens from about {needed_h:.2g} h on"))
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
