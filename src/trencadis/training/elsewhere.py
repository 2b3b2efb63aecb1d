"""A machine that is not here: how long updates take on it, computed by a roofline from counted costs.

Source: Williams et al. 2009, "Roofline: an insightful visual performance model for multicore architectures".
"""

from dataclasses import dataclass
from typing import Literal

from trencadis.config import RunConfig, StageConfig
from trencadis.training.accelerators import BANDWIDTH_SHARE, KERNEL_S, NARROW_FASTER, UTILISATION, Accelerator
from trencadis.training.costs import STATE_MOVED, StageCost, stage_costs
from trencadis.training.known_pairs import VALIDATION_PAIRS
from trencadis.training.loop import VALIDATIONS
from trencadis.training.run_pairs import RunPairs
from trencadis.training.timing import Timing

GRADIENT_BYTES = 4  # of a parameter, as it is summed over the devices


@dataclass(frozen=True)
class Elsewhere:
    """Some devices of one kind in one machine, each with a part of every update and a copy of the model.

    What is computed leaves out the reading of pictures, and Muon's own products.
    """

    name: str
    kind: Accelerator
    count: int

    def __str__(self) -> str:
        return f"{self.count} × {self.name}" if self.count > 1 else f"one {self.name}"

    def precision(self, stage: str) -> Literal["float32", "bfloat16", "float16"]:
        """Return the type of a stage's products; only the transformer has the scales that float16 needs."""
        if self.kind.has_bfloat16:
            return "bfloat16"
        return "float16" if stage == "transformer" else "float32"

    def sample_s(self, config: RunConfig) -> dict[str, float]:
        """Return the seconds that a picture takes in training, by stage, as `timing.time_candidate` does."""
        names = ("image", "transformer") if config.image.pretrained is None else ("transformer",)
        return {name: self.update_s(config, name) / getattr(config, name).batch_size for name in names}

    def timing(self, config: RunConfig, pairs: RunPairs) -> Timing:
        """Return what `timing.time_stages` would, for every stage."""
        costs = stage_costs(config)
        encoding_s = len(pairs.train) * self._seconds(costs["image"].flops / 6, config.image) / self.count
        step_s = {name: self.update_s(config, name) for name in costs}
        looks_s = {
            name: VALIDATION_PAIRS * self._seconds(cost.flops / 3, getattr(config, name))
            for name, cost in costs.items()
        }
        rows, columns = config.image.model.grid_size
        looks_s["transformer"] += rows * columns * costs["transformer"].kernels / 3 * KERNEL_S  # a drawing
        look_s = {name: VALIDATIONS * seconds for name, seconds in looks_s.items()}
        return Timing(step_s, look_s, encoding_s, f"on {self}, computed")

    def update_s(self, config: RunConfig, name: str) -> float:
        """Return the seconds of one update: its products, its memory or its kernels, whichever takes longest."""
        stage: StageConfig = getattr(config, name)
        cost = stage_costs(config)[name]
        samples = -(-stage.batch_size // self.count)
        products_s = self._seconds(cost.flops * samples, stage)
        moved = cost.moved_bytes * samples * (0.5 if _is_narrow(stage) else 1.0) + STATE_MOVED * cost.parameters
        memory_s = moved / (self.kind.bandwidth * BANDWIDTH_SHARE)
        return max(products_s, memory_s, cost.kernels * stage.microbatches * KERNEL_S) + self._summing_s(cost)

    def _summing_s(self, cost: StageCost) -> float:
        """Return the seconds in which the gradients are summed over the devices, in a ring."""
        return 2 * (self.count - 1) / self.count * cost.parameters * GRADIENT_BYTES / self.kind.link

    def _seconds(self, flops: float, stage: StageConfig) -> float:
        peak = self.kind.peak_flops / (1.0 if _is_narrow(stage) else NARROW_FASTER)
        return flops / (peak * UTILISATION)


def _is_narrow(stage: StageConfig) -> bool:
    return stage.precision in ("bfloat16", "float16")
