"""Model directories of before are read as those of today."""

import json
from pathlib import Path

import pytest
import torch

from trencadis.config import (
    AttentiveConfig,
    CategoricalCodes,
    DiscreteVAEConfig,
    LeanConfig,
    NearestCodes,
    PublishedConfig,
    StridedConfig,
    TransformerConfig,
)
from trencadis.errors import ModelError
from trencadis.image import DiscreteVAE
from trencadis.pretrained import config_from_dict

FLAT = {
    "image_size": [64, 64],
    "image_vocab_size": 512,
    "hidden_dim": 48,
    "width_multipliers": [1, 1, 2, 4],
    "blocks_per_group": 1,
    "attention": "middle",
    "latent_dim": 32,
    "codebook_dim": 12,
    "pixels": "signed",
}
SIZES = {"hidden_dim": 48, "width_multipliers": (1, 1, 2, 4), "blocks_per_group": 1}


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("published", PublishedConfig(**SIZES)),  # type: ignore[arg-type]
        ("strided", StridedConfig(**SIZES)),  # type: ignore[arg-type]
        ("attentive", AttentiveConfig(**SIZES, attention="middle")),  # type: ignore[arg-type]
        ("lean", LeanConfig(widths=(48, 96, 192), blocks=1, attention_after="first")),
    ],
)
@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("categorical", CategoricalCodes()),
        ("euclidean", NearestCodes(codebook_dim=12)),
        ("cosine", NearestCodes(kind="cosine", codebook_dim=12)),
    ],
)
def test_a_flat_image_tokenizer(kind: str, architecture: object, codes: str, expected: object) -> None:
    config = config_from_dict(DiscreteVAEConfig, {**FLAT, "architecture": kind, "codes": codes})
    assert (config.architecture, config.codes) == (architecture, expected)
    assert (config.image_size, config.image_vocab_size, config.latent_dim) == ((64, 64), 512, 32)
    assert (config.pixels, config.down_factor) == ("signed", 8)


def test_what_was_wrong_before_is_wrong_now() -> None:
    for change in ({"architecture": "lene"}, {"codes": "hexagonal"}, {"hidden_dim": 0}, {"colour": "red"}):
        with pytest.raises(ModelError, match="expected the fields of DiscreteVAEConfig; mend "):
            config_from_dict(DiscreteVAEConfig, {**FLAT, "architecture": "published", **change})


def test_a_tokenizer_that_was_saved_before_is_loaded(tmp_path: Path) -> None:
    sizes = PublishedConfig(hidden_dim=8, width_multipliers=(1, 1), blocks_per_group=1)
    config = DiscreteVAEConfig(image_size=(8, 8), image_vocab_size=16, latent_dim=8, architecture=sizes)
    saved = DiscreteVAE(config)
    saved.save_pretrained(tmp_path)
    flat = {"kind": "DiscreteVAE", "image_size": [8, 8], "image_vocab_size": 16, "latent_dim": 8, "codebook_dim": 8}
    flat |= {"hidden_dim": 8, "width_multipliers": [1, 1], "blocks_per_group": 1, "attention": "last"}
    flat |= {"architecture": "published", "codes": "categorical", "pixels": "logit_laplace"}
    (tmp_path / "config.json").write_text(json.dumps(flat))
    loaded = DiscreteVAE.from_pretrained(tmp_path)
    assert loaded.config == config
    assert all(torch.equal(one, loaded.state_dict()[name]) for name, one in saved.state_dict().items())


def test_a_design_with_the_heads_of_every_layer() -> None:
    design = {"norm": "rms", "positions": "rotary", "num_kv_heads": None}
    config = config_from_dict(TransformerConfig, {"num_layers": 2, "design": design})
    assert (config.design.norm, config.design.positions) == ("rms", "rotary")
    with pytest.raises(ModelError, match="num_kv_heads"):
        config_from_dict(TransformerConfig, {"design": {**design, "num_kv_heads": 2}})
