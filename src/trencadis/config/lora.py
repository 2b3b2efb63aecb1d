"""Config of low-rank updates, and of the adapter that holds them."""

from dataclasses import dataclass
from typing import Annotated

from trencadis.config.base import Config, PlaceText, Range

MAX_RANK = 1024


@dataclass(frozen=True, kw_only=True)
class LoRAConfig(Config):
    """Low-rank updates in place of training every weight: W + alpha / rank · B A. Source: Hu et al. 2021.

    Args:
        rank: Rows of A and columns of B, for each matrix of attention and MLP; 0 trains every weight.
        alpha: Scale of the updates; None is the rank, so that alpha / rank is 1.
    """

    rank: Annotated[int, Range(0, MAX_RANK)] = 0
    alpha: Annotated[float, Range(1e-3, 10_000)] | None = None

    @property
    def scale(self) -> float:
        """Return alpha / rank."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(LoRAConfig):
    """What `adapter.json` says of an adapter.

    Args:
        base: Name of the model that it was trained on. It is only shown.
        base_sha256: Of that model, as `DALLE.digest` returns it. Others are refused.
    """

    rank: Annotated[int, Range(1, MAX_RANK)] = 1
    base: PlaceText = ""
    base_sha256: str = ""
