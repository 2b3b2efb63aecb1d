"""The image tokenizer of a directory or a hub repository."""

import dataclasses
from pathlib import Path

from trencadis.image.discrete_vae import DiscreteVAE
from trencadis.pretrained import model_directory


def load_image_tokenizer(name: str | Path, *, image_size: tuple[int, int] | None = None) -> DiscreteVAE:
    """Load an image tokenizer from its own directory or hub repository, or from those of a whole model.

    With `image_size` it is used for pictures of another height and width than it was trained on.

    Raises:
        ConfigError: The size is no multiple of its down-sampling factor.
        ModelError: It is absent, damaged or of another kind.
    """
    directory = model_directory(name)
    directory = directory / "image" if (directory / "image").is_dir() else directory
    tokenizer = DiscreteVAE.from_pretrained(directory)
    if image_size is not None:
        tokenizer.config = dataclasses.replace(tokenizer.config, image_size=image_size)
    return tokenizer
