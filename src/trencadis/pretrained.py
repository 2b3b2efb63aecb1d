"""A part of a model as a directory: `config.json` beside `model.safetensors`, sharded over 2 GB as the hub does."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict, TypeVar, Unpack, get_args

import torch
from huggingface_hub import ModelHubMixin, save_torch_state_dict, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.overrides import TorchFunctionMode

from trencadis.config.older import upgraded
from trencadis.config.plain import from_plain, to_plain
from trencadis.errors import ConfigError, ModelError
from trencadis.memory import in_memory
from trencadis.storage import user_path, whole_directory

MAX_SHARD_SIZE = "2GB"
SAVE_AGAIN = "save the model again, or copy the directory whole"
StoredType = Literal["float32", "bfloat16"]
HubModelT = TypeVar("HubModelT", bound="HubModel")
PretrainedT = TypeVar("PretrainedT", bound="Pretrained")


class HubOptions(TypedDict, total=False):
    """How a repository of the hub is read. See `huggingface_hub.snapshot_download`."""

    revision: str | None  # a branch, tag or commit; None is `main`
    token: str | bool | None  # for a private repository; True takes the stored one, False sends none
    cache_dir: str | Path | None
    local_files_only: bool  # take what is in the cache, and do not ask the network


def model_directory(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the local directory of a model: `name` itself if it is a directory, else a copy of that hub repository.

    Only a name of the form `owner/repository` that is no local path is asked of the hub. See `HubOptions`.

    Raises:
        ModelError: There is no such model, the hub cannot be reached, or a local directory was given with a revision.
    """
    path = Path(user_path(str(name)))
    if path.is_dir():
        if revision is not None:
            given = f"revision {revision} of {name}, which is a directory on this machine"
            raise ModelError(given, expected="a hub id such as owner/name", remedy="leave the revision out")
        return path
    expected = "a model directory or a hub id such as owner/name"
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise ModelError(f"no model at {name}", expected=expected, remedy="check the path")
    try:
        return Path(
            snapshot_download(
                str(name),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=["*.json", "*.safetensors", "*.md"],
            )
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        given = f"no model at {name}{'' if revision is None else f', revision {revision}'}, here or on the hub"
        raise ModelError(given, expected=expected, remedy="check the path, the id and the network") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model directory.

    Raises:
        ModelError: The file is absent or holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"no {path.name} in {path.parent}", expected="a model directory", remedy=SAVE_AGAIN) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", expected="a JSON file", remedy=SAVE_AGAIN) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}", expected="a JSON object", remedy=SAVE_AGAIN)
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
            with in_memory(f"loading {directory / name}"):
                tensors |= load_file(directory / Path(name).name)
        except (OSError, SafetensorError) as error:
            given = f"{directory / name} cannot be read: {error}"
            raise ModelError(given, expected="a whole safetensors file", remedy=SAVE_AGAIN) from error
    return tensors


class HubModel(ModelHubMixin):
    """What is saved as a directory, and loaded from one or from the hub. `push_to_hub` is the hub library's own.

    A subclass defines `_save_pretrained(directory)` and `_load(directory)`.
    """

    def save_pretrained(  # type: ignore[override]  # the hub library's takes more
        self, save_directory: str | Path, *, config: object = None, model_card_kwargs: object = None
    ) -> None:
        """Write the directory, whole or not at all; what it holds is replaced.

        `config` and `model_card_kwargs` are None: the hub library's `push_to_hub` passes them.

        Raises:
            StorageError: The place cannot be written.
        """
        self._check_hub_arguments(config, model_card_kwargs)
        self._save_pretrained(Path(save_directory))

    @staticmethod
    def _check_hub_arguments(config: object, model_card_kwargs: object) -> None:
        if config is not None or model_card_kwargs is not None:
            raise TypeError("config and model_card_kwargs cannot be given: a model writes its own config and card")

    @classmethod
    def from_pretrained(cls: type[HubModelT], name: str | Path, **hub: Unpack[HubOptions]) -> HubModelT:  # type: ignore[override]
        """Load from a directory or a hub id; see `HubOptions`.

        Raises:
            ModelError: It is absent, damaged or of another kind.
        """
        return cls._load(model_directory(name, **hub))

    @classmethod
    def _load(cls: type[HubModelT], directory: Path) -> HubModelT:
        raise NotImplementedError


