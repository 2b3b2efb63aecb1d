from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.unit.importers.published import mosaic, save, save_taming, taming_pictures, taming_state, taming_tokens
from trencadis.config import AttentiveConfig, NearestCodes
from trencadis.errors import ModelError
from trencadis.importers import read_taming_vqgan

IMAGES = mosaic(2, rows=2, columns=4)


@pytest.mark.parametrize(
    ("legacy", "sizes"),
    [
        (False, {}),
        (True, {}),
        (False, {"gumbel": True}),
        (False, {"attention": "middle", "multipliers": (1, 1, 2), "blocks": 2}),
        (True, {"attention": "none", "multipliers": (2, 3), "gumbel": True}),
    ],
    ids=["vq", "vq-legacy", "gumbel", "middle", "none"],
)
def test_tokens_and_pictures_are_the_published_models(tmp_path: Path, legacy: bool, sizes: dict[str, Any]) -> None:
    multipliers = sizes.get("multipliers", (1, 2, 2))
    state = taming_state(**sizes)
    model = read_taming_vqgan([save_taming(tmp_path / "last.ckpt", state, legacy=legacy)], (64, 64))
    config = model.config
    architecture = config.architecture
    assert isinstance(architecture, AttentiveConfig)
    assert (config.pixels, architecture.attention) == ("signed", sizes.get("attention", "last"))
    assert config.codes.kind == ("categorical" if "gumbel" in sizes else "euclidean")
    assert architecture.widths == tuple(32 * multiplier for multiplier in multipliers)
    assert architecture.blocks_per_group == sizes.get("blocks", 1)
    tokens = taming_tokens(state, IMAGES)
    assert len(set(tokens.flatten().tolist())) > 5
    assert torch.equal(model.encode(IMAGES), tokens)
    every_code = torch.arange(30).view(1, 3, 10)
    torch.testing.assert_close(model.decode(every_code), taming_pictures(state, every_code), atol=1e-4, rtol=0)


def test_sizes_are_read_from_the_shapes(tmp_path: Path) -> None:
    config = read_taming_vqgan([save_taming(tmp_path / "a.ckpt", taming_state())]).config
    assert (config.image_size, config.image_vocab_size, config.latent_dim) == ((256, 256), 30, 6)
    assert config.codes == NearestCodes(codebook_dim=5)


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "model."])
def test_a_state_dict_may_be_bare_and_part_of_a_larger_one(tmp_path: Path, prefix: str) -> None:
    state = taming_state(gumbel=True)
    held = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    if prefix:
        held["cond_stage_model.other.weight"] = torch.zeros(3)
    held[f"{prefix}quantize.embed.weight"] = state["quantize.embed.weight"].half().float()
    expected = taming_tokens(state, IMAGES)
    save_file(held, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", save(held, tmp_path / "bare.ckpt")):
        assert torch.equal(read_taming_vqgan([path]).encode(IMAGES), expected)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in taming_state().items()}
    found = read_taming_vqgan([save(state, tmp_path / "half.ckpt")]).state_dict()
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    assert torch.equal(found["bottleneck.codebook"], state["quantize.embedding.weight"].float())


def with_attention_in_the_first_group(state: dict[str, torch.Tensor]) -> None:
    for name in [name for name in state if name.startswith("encoder.mid.attn_1")]:
        state[name.replace("encoder.mid.attn_1", "encoder.down.0.attn.0")] = state[name]


def with_attention_of_a_strange_name(state: dict[str, torch.Tensor]) -> None:
    state["encoder.\x1b[31m\n.attn.0.norm.weight"] = torch.zeros(1)


def without_attention_in_the_decoder(state: dict[str, torch.Tensor]) -> None:
    for name in [name for name in state if name.startswith("decoder.mid.attn_1")]:
        del state[name]


def of_another_depth(state: dict[str, torch.Tensor]) -> None:
    state["encoder.conv_in.weight"] = torch.zeros(32, 1, 3, 3)


def of_narrow_groups(state: dict[str, torch.Tensor]) -> None:
    state["encoder.down.0.block.0.conv1.weight"] = torch.zeros(40, 32, 3, 3)


def with_a_wide_shortcut(state: dict[str, torch.Tensor]) -> None:
    state["encoder.down.1.block.0.conv_shortcut.weight"] = torch.zeros(64, 32, 3, 3)


def without_a_codebook(state: dict[str, torch.Tensor]) -> None:
    del state["quantize.embedding.weight"]


def without_an_encoder(state: dict[str, torch.Tensor]) -> None:
    del state["encoder.conv_in.weight"]


def with_remapped_codes(state: dict[str, torch.Tensor]) -> None:
    state["quantize.used"] = torch.arange(3)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (with_attention_in_the_first_group, "has encoder.down.0.attn.0; expected attention in the middle, and"),
        (with_attention_of_a_strange_name, r"has encoder\.�\[31m�\.attn\.0; expected attention in the middle"),
        (without_attention_in_the_decoder, "has no decoder.mid.attn_1; expected attention in the middle, and"),
        (of_another_depth, "input layer of 32 by 1 channels and groups of .*; expected 3 input channels, "),
        (of_narrow_groups, r"of 32 by 3 channels and groups of \[40, 64, 64\]; expected .* multiples of 32 "),
        (with_a_wide_shortcut, "has the unknown encoder.down.1.block.0.conv_shortcut.weight; "),
        (without_a_codebook, "has no quantize.embedding.weight; expected the weights of this family"),
        (without_an_encoder, "has no encoder.conv_in.weight; expected a VQ-GAN"),
        (with_remapped_codes, "has the unknown quantize.used; expected the "),
    ],
)
def test_what_cannot_be_made_here_is_one_line(tmp_path: Path, change: Any, line: str) -> None:
    state = taming_state()
    change(state)
    with pytest.raises(ModelError, match=line):
        read_taming_vqgan([save_taming(tmp_path / "last.ckpt", state)])


def test_one_checkpoint_at_a_time(tmp_path: Path) -> None:
    path = save_taming(tmp_path / "last.ckpt", taming_state())
    with pytest.raises(ModelError, match="is a second file; expected one checkpoint"):
        read_taming_vqgan([path, path])
    with pytest.raises(ModelError, match="is a folder; expected a checkpoint file; check the path"):
        read_taming_vqgan([tmp_path])
