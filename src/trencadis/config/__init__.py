"""Every setting of a model and of a run, as frozen dataclasses.

Imports nothing heavy, so that `--help` stays fast. Sizes are (height, width) in pixels and (rows, columns) in tokens.
"""

from trencadis.config.clip import CLIPConfig, CLIPSizes, TowerConfig
from trencadis.config.data import DataConfig, FilterConfig, ReadingConfig
from trencadis.config.image import (
    AttentiveConfig,
    CategoricalCodes,
    DiscreteVAEConfig,
    LeanConfig,
    NearestCodes,
    PublishedConfig,
    StridedConfig,
)
from trencadis.config.lora import AdapterConfig, LoRAConfig
from trencadis.config.losses import ImageLossConfig
from trencadis.config.run import RunConfig, StartConfig
from trencadis.config.training import (
    DecoderStage,
    ImageStage,
    OptimizerConfig,
    RankerStage,
    StageConfig,
    TextStage,
    TransformerStage,
)
from trencadis.config.transformer import DesignConfig, TransformerConfig, TransformerSizes

__all__ = [
    "AdapterConfig",
    "AttentiveConfig",
    "CLIPConfig",
    "CLIPSizes",
    "CategoricalCodes",
    "DataConfig",
    "DecoderStage",
    "DesignConfig",
    "DiscreteVAEConfig",
    "FilterConfig",
    "ImageLossConfig",
    "ImageStage",
    "LeanConfig",
    "LoRAConfig",
    "NearestCodes",
    "OptimizerConfig",
    "PublishedConfig",
    "RankerStage",
    "ReadingConfig",
    "RunConfig",
    "StageConfig",
    "StartConfig",
    "StridedConfig",
    "TextStage",
    "TowerConfig",
    "TransformerConfig",
    "TransformerSizes",
    "TransformerStage",
]