class Pretrained(HubModel):
    """A module with a config. Loaded, it is in evaluation mode.

    A subclass sets `config_type` and takes one argument, the config, which it keeps as `self.config`.

    Attributes:
        stored_type: Of the weights in the files that it was loaded from. In memory they are float32 all the same, so
            that it can be trained on.
    """

    config_type: ClassVar[type[Any]]
    config: Any
    stored_type: StoredType = "float32"

    def save_pretrained(  # type: ignore[override]  # the hub library's takes more
        self,
        save_directory: str | Path,
        *,
        dtype: StoredType = "float32",
        config: object = None,
        model_card_kwargs: object = None,
    ) -> None:
        """Write the directory, whole or not at all; what it holds is replaced.

        Args:
            dtype: bfloat16 rounds every tensor of two or more dimensions and halves the files. Vectors, such as the
                gains of norms and biases, stay in float32.
            config: None; the hub library's `push_to_hub` passes it, and so it does `model_card_kwargs`.

        Raises:
            ConfigError: The type is unknown.
            StorageError: The place cannot be written.
        """
        check_stored_type(dtype)
        self._check_hub_arguments(config, model_card_kwargs)
        assert isinstance(self, nn.Module)
        with whole_directory(Path(save_directory)) as directory:
            (directory / "config.json").write_text(json.dumps(self._described(), indent=2) + "\n", "utf-8")
            state = {name: _stored(tensor, dtype) for name, tensor in self.state_dict().items()}
            save_torch_state_dict(state, directory, max_shard_size=MAX_SHARD_SIZE)

    @classmethod
    def _load(cls: type[PretrainedT], directory: Path) -> PretrainedT:
        content = read_json(directory / "config.json")
        kind = content.pop("kind", cls.__name__)
        if kind != cls.__name__:
            raise ModelError(f"{directory} holds a {kind}", expected=f"a {cls.__name__}", remedy=f"load it as {kind}")
        config = config_from_dict(cls.config_type, content)
        with _NoInitialisation():
            module = cls(config)
        assert isinstance(module, nn.Module)
        tensors = load_weights(directory)
        module.stored_type = "bfloat16" if any(x.dtype == torch.bfloat16 for x in tensors.values()) else "float32"
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            expected = "the weights that config.json describes"
            raise ModelError(f"{directory}: {reason}", expected=expected, remedy=SAVE_AGAIN) from error
        return module.eval()

    def digest(self) -> str:
        """Return the SHA-256 of config and weights in hexadecimal. It reads every weight."""
        assert isinstance(self, nn.Module)
        return digest_of(self._described(), self.state_dict())

    def _described(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, **to_plain(self.config)}


def digest_of(described: Mapping[str, Any], tensors: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON values and of named tensors, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_stored_type(dtype: str) -> None:
    """Raise a `ConfigError` for a type that weights are not stored in."""
    if dtype not in get_args(StoredType):
        expected = f"one of {', '.join(get_args(StoredType))}"
        raise ConfigError(f"dtype {dtype!r}", expected=expected, remedy="choose one of them")


def _stored(tensor: torch.Tensor, dtype: StoredType) -> torch.Tensor:
    """Return a tensor as the files hold it."""
    is_rounded = dtype == "bfloat16" and tensor.dtype == torch.float32 and tensor.ndim > 1
    return (tensor.detach().bfloat16() if is_rounded else tensor.detach()).contiguous()


class _NoInitialisation(TorchFunctionMode):
    """Leaves random numbers out while a module is built: its weights are loaded next, and making them takes longer."""

    SKIPPED = frozenset({"normal_", "uniform_", "kaiming_uniform_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
