"""Settings of older model directories, as those of today."""

from typing import Any

from trencadis.config.image import DiscreteVAEConfig
from trencadis.config.transformer import TransformerConfig

Settings = dict[str, Any]
_ATTENTION_AFTER = {"none": "none", "middle": "first", "last": "every"}


def upgraded(config_type: type[Any], settings: Settings) -> Settings:
    """Return the settings of a part's `config.json` in today's form; those that are already are returned as they are.

    Settings that no model ever had are left in place, and refused as unknown later.
    """
    if config_type is DiscreteVAEConfig and isinstance(settings.get("architecture"), str):
        return _image_tokenizer(settings)
    design = settings.get("design")
    if config_type is TransformerConfig and isinstance(design, dict) and design.get("num_kv_heads", 0) is None:
        return settings | {"design": {name: value for name, value in design.items() if name != "num_kv_heads"}}
    return settings


def _image_tokenizer(settings: Settings) -> Settings:
    """Split the table that once held the settings of every architecture and of all codes."""
    rest: Settings = {
        "codes": "categorical",
        "hidden_dim": 256,
        "width_multipliers": (1, 2, 4, 8),
        "blocks_per_group": 2,
    }
    rest |= {"attention": "last", "codebook_dim": 8, **settings}
    kind, codes, attention, dim = (rest.pop(name) for name in ("architecture", "codes", "attention", "codebook_dim"))
    groups = {name: rest.pop(name) for name in ("hidden_dim", "width_multipliers", "blocks_per_group")}
    if kind == "lean":
        widths = [groups["hidden_dim"] * multiplier for multiplier in groups["width_multipliers"][1:]]
        groups = {"widths": widths, "blocks": groups["blocks_per_group"]}
        groups["attention_after"] = _ATTENTION_AFTER.get(attention)
    elif kind == "attentive":
        groups["attention"] = attention
    vectors = {} if codes == "categorical" else {"codebook_dim": dim}
    return rest | {"architecture": {"kind": kind, **groups}, "codes": {"kind": codes, **vectors}}
