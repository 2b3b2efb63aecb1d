"""What LoRA has learnt, as a small directory: `adapter.json` beside `adapter.safetensors`, and a card.

An adapter is of one model. Its updates are added to that model's weights, so that drawing with it takes no more time.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trencadis.config.lora import AdapterConfig
from trencadis.config.plain import to_plain
from trencadis.errors import ConfigError, ModelError
from trencadis.memory import in_memory
from trencadis.pretrained import (
    SAVE_AGAIN,
    HubModel,
    config_from_dict,
    digest_of,
    read_json,
)
from trencadis.storage import whole_directory
from trencadis.transformer.lora import block_matrices, update
from trencadis.transformer.model import Transformer

SETTINGS, TENSORS = "adapter.json", "adapter.safetensors"
FORMAT = 1
MAX_STRENGTH = 4.0
AdapterT = TypeVar("AdapterT", bound="Adapter")


@dataclass(frozen=True, kw_only=True)
class UsedAdapter:
    """An adapter that a picture was drawn with, and the factor of its updates.

    Args:
        name: As the user calls it. It is only shown.
        sha256: `Adapter.digest()`.
        strength: In -4..4.
    """

    name: str
    sha256: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not -MAX_STRENGTH <= self.strength <= MAX_STRENGTH:  # nor is a number that is none
            given, expected = f"strength {self.strength:g} of the adapter {self.name}", "a number in [-4, 4]"
            raise ConfigError(given, expected=expected, remedy="give one such as 0.8; 1 is as it was trained")


class Adapter(HubModel):
    """Low-rank updates of some matrices of one model's transformer. Source: Hu et al. 2021, "LoRA".

    Args:
        updates: A and B of each matrix, by the name of its layer, such as `blocks.0.attention.qkv`.

    Raises:
        ModelError: A or B has another rank than the config says.
    """

    def __init__(self, config: AdapterConfig, updates: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        self.config, self.updates = config, dict(updates)
        for name, (a, b) in self.updates.items():
            if a.ndim != 2 or b.ndim != 2 or len(a) != config.rank or b.shape[1] != config.rank:
                given = f"an adapter of rank {config.rank} with A {list(a.shape)} and B {list(b.shape)} for {name}"
                expected = f"A of {config.rank} rows and B of {config.rank} columns"
                raise ModelError(given, expected=expected, remedy="take the whole directory as it was trained")

    @classmethod
    def _load(cls: type[AdapterT], directory: Path) -> AdapterT:
        if not (directory / SETTINGS).is_file():
            remedy = "name an adapter, such as the folder `adapter` of a run with --lora"
            raise ModelError(f"{directory} holds no adapter", expected=f"a folder with {SETTINGS}", remedy=remedy)
        content = read_json(directory / SETTINGS)
        if content.pop("format", None) != FORMAT:
            given, expected = f"{directory / SETTINGS} is of another format", f"format {FORMAT}"
            raise ModelError(given, expected=expected, remedy="use the version of trencadis that wrote it")
        return cls(config_from_dict(AdapterConfig, content), _read_updates(directory / TENSORS))

    def _save_pretrained(self, save_directory: Path) -> None:
        with whole_directory(save_directory) as directory:
            settings = {"format": FORMAT, **to_plain(self.config)}
            (directory / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in self._tensors().items()},
                directory / TENSORS,
            )
            (directory / "README.md").write_text(self._card(), "utf-8")

    @property
    def parameters(self) -> int:
        """Number of weights in it."""
        return sum(math.prod(tensor.shape) for tensor in self._tensors().values())

    def digest(self) -> str:
        """Return the SHA-256 of all that it adds, and of the model that it is of."""
        described = {name: value for name, value in to_plain(self.config).items() if name != "base"}
        return digest_of(described, self._tensors())

    def check(self, transformer: Transformer, base_sha256: str | None, model: str) -> None:
        """Raise a `ModelError` unless it is of this model: `base_sha256` is its digest, and `model` its name."""
        if self.config.base_sha256 != base_sha256:
            given = f"an adapter of {self.config.base or 'a model'} (SHA-256 {self.config.base_sha256[:12]}…)"
            expected = f"one of {model or 'this model'} (SHA-256 {(base_sha256 or 'unknown')[:12]}…)"
            raise ModelError(given, expected=expected, remedy="name the model that it was trained on")
        layers = block_matrices(transformer)
        for name, (a, b) in self.updates.items():
            shape = list(layers[name].weight.shape) if name in layers else None
            if shape != [len(b), a.shape[1]]:
                given = f"an adapter with an update of {len(b)}×{a.shape[1]} for {name}"
                expected = "a matrix of the model's blocks" if shape is None else f"{shape[0]}×{shape[1]}"
                raise ModelError(given, expected=expected, remedy=SAVE_AGAIN.replace("model", "adapter"))

    @torch.no_grad()
    def add_to(self, transformer: Transformer, strength: float = 1.0) -> None:
        """Add `strength` times the updates to the weights. It cannot be undone exactly: floats are rounded."""
        layers = block_matrices(transformer)
        for name, (a, b) in self.updates.items():
            weight = layers[name].weight
            weight.add_(strength * update(a.to(weight.device), b.to(weight.device), self.config.scale))

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}.{part}": tensor
            for name, pair in self.updates.items()
            for part, tensor in zip("ab", pair, strict=True)
        }

    def _card(self) -> str:
        config = self.config
        scale = "" if config.scale == 1 else f", scaled by {config.scale:g}"
        return f"""---
library_name: trencadis
pipeline_tag: text-to-image
tags:
- lora
---

# An adapter of {config.base or "a Trencadís model"}

Low-rank updates (rank {config.rank}{scale}) of {len(self.updates)} matrices of a transformer: {self.parameters:,}
weights. They are of the model with the SHA-256 `{config.base_sha256}` and of no other.

```python
from trencadis import DALLE

model = DALLE.from_pretrained("{config.base or "the/model"}")
model.load_adapter("path/or/id", strength=1.0)
model.generate("a prompt").save("pictures")
```
"""


def used(content: object) -> tuple[UsedAdapter, ...]:
    """Build the adapters of a picture's record from JSON values; raises `TypeError` or `ValueError` for wrong ones."""
    if not isinstance(content, list | tuple):
        raise TypeError("adapters")
    adapters = tuple(UsedAdapter(**each) for each in content)
    for each in adapters:
        if [type(value) for value in vars(each).values()] not in ([str, str, float], [str, str, int]):
            raise TypeError(f"an adapter {each}")
    return adapters


def _read_updates(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    expected, remedy = "a whole adapter", SAVE_AGAIN.replace("model", "adapter")
    try:
        with in_memory(f"loading {path}"):
            tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}", expected=expected, remedy=remedy) from error
    names = sorted({name.rpartition(".")[0] for name in tensors})
    if not names or tensors.keys() != {f"{name}.{part}" for name in names for part in "ab"}:
        raise ModelError(f"{path} holds other tensors", expected="A and B of each matrix", remedy=remedy)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            given = f"{path}: {name} is no matrix of finite float32 numbers"
            raise ModelError(given, expected=expected, remedy=remedy)
    return {name: (tensors[f"{name}.a"], tensors[f"{name}.b"]) for name in names}
