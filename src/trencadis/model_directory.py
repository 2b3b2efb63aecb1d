"""A whole model as a directory, or shipped with the package.

config.json            what draws by default
README.md              its card
text/tokenizer.json
image/  transformer/  ranker/     config.json and model.safetensors each
"""

import dataclasses
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from trencadis.errors import ConfigError, ModelError
from trencadis.image.loading import load_image_tokenizer
from trencadis.pretrained import config_from_dict, model_directory, read_json
from trencadis.ranking import CLIP, CLIPRanker
from trencadis.sampling import Sampling
from trencadis.storage import whole_directory, write_whole
from trencadis.text import CaptionTokenizer
from trencadis.transformer import Transformer

FORMAT = 1
ModelT = TypeVar("ModelT", bound="ModelDirectory")


def shipped_models() -> list[str]:
    """Return the names of the models in the package."""
    assets = files("trencadis") / "assets"
    return sorted(entry.name for entry in assets.iterdir() if (entry / "config.json").is_file())


def find_model(name: str | Path) -> Path:
    """Return the directory of a model: a shipped one, else a local one, else the hub's.

    Raises:
        ModelError: There is none of that name.
    """
    shipped = shipped_models()
    if str(name) in shipped:
        return Path(str(files("trencadis") / "assets" / str(name)))
    if not Path(name).exists() and "/" not in str(name):
        expected = f"a shipped model ({', '.join(shipped) or 'none in this package'}), a model directory or a hub id"
        raise ModelError(f"unknown model {str(name)!r}", expected=expected, remedy="check the name")
    return model_directory(name)


class ModelDirectory:
    """Loading and saving of `DALLE`."""

    text_tokenizer: Any
    image_tokenizer: Any
    transformer: Transformer
    ranker: Any
    sampling: Sampling
    name: str

    @classmethod
    def from_pretrained(cls: type[ModelT], name: str | Path = "emoji", **_: object) -> ModelT:
        """Load a shipped model, a directory, or a repository of the hub.

        Args:
            name: Such as `emoji`, `runs/mine/model` or `owner/name`; only the last asks the network.

        Raises:
            ModelError: There is no such model, or it is damaged.
        """
        directory = find_model(name)
        settings = read_json(directory / "config.json")
        if settings.get("format") != FORMAT or "sampling" not in settings:
            expected = f"a whole model, in format {FORMAT}"
            raise ModelError(f"{directory} holds something else", expected=expected, remedy="name a model directory")
        text_tokenizer = CaptionTokenizer.from_pretrained(directory / "text")
        has_ranker = (directory / "ranker").is_dir()
        try:
            sampling = config_from_dict(Sampling, settings["sampling"])
        except ConfigError as error:
            raise ModelError(str(error), expected="settings in their ranges", remedy="mend config.json") from error
        return cls(  # type: ignore[call-arg]
            text_tokenizer=text_tokenizer,
            image_tokenizer=load_image_tokenizer(directory / "image"),
            transformer=Transformer.from_pretrained(directory / "transformer"),
            ranker=CLIPRanker(CLIP.from_pretrained(directory / "ranker"), text_tokenizer) if has_ranker else None,
            sampling=sampling,
            name=str(settings.get("name", name)),
        )

    def save_pretrained(self, save_directory: str | Path, **_: object) -> None:
        """Write the whole model, whole or not at all.

        Raises:
            ModelError: A part of another kind has no `save_pretrained` of its own.
            StorageError: The place cannot be written.
        """
        ranker = self.ranker.clip if isinstance(self.ranker, CLIPRanker) else self.ranker
        parts = {"text": self.text_tokenizer, "image": self.image_tokenizer, "transformer": self.transformer}
        parts |= {} if ranker is None else {"ranker": ranker}
        for name, part in parts.items():
            if not hasattr(part, "save_pretrained"):
                given = f"the {name} part, a {type(part).__name__}, cannot save itself"
                raise ModelError(given, expected="a save_pretrained method", remedy="add one")
        with whole_directory(Path(save_directory)) as directory:
            for name, part in parts.items():
                part.save_pretrained(directory / name)
            self.save_settings(directory)

    def save_settings(self, directory: Path) -> None:
        """Write `config.json` and the card beside parts that are already there."""
        settings = {"format": FORMAT, "name": self.name, "sampling": dataclasses.asdict(self.sampling)}
        write_whole(directory / "config.json", json.dumps(settings, indent=2) + "\n")
        if not (directory / "README.md").exists():
            write_whole(directory / "README.md", self.card())

    def card(self) -> str:
        """Return the model card: what the model is, in Markdown with the hub's metadata."""
        config = self.transformer.config
        height, width = self.image_tokenizer.image_size
        parameters = sum(parameter.numel() for parameter in self.transformer.parameters())
        ranked = "" if self.ranker is None else "CLIP ranks the candidates.\n"
        return f"""---
library_name: trencadis
pipeline_tag: text-to-image
---

# {self.name or "A Trencadís model"}

Draws pictures of {width}×{height} pixels from a prompt: a transformer of {parameters / 1e6:.1f} M parameters
({config.num_layers} layers, width {config.dim}) models {config.text_len} text tokens and a grid of
{config.grid_size[0]}×{config.grid_size[1]} image tokens out of {config.image_vocab_size} as a single stream.
{ranked}
```python
from trencadis import DALLE

drawn = DALLE.from_pretrained("path/or/id").generate("a prompt", candidates=16, keep=4)
drawn.save("pictures")
```
"""
