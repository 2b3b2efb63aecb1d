"""What `config.json` held before: settings of older model directories, as those of today."""

from collections.abc import Mapping
from typing import Any

from trencadis.config.image import DiscreteVAEConfig
from trencadis.config.transformer import TransformerConfig

Settings = dict[str, Any]
_GROUPS = ("hidden_dim", "width_multipliers", "blocks_per_group")
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
    """Give the one flat table of every architecture and all codes its parts; a field that was nobody's is dropped."""
    rest = dict(settings)
    kind, codes = rest.pop("architecture"), rest.pop("codes", "categorical")
    sizes = {name: rest.pop(name) for name in (*_GROUPS, "attention", "codebook_dim") if name in rest}
    architecture: Settings = {"kind": kind}
    if kind == "lean":
        hidden_dim, multipliers = sizes.get("hidden_dim", 256), sizes.get("width_multipliers", (1, 2, 4, 8))
        architecture["widths"] = [hidden_dim * multiplier for multiplier in multipliers[1:]]
        architecture["blocks"] = sizes.get("blocks_per_group", 2)
        architecture["attention_after"] = _ATTENTION_AFTER.get(sizes.get("attention", "last"))
    else:
        architecture |= _taken(sizes, _GROUPS)
        architecture |= _taken(sizes, ("attention",)) if kind == "attentive" else {}
    dim = {} if codes == "categorical" else _taken(sizes, ("codebook_dim",))
    return rest | {"architecture": architecture, "codes": {"kind": codes, **dim}}


def _taken(settings: Mapping[str, Any], names: tuple[str, ...]) -> Settings:
    return {name: settings[name] for name in names if name in settings}
