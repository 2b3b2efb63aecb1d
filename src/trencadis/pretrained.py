"""A part of a model as a directory: `config.json` beside `model.safetensors`, sharded over 2 GB as the hub does."""

import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from huggingface_hub import ModelHubMixin, save_torch_state_dict, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from trencadis.config.older import upgraded
from trencadis.config.plain import from_plain, to_plain
from trencadis.errors import ConfigError, ModelError
from trencadis.storage import whole_directory

MAX_SHARD_SIZE = "2GB"
PretrainedT = TypeVar("PretrainedT", bound="Pretrained")


def model_directory(name: str | Path) -> Path:
    """Return the local directory of a model: `name` itself where it is one, else the hub's repository of that id.

    Only a name of the form `owner/repository` that is no local path is asked of the hub.

    Raises:
        ModelError: There is no such directory, and the hub has no such repository or cannot be reached.
    """
    path = Path(name)
    if path.is_dir():
        return path
    expected = "a model directory or a hub id such as owner/name"
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise ModelError(f"no model at {name}", expected=expected, remedy="check the path")
    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.md"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        remedy = "check the path, the id and the network"
        raise ModelError(f"no model at {name}, here or on the hub", expected=expected, remedy=remedy) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model directory.

    Raises:
        ModelError: The file is absent or holds something else.
    """
    remedy = "save the model again, or copy the directory whole"
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"no {path.name} in {path.parent}", expected="a model directory", remedy=remedy) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", expected="a JSON file", remedy=remedy) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}", expected="a JSON object", remedy=remedy)
    return content


def config_from_dict(config_type: type[Any], content: dict[str, Any]) -> Any:
    """Build a frozen config, nested ones too, from the content of `config.json`, which may be an older one.

    Raises:
        ModelError: A name is unknown, a value has the wrong type, or a number is out of its range.
    """
    try:
        return from_plain(config_type, upgraded(config_type, content))
    except ConfigError as error:
        expected = f"the fields of {config_type.__name__}"
        raise ModelError(f"{error.given}: {error.expected}", expected=expected, remedy="mend config.json") from error


def load_weights(directory: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of `model.safetensors`, or of the shards that its index names.

    Raises:
        ModelError: A file is absent, cut short or damaged.
    """
    index = directory / "model.safetensors.index.json"
    names = sorted(set(read_json(index)["weight_map"].values())) if index.exists() else ["model.safetensors"]
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            tensors |= load_file(directory / Path(name).name)
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{directory / name} cannot be read: {error}",
                expected="a whole safetensors file",
                remedy="save the model again, or copy the directory whole",
            ) from error
    return tensors


class Pretrained(ModelHubMixin):
    """A module with a config that saves itself as a directory. `push_to_hub` is the hub library's own.

    A subclass sets `config_type` and takes one argument, the config, which it keeps as `self.config`.
    """

    config_type: ClassVar[type[Any]]
    config: Any

    def save_pretrained(self, save_directory: str | Path, **_: object) -> None:
        """Write `config.json` and the weights to `save_directory`, whole or not at all.

        Raises:
            StorageError: The place cannot be written.
        """
        assert isinstance(self, nn.Module)
        with whole_directory(Path(save_directory)) as directory:
            config = {"kind": type(self).__name__, **to_plain(self.config)}
            (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            state = {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}
            save_torch_state_dict(state, directory, max_shard_size=MAX_SHARD_SIZE)

    @classmethod
    def from_pretrained(cls: type[PretrainedT], name: str | Path, **_: object) -> PretrainedT:  # type: ignore[override]
        """Load from a directory or a hub id; the module is in evaluation mode.

        Raises:
            ModelError: It is absent, damaged or of another kind.
        """
        directory = model_directory(name)
        content = read_json(directory / "config.json")
        kind = content.pop("kind", cls.__name__)
        if kind != cls.__name__:
            raise ModelError(f"{directory} holds a {kind}", expected=f"a {cls.__name__}", remedy=f"load it as {kind}")
        module = cls(config_from_dict(cls.config_type, content))
        assert isinstance(module, nn.Module)
        try:
            module.load_state_dict(load_weights(directory))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            remedy = "save the model again, or copy the directory whole"
            expected = "the weights that config.json describes"
            raise ModelError(f"{directory}: {reason}", expected=expected, remedy=remedy) from error
        return module.eval()
