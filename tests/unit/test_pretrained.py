import errno
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors.torch
import torch
from torch import nn

from trencadis import pretrained
from trencadis.errors import ModelError, StorageError
from trencadis.pretrained import Pretrained, model_directory


@dataclass(frozen=True, kw_only=True)
class Inner:
    names: tuple[str, ...] = ("a",)
    scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class MosaicConfig:
    size: tuple[int, int] = (2, 3)
    inner: Inner = field(default_factory=Inner)


class Mosaic(nn.Module, Pretrained):
    """The smallest part of a model."""

    config_type = MosaicConfig

    def __init__(self, config: MosaicConfig) -> None:
        super().__init__()
        self.config = config
        self.tiles = nn.Linear(*config.size)
        self.register_buffer("count", torch.tensor(7))


class Wall(Mosaic):
    """Another kind, of the same shape."""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    mosaic = Mosaic(MosaicConfig(size=(4, 5), inner=Inner(names=("b", "c"), scale=0.5)))
    mosaic.save_pretrained(tmp_path / "mosaic")
    return tmp_path / "mosaic"


def change_config(path: Path, **fields: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | fields))


def test_a_module_comes_back_as_it_was(tmp_path: Path) -> None:
    mosaic = Mosaic(MosaicConfig(size=(4, 5), inner=Inner(names=("b", "c"), scale=0.5)))
    mosaic.save_pretrained(tmp_path / "mosaic")
    loaded = Mosaic.from_pretrained(tmp_path / "mosaic")
    assert loaded.config == mosaic.config
    assert not loaded.training
    assert mosaic.state_dict().keys() == loaded.state_dict().keys()
    for name, tensor in mosaic.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    before = torch.get_rng_state()
    Mosaic.from_pretrained(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_digest_changes_with_config_and_weights_alone(saved: Path) -> None:
    one, other = Mosaic.from_pretrained(saved), Mosaic.from_pretrained(saved)
    assert one.digest() == other.digest()
    other.load_state_dict(other.state_dict() | {"count": torch.tensor(8)})
    assert one.digest() != other.digest()
    change_config(saved, inner={"names": ["b", "d"]})
    assert one.digest() != Mosaic.from_pretrained(saved).digest()


def test_a_big_module_is_sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "MAX_SHARD_SIZE", "1KB")
    mosaic = Mosaic(MosaicConfig(size=(100, 100)))
    mosaic.save_pretrained(tmp_path / "mosaic")
    assert len(list((tmp_path / "mosaic").glob("model-*-of-*.safetensors"))) > 1
    loaded = Mosaic.from_pretrained(tmp_path / "mosaic")
    assert torch.equal(loaded.tiles.weight, mosaic.tiles.weight)


def test_an_absent_shard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "MAX_SHARD_SIZE", "1KB")
    Mosaic(MosaicConfig(size=(100, 100))).save_pretrained(tmp_path / "mosaic")
    shard = sorted((tmp_path / "mosaic").glob("model-*"))[0]
    shard.unlink()
    with pytest.raises(ModelError, match=shard.name):
        Mosaic.from_pretrained(tmp_path / "mosaic")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_cut_short_anywhere_is_refused(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes().rstrip()
    for length in range(0, len(whole), max(1, len(whole) // 20)):
        (saved / name).write_bytes(whole[:length])
        with pytest.raises(ModelError, match=name):
            Mosaic.from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_absent_file_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelError, match=name):
        Mosaic.from_pretrained(saved)


def test_weights_of_another_shape_are_refused(saved: Path) -> None:
    change_config(saved, size=[4, 6])
    with pytest.raises(ModelError, match="size mismatch"):
        Mosaic.from_pretrained(saved)


def test_weights_that_lack_a_tensor_are_refused(saved: Path) -> None:
    tensors = safetensors.torch.load_file(saved / "model.safetensors")
    del tensors["tiles.bias"]
    safetensors.torch.save_file(tensors, saved / "model.safetensors")
    with pytest.raises(ModelError, match=r"tiles\.bias"):
        Mosaic.from_pretrained(saved)


def test_a_directory_of_another_kind_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match="holds a Mosaic; expected a Wall; load it as Mosaic"):
        Wall.from_pretrained(saved)


@pytest.mark.parametrize(
    "fields",
    [{"colour": "red"}, {"size": "wide"}, {"size": [1, 2, 3]}, {"inner": {"names": ["a"], "glue": 1}}, {"inner": 3}],
)
def test_a_field_that_is_unknown_or_of_the_wrong_type_is_refused(saved: Path, fields: dict[str, Any]) -> None:
    change_config(saved, **fields)
    with pytest.raises(ModelError, match="expected the fields of MosaicConfig; mend ") as refusal:
        Mosaic.from_pretrained(saved)
    assert "\n" not in str(refusal.value)


def test_a_config_that_is_no_object_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text("[1, 2]")
    with pytest.raises(ModelError, match="holds a list; expected a JSON object"):
        Mosaic.from_pretrained(saved)


def test_a_full_disk_leaves_the_old_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full_disk(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pretrained, "save_torch_state_dict", full_disk)
    with pytest.raises(StorageError, match="free some space"):
        Mosaic(MosaicConfig()).save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["mosaic"]


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "absent", "~/absent/model", "a/b/c"])
def test_a_path_is_never_asked_of_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match="no model at"):
        model_directory(name)


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(pretrained, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match="check the path, the id and the network"):
        model_directory("owner/name")


def test_a_directory_is_taken_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert model_directory("owner/name") == Path("owner/name")
