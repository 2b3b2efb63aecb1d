"""Low-rank updates and adapters: nothing at first, the same merged as in training, and of one model only."""

import json
import math
from dataclasses import replace
from pathlib import Path

import huggingface_hub.hub_mixin
import pytest
import torch

from tests.unit.test_hub import Hub
from trencadis.config import AdapterConfig, LoRAConfig, TransformerConfig
from trencadis.errors import ConfigError, ModelError
from trencadis.model_directory import find_model, shipped_models
from trencadis.pipeline import DALLE
from trencadis.transformer import Adapter, Transformer, UsedAdapter
from trencadis.transformer.lora import add_updates, block_matrices, plain_name, take_updates

SIZES = TransformerConfig(
    num_layers=2, num_heads=2, head_dim=8, text_vocab_size=300, text_len=6, grid_size=(2, 2), image_vocab_size=16
)
LORA = LoRAConfig(rank=3, alpha=6.0)
TEXT, IMAGE = torch.tensor([[5, 9, 2, 0, 0, 0]]), torch.tensor([[[1, 2], [3, 4]]])


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(1)
    return Transformer(SIZES).eval()


def updated(model: Transformer, seed: int = 2) -> Transformer:
    """Give a model updates that are not zero."""
    torch.manual_seed(seed)
    add_updates(model, LORA)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight.0.b"):
                parameter.normal_()
    return model


def adapter_of(model: Transformer, seed: int = 2, **config: str) -> Adapter:
    """Return an adapter, and leave the model as it was."""
    return Adapter(AdapterConfig(rank=3, alpha=6.0, **config), take_updates(updated(model, seed)))


def test_new_updates_change_no_bit(model: Transformer) -> None:
    before = [logits.clone() for logits in model.logits(TEXT, IMAGE)]
    add_updates(model, LORA)
    for one, other in zip(before, model.logits(TEXT, IMAGE), strict=True):
        assert torch.equal(one, other)


def test_only_the_updates_are_trained_and_they_are_the_papers(model: Transformer) -> None:
    weights = {name: layer.weight.detach().clone() for name, layer in block_matrices(model).items()}
    updated(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in dict(model.named_parameters()) if plain_name(name) is None}
    assert len(weights) == 2 * 4, "queries, keys and values; their output; both layers of the MLP"
    for name, layer in block_matrices(model).items():
        a, b = (model.get_parameter(f"{name}.parametrizations.weight.0.{part}").double() for part in "ab")
        expected = weights[name].double() + 6.0 / 3 * (b @ a)
        torch.testing.assert_close(layer.weight.double(), expected, rtol=1e-5, atol=1e-5)
    losses = model.losses(TEXT, IMAGE)
    (losses.text + losses.image).backward()  # type: ignore[no-untyped-call]
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained


def test_taken_updates_leave_the_model_as_it_was(model: Transformer) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapter_of(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert type(block_matrices(model)["blocks.0.attention.qkv"]).__name__ == "Linear"


def test_a_merged_model_is_the_trained_one_to_the_bit(model: Transformer) -> None:
    expected = [logits.clone() for logits in updated(model).logits(TEXT, IMAGE)]
    adapter = Adapter(AdapterConfig(rank=3, alpha=6.0), take_updates(model))
    adapter.add_to(model)
    for one, other in zip(expected, model.logits(TEXT, IMAGE), strict=True):
        assert torch.equal(one, other)


def test_adapters_add_up_by_their_strengths(model: Transformer) -> None:
    first, second = adapter_of(model, 2), adapter_of(model, 3)
    before = block_matrices(model)["blocks.1.mlp.2"].weight.detach().clone()
    first.add_to(model, 0.5)
    second.add_to(model, -2.0)
    deltas = [(b.double() @ a.double()) * 2 for a, b in (each.updates["blocks.1.mlp.2"] for each in (first, second))]
    expected = before.double() + 0.5 * deltas[0] - 2.0 * deltas[1]
    after = block_matrices(model)["blocks.1.mlp.2"].weight.double()
    torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_is_loaded_as_it_was_saved(model: Transformer, tmp_path: Path) -> None:
    adapter = adapter_of(model, base="emoji", base_sha256="0" * 64)
    adapter.save_pretrained(tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter.json",
        "adapter.safetensors",
        "README.md",
    }
    again = Adapter.from_pretrained(tmp_path / "adapter")
    assert again.config == adapter.config
    assert again.digest() == adapter.digest()
    assert "0" * 64 in (tmp_path / "adapter" / "README.md").read_text()
    for name, (a, b) in adapter.updates.items():
        assert torch.equal(a, again.updates[name][0])
        assert torch.equal(b, again.updates[name][1])
    again.updates["blocks.0.mlp.0"][0][0, 0] += 1
    assert again.digest() != adapter.digest()
    of_another = Adapter(replace(adapter.config, base_sha256="1" * 64), adapter.updates)
    assert of_another.digest() != adapter.digest()


def test_a_pushed_adapter_can_be_loaded(model: Transformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub(tmp_path / "pushed"))
    adapter = adapter_of(model, base_sha256="0" * 64)
    assert adapter.push_to_hub("somebody/style") == "address"
    assert Adapter.from_pretrained(tmp_path / "pushed").digest() == adapter.digest()


def test_damaged_and_foreign_directories_are_refused(model: Transformer, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    with pytest.raises(ModelError, match="no model at"):
        Adapter.from_pretrained(folder)
    folder.mkdir()
    with pytest.raises(ModelError, match="holds no adapter"):
        Adapter.from_pretrained(folder)
    adapter_of(model).save_pretrained(folder)
    whole = (folder / "adapter.safetensors").read_bytes()
    (folder / "adapter.safetensors").write_bytes(whole[:-9])
    with pytest.raises(ModelError, match=r"adapter\.safetensors cannot be read"):
        Adapter.from_pretrained(folder)
    (folder / "adapter.safetensors").write_bytes(whole)
    settings = json.loads((folder / "adapter.json").read_text())
    for change, message in (
        ({"rank": 4}, r"rank 4 with A \[3, 16\]"),
        ({"rank": 0}, "1 or more|1, 1024"),
        ({"format": 2}, "another format"),
        ({"beta": 1}, "beta"),
    ):
        (folder / "adapter.json").write_text(json.dumps(settings | change))
        with pytest.raises(ModelError, match=message):
            Adapter.from_pretrained(folder)


def test_numbers_that_are_none_are_refused(model: Transformer, tmp_path: Path) -> None:
    adapter = adapter_of(model)
    adapter.updates["blocks.0.mlp.0"][1][0, 0] = math.nan
    adapter.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"blocks\.0\.mlp\.0\.b is no matrix of finite"):
        Adapter.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"mlp_dim": 40}, r"update of 64×16 for blocks\.0\.mlp\.0; expected 40×16"),
        ({"num_layers": 1}, r"for blocks\.1\.\S+; expected a matrix of the model's blocks"),
    ],
)
def test_a_matrix_of_another_shape_is_refused(model: Transformer, sizes: dict[str, int], message: str) -> None:
    adapter, other = adapter_of(model, base_sha256="0"), Transformer(replace(SIZES, **sizes))  # type: ignore[arg-type]
    adapter.check(model, "0", "mine")
    with pytest.raises(ModelError, match=message):
        adapter.check(other, "0", "mine")
    with pytest.raises(ModelError, match=r"expected one of mine \(SHA-256 1…\)"):
        adapter.check(model, "1", "mine")


