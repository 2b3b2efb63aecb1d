"""Every setting of a model and of a run, as frozen dataclasses.

Imports nothing heavy, so that `--help` stays fast. Sizes are (height, width) in pixels and (rows, columns) in tokens.
"""

from trencadis.config.clip import CLIPConfig, TowerConfig
from trencadis.config.data import DataConfig, FilterConfig
from trencadis.config.image import DiscreteVAEConfig
from trencadis.config.losses import ImageLossConfig
from trencadis.config.run import RunConfig
from trencadis.config.training import ImageStage, OptimizerConfig, RankerStage, StageConfig, TextStage, TransformerStage
from trencadis.config.transformer import DesignConfig, TransformerConfig

__all__ = [
    "CLIPConfig",
    "DataConfig",
    "DesignConfig",
    "DiscreteVAEConfig",
    "FilterConfig",
    "ImageLossConfig",
    "ImageStage",
    "OptimizerConfig",
    "RankerStage",
    "RunConfig",
    "StageConfig",
    "TextStage",
    "TowerConfig",
    "TransformerConfig",
    "TransformerStage",
]
