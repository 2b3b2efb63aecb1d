"""Configs as plain data and back, and settings laid over them."""

import json

import pytest
import yaml

from trencadis.config import AttentiveConfig, DiscreteVAEConfig, LeanConfig, NearestCodes, PublishedConfig, RunConfig
from trencadis.config.plain import differing, from_plain, merge, nest, overlay, setting_names, to_plain
from trencadis.errors import ConfigError
from trencadis.recipes import RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_comes_back_from_yaml_and_json(recipe: str) -> None:
    config = RECIPES[recipe]()
    plain = to_plain(config)
    assert from_plain(RunConfig, yaml.safe_load(yaml.safe_dump(plain))) == config
    assert from_plain(RunConfig, json.loads(json.dumps(plain))) == config


def test_texts_are_read_as_their_settings_are() -> None:
    values = {
        "image.model.image_size": "[96, 64]",
        "image.optimizer.learning_rate": "1e-4",
        "image.optimizer.muon": "false",
        "transformer.optimizer.max_grad_norm": "null",
        "transformer.steps": "12",
        "transformer.precision": "bfloat16",
    }
    config = overlay(RECIPES["pocket"](), nest(values.items()))
    assert config.image.model.image_size == (96, 64)
    assert config.image.optimizer.learning_rate == 1e-4
    assert config.transformer.optimizer.max_grad_norm is None
    assert (config.transformer.steps, config.transformer.precision) == (12, "bfloat16")
    assert set(differing(config, RECIPES["pocket"]())) == set(values) - {"image.optimizer.muon"}


def test_another_kind_keeps_what_both_have() -> None:
    published = DiscreteVAEConfig(architecture=PublishedConfig(hidden_dim=32, width_multipliers=(1, 2, 4, 4)))
    attentive = overlay(published, {"architecture": {"kind": "attentive", "attention": "none"}})
    assert attentive.architecture == AttentiveConfig(hidden_dim=32, width_multipliers=(1, 2, 4, 4), attention="none")
    lean = overlay(attentive, {"architecture": {"kind": "lean"}, "codes": {"kind": "cosine", "codebook_dim": 4}})
    assert lean.architecture == LeanConfig()
    assert lean.codes == NearestCodes(kind="cosine", codebook_dim=4)
    wider = overlay(lean, {"architecture": {"kind": "lean", "widths": [8, 16, 16]}, "codes": {"kind": "euclidean"}})
    assert wider.architecture == LeanConfig(widths=(8, 16, 16))
    assert wider.codes == NearestCodes(codebook_dim=4)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"image": {"model": {"architecture": {"kind": "lene"}}}}, r"image\.model\.architecture\.kind lene; expected"),
        ({"image": {"model": {"architecture": {"kind": "lean", "attention": "none"}}}}, r"unknown .*\.attention; expe"),
        ({"image": {"model": {"codes": {"kind": [1]}}}}, r"image\.model\.codes\.kind \[1\]; expected one of categ"),
        ({"image": {"model": {"codes": "cosine"}}}, r"image\.model\.codes cosine; expected a mapping of settings"),
        ({"image": {"bach_size": 8}}, r"unknown setting image\.bach_size; expected batch_size"),
        ({"threads": 1.5}, "threads 1.5; expected a whole number; change threads"),
        ({"threads": True}, "threads True; expected a whole number"),
        ({"threads": None}, "threads null; expected a whole number"),
        ({"data": {"flip": 3}}, r"data\.flip 3; expected true or false"),
        ({"device": "tpu"}, "device tpu; expected one of cpu, cuda"),
        ({"image": {"model": {"image_size": [64]}}}, r"image\.model\.image_size \[64\]; expected a list of 2 values"),
        ({"transformer": 5}, "transformer 5; expected a mapping"),
        ([1], r"\[1\]; expected a mapping"),
    ],
)
def test_a_fault_names_the_setting(settings: object, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        from_plain(RunConfig, settings)


def test_the_names_are_those_of_every_kind() -> None:
    names = list(setting_names(RunConfig))
    assert len(names) == len(set(names))
    assert {"image.model.architecture.kind", "image.model.architecture.widths", "image.model.codes.codebook_dim"} <= {
        *names
    }
    assert "transformer.model.text_len" not in names, "a shared size is set once"


def test_merging_replaces_leaves() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "d": {"e": 5}}) == {
        "a": {"b": 1, "c": 4},
        "d": {"e": 5},
    }