@pytest.mark.parametrize("strength", [4.1, -5.0, math.nan, math.inf])
def test_strengths_have_a_range(strength: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a number in \[-4, 4\]"):
        UsedAdapter(name="style", sha256="0", strength=strength)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_a_model_draws_as_one_that_was_saved_with_the_adapter(tiny_model: Path, tmp_path: Path, weights: str) -> None:
    """In every type of weights, also in a batch; and without the adapter, or with half of it, it draws otherwise."""
    model = DALLE.from_pretrained(tiny_model)
    adapter = adapter_of(model.transformer, base_sha256=str(model.digest()))
    for a, b in adapter.updates.values():
        b.mul_(0.1), a.mul_(0.3)
    adapter.save_pretrained(tmp_path / "adapter")
    adapter.add_to(model.transformer)
    model.save_pretrained(tmp_path / "merged")
    options = {"candidates": 4, "keep": 4, "seed": 5, "weights": weights, "ranking": "none"}
    drawn = {}
    for strength in (1.0, 0.5, 0.0):
        own = DALLE.from_pretrained(tiny_model)
        own.load_adapter(tmp_path / "adapter", strength)
        drawn[strength] = own.generate("a red circle", **options)  # type: ignore[call-overload]
    merged = DALLE.from_pretrained(tmp_path / "merged").generate("a red circle", **options)  # type: ignore[call-overload]
    base = DALLE.from_pretrained(tiny_model).generate("a red circle", **options)  # type: ignore[call-overload]
    pixels = {s: [image.tobytes() for image in each.images] for s, each in drawn.items()}
    assert pixels[1.0] == [image.tobytes() for image in merged.images]
    assert pixels[0.0] == [image.tobytes() for image in base.images]
    assert len({*map(tuple, pixels.values())}) == 3
    assert drawn[0.5].records[0].adapters == (
        UsedAdapter(name=str(tmp_path / "adapter"), sha256=adapter.digest(), strength=0.5),
    )
    assert drawn[1.0].records[0].model_sha256 == merged.records[0].model_sha256 != base.records[0].model_sha256


def test_an_adapter_of_another_model_adds_nothing(tiny_model: Path, tmp_path: Path) -> None:
    model = DALLE.from_pretrained(tiny_model)
    before = model.digest()
    adapter_of(model.transformer, base="emoji", base_sha256="7" * 64).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="an adapter of emoji"):
        model.load_adapter(tmp_path / "adapter")
    with pytest.raises(ConfigError, match="strength 9"):
        model.load_adapter(tmp_path / "adapter", 9.0)
    assert model.digest() == before
    assert model.adapters == ()


def test_several_adapters_are_of_the_model_before_the_first(tiny_model: Path, tmp_path: Path) -> None:
    model = DALLE.from_pretrained(tiny_model)
    for seed in (2, 3):
        adapter = adapter_of(model.transformer, seed, base_sha256=str(model.digest()))
        adapter.save_pretrained(tmp_path / f"{seed}")
    model.load_adapter(tmp_path / "2", 0.5)
    model.load_adapter(tmp_path / "3", -0.25)
    assert [each.strength for each in model.adapters] == [0.5, -0.25]


@pytest.mark.parametrize("name", shipped_models())
def test_an_adapter_of_a_shipped_model_is_under_two_percent_of_it(name: str, tmp_path: Path) -> None:
    """At the rank of examples/tune; by bytes on the disk."""
    directory = find_model(name)
    transformer = Transformer.from_pretrained(directory / "transformer")
    add_updates(transformer, LoRAConfig(rank=4))
    Adapter(AdapterConfig(rank=4), take_updates(transformer)).save_pretrained(tmp_path / "adapter")
    sizes = [
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in (tmp_path / "adapter", directory)
    ]
    assert sizes[0] < 0.02 * sizes[1]
