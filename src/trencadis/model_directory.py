"""A whole model as a directory, or shipped with the package.

config.json            the model's name, and how it draws by default
README.md              its card
text/tokenizer.json
image/  transformer/  ranker/     config.json and model.safetensors each
"""

import dataclasses
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Unpack

import trencadis.image
import trencadis.text  # noqa: F401  # these two, the ranker and the transformer register the kinds that ship
from trencadis.errors import ModelError
from trencadis.parts import PartName, kind_of, load_part, save_part
from trencadis.pretrained import HubOptions, StoredType, config_from_dict, model_directory, read_json
from trencadis.protocols import ImageTokenizer, TextTokenizer
from trencadis.ranking import CLIPRanker
from trencadis.sampling import Sampling
from trencadis.storage import user_path, write_whole
from trencadis.transformer import Transformer

FORMAT = 1
ASSETS = files("trencadis") / "assets"


def shipped_models() -> list[str]:
    return sorted(entry.name for entry in ASSETS.iterdir() if (entry / "config.json").is_file())


def find_model(name: str | Path, **hub: Unpack[HubOptions]) -> Path:
    """Return the directory of a model: a shipped one, else a local one, else the hub's.

    Raises:
        ModelError: There is none of that name, or a revision is asked for of one that is not on the hub.
    """
    name, shipped = user_path(str(name)), shipped_models()
    if str(name) in shipped:
        return model_directory(str(ASSETS / str(name)), **hub)
    if not Path(name).exists() and "/" not in str(name):
        expected = f"a shipped model ({', '.join(shipped) or 'none in this package'}), a model directory or a hub id"
        raise ModelError(f"unknown model {str(name)!r}", expected=expected, remedy="check the name")
    return model_directory(name, **hub)


def load_model(name: str | Path, **hub: Unpack[HubOptions]) -> dict[str, Any]:
    """Return the arguments of a `DALLE`: its parts, `sampling` and `name`, which for a model of the hub is its id.

    Raises:
        ModelError: There is no such model, or it is damaged.
    """
    directory = find_model(name, **hub)
    settings = read_json(directory / "config.json")
    if settings.get("format") != FORMAT or "sampling" not in settings:
        expected = f"a whole model, in format {FORMAT}"
        raise ModelError(f"{directory} holds something else", expected=expected, remedy="name a model directory")
    is_local = str(name) in shipped_models() or Path(name).exists()
    return {
        "text_tokenizer": load_part("text", directory / "text"),
        "image_tokenizer": load_part("image", directory / "image"),
        "transformer": load_part("transformer", directory / "transformer"),
        "ranker": load_part("ranker", directory / "ranker") if (directory / "ranker").is_dir() else None,
        "sampling": config_from_dict(Sampling, settings["sampling"]),
        "name": str(settings.get("name", name)) if is_local else str(name),
    }


def check_parts(text_tokenizer: TextTokenizer, image_tokenizer: ImageTokenizer, transformer: Transformer) -> None:
    """Raise a `ModelError` if a tokenizer has other sizes than the transformer."""
    config = transformer.config
    text, image = text_tokenizer.vocab_size, image_tokenizer.image_vocab_size
    grid, expected_grid = tuple(image_tokenizer.grid_size), tuple(config.grid_size)
    checks = (
        (text <= config.text_vocab_size, f"text ids {text:,}", f"at most {config.text_vocab_size:,}"),
        (image == config.image_vocab_size, f"image codes {image:,}", f"exactly {config.image_vocab_size:,}"),
        (grid == expected_grid, f"a grid {grid}", f"exactly {expected_grid}"),
    )
    for holds, given, expected in checks:
        if not holds:
            remedy = "put together parts that were trained together"
            raise ModelError(f"a tokenizer of {given}", expected=f"{expected}, as the transformer", remedy=remedy)


def save_parts(directory: Path, parts: Mapping[PartName, object], *, dtype: StoredType = "float32") -> None:
    """Write each part into the folder of its name.

    Args:
        dtype: Of the weights of our transformer and of CLIP. The image tokenizer keeps its own: it is small, and
            rounded weights would change tokens in most pictures.

    Raises:
        ModelError: A part cannot be saved; nothing has been written then.
        StorageError: The place cannot be written.
    """
    for part, value in parts.items():
        kind_of(part, value)
    for part, value in parts.items():
        how = {"dtype": dtype} if isinstance(value, Transformer | CLIPRanker) else {}
        save_part(part, value, directory / part, **how)


def save_settings(directory: Path, *, name: str, sampling: Sampling, card: str) -> None:
    """Write `config.json`, and the card unless there is one, beside parts that are already there."""
    settings = {"format": FORMAT, "name": name, "sampling": dataclasses.asdict(sampling)}
    write_whole(directory / "config.json", json.dumps(settings, indent=2) + "\n")
    if not (directory / "README.md").exists():
        write_whole(directory / "README.md", card)


def model_card(name: str, transformer: Transformer, image_tokenizer: ImageTokenizer, *, is_ranked: bool) -> str:
    """Return the README of a model: what it is, in Markdown with the hub's metadata."""
    config = transformer.config
    height, width = image_tokenizer.drawn_size
    parameters = sum(parameter.numel() for parameter in transformer.parameters())
    ranked = "CLIP ranks the candidates.\n" if is_ranked else ""
    return f"""---
library_name: trencadis
pipeline_tag: text-to-image
---

# {name or "A Trencadís model"}

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
