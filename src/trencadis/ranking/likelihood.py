"""The transformer itself as a ranker: how much likelier the caption makes a picture's tokens."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.protocols import ImageTokenizer
from trencadis.transformer import Transformer


@torch.no_grad()
def token_nats(
    transformer: Transformer, text_tokens: Int[Tensor, " text_len"], image_tokens: Int[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """Return -ln p of each image token, given the padded caption and the tokens before it in raster order; float64.

    A picture is read alone, in the type of the weights in memory.
    """
    logits = transformer.image_logits(text_tokens[None], image_tokens[None])[0].float()
    return F.cross_entropy(logits, image_tokens.flatten(), reduction="none").double().view_as(image_tokens)


class LikelihoodRanker:
    """Scores by log p(picture | caption) - log p(picture | no caption), in nats an image token. A `Ranker`.

    This is the pointwise mutual information of picture and caption. It orders the pictures of one caption as
    log p(caption | picture) does, by Bayes' rule. The first term alone would prefer plain pictures to fitting ones.
    Each picture is read alone, with the caption and without, in the type of the weights in memory: on a CPU its score
    does not depend on the others, bit for bit.

    Args:
        padded: Returns a prompt's text tokens, padded as `Stream.pad_captions` does.
        image_tokens: Of the pictures that are scored; None has the image tokenizer encode them, one by one.

    Source: the implicit classifier of Ho and Salimans 2022, section 3.2; ranking by log p(caption | picture) is
    CogView's, Ding et al. 2021, section 3.2.
    """

    def __init__(
        self,
        transformer: Transformer,
        image_tokenizer: ImageTokenizer,
        padded: Callable[[str], Int[Tensor, "1 text_len"]],
        image_tokens: Int[Tensor, "candidates rows columns"] | None = None,
    ) -> None:
        self.transformer, self.image_tokenizer = transformer, image_tokenizer
        self.padded, self.image_tokens = padded, image_tokens

    @torch.no_grad()
    def score(self, images: Float[Tensor, "candidates 3 height width"], prompt: str) -> Float[Tensor, " candidates"]:
        """Return one score a picture; without `image_tokens`, pictures have the size of decoded ones."""
        text_tokens = self.padded(prompt)[0]
        empty = self.transformer.stream.padding().to(text_tokens.device)
        grids = self._encoded(images.to(text_tokens.device)) if self.image_tokens is None else self.image_tokens
        scores = []
        for grid in grids.to(text_tokens.device):
            given, alone = (token_nats(self.transformer, text, grid) for text in (text_tokens, empty))
            scores.append((alone - given).mean())
        return torch.stack(scores).float().cpu()

    def _encoded(self, images: Float[Tensor, "candidates 3 height width"]) -> Int[Tensor, "candidates rows columns"]:
        if (size := tuple(self.image_tokenizer.image_size)) != images.shape[-2:]:
            images = F.interpolate(images, size, mode="area")  # decoded pictures may have a multiple of it
        return torch.cat([self.image_tokenizer.encode(image) for image in torch.split(images, 1)])
