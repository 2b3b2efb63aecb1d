"""Image tokenizers of any kind, from a directory."""

from pathlib import Path

from trencadis.errors import ModelError
from trencadis.image.dvae import DiscreteVAE
from trencadis.pretrained import model_directory, read_json

KINDS = {kind.__name__: kind for kind in (DiscreteVAE,)}


def load_image_tokenizer(name: str | Path) -> DiscreteVAE:
    """Load the image tokenizer in a directory or hub repository, whichever kind its `config.json` names.

    Raises:
        ModelError: It is absent, damaged or of an unknown kind.
    """
    directory = model_directory(name)
    kind = read_json(directory / "config.json").get("kind")
    if kind not in KINDS:
        remedy = "check the path, or load it with the version that wrote it"
        raise ModelError(f"{directory} holds a {kind}", expected=f"one of {', '.join(KINDS)}", remedy=remedy)
    return KINDS[kind].from_pretrained(directory)
