"""Image tokenizers of any kind, from a directory."""

import dataclasses
from pathlib import Path

from trencadis.errors import ModelError
from trencadis.image.discrete_vae import DiscreteVAE
from trencadis.pretrained import model_directory, read_json

KINDS = {kind.__name__: kind for kind in (DiscreteVAE,)}


def load_image_tokenizer(name: str | Path, *, image_size: tuple[int, int] | None = None) -> DiscreteVAE:
    """Load the image tokenizer in a directory or hub repository, whichever kind its `config.json` names.

    Args:
        name: A directory or hub id of a tokenizer, or a directory of a whole model.
        image_size: Height and width of pictures that it is to be used for, in place of those that it was trained on.

    Raises:
        ConfigError: The size is no multiple of its down-sampling factor.
        ModelError: It is absent, damaged or of an unknown kind.
    """
    directory = model_directory(name)
    directory = directory / "image" if (directory / "image").is_dir() else directory
    kind = read_json(directory / "config.json").get("kind")
    if kind not in KINDS:
        remedy = "check the path, or load it with the version that wrote it"
        raise ModelError(f"{directory} holds a {kind}", expected=f"one of {', '.join(KINDS)}", remedy=remedy)
    tokenizer = KINDS[kind].from_pretrained(directory)
    if image_size is not None:
        tokenizer.config = dataclasses.replace(tokenizer.config, image_size=image_size)
    return tokenizer
