"""Config of a whole run."""

from dataclasses import dataclass, field
from typing import Literal

from trencadis.config.data import DataConfig
from trencadis.config.training import ImageStage, RankerStage, TextStage, TransformerStage


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run: BPE, image tokenizer, cached tokens, transformer, CLIP.

    Args:
        recipe: Name of the recipe that the sizes came from, for people to read.
        seed: Of the weights, the order of the data, the augmentation and all noise.
        hours: Time budget that the steps were fitted into.
        threads: CPU threads; part of the plan because sums depend on it.
        device: `cpu` or `cuda`.
        save_every_s: Seconds between checkpoints, about.
        data: The pairs.
        text: The byte-pair encoding.
        image: The image tokenizer.
        transformer: The transformer.
        ranker: CLIP.
    """

    recipe: str = "dalle_v1"
    seed: int = 0
    hours: float = 1.0
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    save_every_s: float = 60.0
    data: DataConfig = field(default_factory=DataConfig)
    text: TextStage = field(default_factory=TextStage)
    image: ImageStage = field(default_factory=ImageStage)
    transformer: TransformerStage = field(default_factory=TransformerStage)
    ranker: RankerStage = field(default_factory=RankerStage)
