"""CLIP as a `Ranker`."""

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.errors import ModelError
from trencadis.protocols import TextTokenizer
from trencadis.ranking.clip import CLIP

CHUNK = 64
"""Pictures that are encoded at once: 512 candidates need no more memory than this."""


class CLIPRanker:
    """CLIP with the text tokenizer that it was trained with. A `Ranker`.

    Args:
        clip: The network; it is used as it is, on the device that it is on.
        text_tokenizer: Captions to the ids that the network knows.

    Raises:
        ModelError: The tokenizer has ids that the network does not know.
    """

    def __init__(self, clip: CLIP, text_tokenizer: TextTokenizer) -> None:
        if text_tokenizer.vocab_size > clip.config.text_vocab_size:
            raise ModelError(
                f"a text tokenizer of {text_tokenizer.vocab_size} ids",
                expected=f"the {clip.config.text_vocab_size} ids that the ranker was trained with, at most",
                remedy="load the tokenizer and the ranker of one model",
            )
        self.clip = clip
        self.text_tokenizer = text_tokenizer

    @torch.no_grad()
    def score(self, images: Float[Tensor, "candidates 3 height width"], prompt: str) -> Float[Tensor, " candidates"]:
        """Return the cosine similarity of each picture with the prompt, in [−1, 1].

        A prompt longer than the network's text is cut, with a `CaptionCutWarning`.

        Args:
            images: RGB in [0, 1], of any size.
            prompt: Raw text.
        """
        tokens = self.text_tokenizer.encode(prompt, max_len=self.clip.config.text_len - 1)
        text_features = self.clip.encode_text(self.clip.pad([tokens]))[0]
        chunks = [self.clip.encode_image(chunk.to(text_features.device)) for chunk in torch.split(images, CHUNK)]
        # Rounding can leave two features of length 1 a little more alike than is possible.
        return (torch.cat(chunks) @ text_features).clamp(-1, 1).to(images.device)
