"""CLIP as a `Ranker`."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import trencadis.text  # noqa: F401  # registers the text tokenizer that ships
from trencadis.errors import ModelError
from trencadis.parts import load_part, register, save_part
from trencadis.pretrained import StoredType
from trencadis.protocols import TextTokenizer
from trencadis.ranking.clip import CLIP
from trencadis.storage import whole_directory

CHUNK = 64
"""Images encoded at once, which bounds the memory that many candidates need."""


@register("ranker", kind="CLIP")
class CLIPRanker:
    """CLIP with the text tokenizer that it was trained with. A `Ranker`.

    Raises:
        ModelError: The tokenizer has ids that the network does not know.
    """

    def __init__(self, clip: CLIP, text_tokenizer: TextTokenizer) -> None:
        if text_tokenizer.vocab_size > clip.config.text_vocab_size:
            given = f"a text tokenizer of {text_tokenizer.vocab_size:,} ids"
            expected = f"the {clip.config.text_vocab_size:,} ids that the ranker was trained with, at most"
            raise ModelError(given, expected=expected, remedy="load the tokenizer and the ranker of one model")
        self.clip, self.text_tokenizer = clip, text_tokenizer

    @torch.no_grad()
    def score(self, images: Float[Tensor, "candidates 3 height width"], prompt: str) -> Float[Tensor, " candidates"]:
        """Return the cosine similarity, in [−1, 1], of each picture (RGB in [0, 1], of any size) with the prompt.

        A prompt longer than the network's text is cut, with a `CaptionCutWarning`.
        """
        tokens = self.text_tokenizer.encode(prompt, max_len=self.clip.config.text_len - 1)
        text_features = self.clip.encode_text(self.clip.pad([tokens]))[0]
        chunks = [self.clip.encode_image(chunk.to(text_features.device)) for chunk in torch.split(images, CHUNK)]
        # Rounding can leave two features of length 1 a little more alike than is possible.
        return (torch.cat(chunks) @ text_features).clamp(-1, 1).to(images.device)

    def to(self, device: str | torch.device) -> "CLIPRanker":
        self.clip.to(device)
        return self

    def save_pretrained(self, save_directory: str | Path, *, dtype: StoredType = "float32") -> None:
        """Write CLIP in a type, and its text tokenizer in `text/` below it, whole or not at all."""
        with whole_directory(Path(save_directory)) as directory:
            self.clip.save_pretrained(directory, dtype=dtype)
            save_part("text", self.text_tokenizer, directory / "text")

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "CLIPRanker":
        """Load CLIP from the directory of a ranker; the text tokenizer is in `text/` below it, or beside it."""
        directory = Path(name)
        own = directory / "text"
        text_tokenizer = load_part("text", own if own.is_dir() else directory.parent / "text")
        return cls(CLIP.from_pretrained(directory), text_tokenizer)
