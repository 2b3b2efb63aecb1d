"""What a model says of pictures: how likely their tokens are, with a caption and without, and which others would be.

picture ─ image tokenizer ─ image tokens ─┐
                                          ├─ transformer ─ -log2 p of each token
caption ─ text tokenizer ─ text tokens ───┘
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from trencadis.data.pixels import to_pillow
from trencadis.errors import ConfigError, PromptError
from trencadis.generation import decoded, overridden
from trencadis.memory import in_memory
from trencadis.protocols import ImageTokenizer, Ranker, TextTokenizer
from trencadis.ranking import LikelihoodRanker, chosen_ranker, token_nats
from trencadis.sampling import Grid, Ranking, Sampling, guidance_scales, guide, picture_tokens, token_grid
from trencadis.transformer import Transformer

MAX_PROMPT_CHARS = 4096
_NATS = math.log(2)  # in a bit


@dataclass(frozen=True, eq=False)
class Surprise:
    """How surprising each token of a picture is to the model, in float64 on the CPU.

    Args:
        image_tokens: The picture's.
        bits: -log2 p(token | caption, tokens before it in raster order).
        bits_without_caption: The same without the caption.
    """

    image_tokens: Int[Tensor, "rows columns"]
    bits: Float[Tensor, "rows columns"]
    bits_without_caption: Float[Tensor, "rows columns"]

    @property
    def log_probability(self) -> float:
        """Return ln p(picture | caption), of all its tokens together."""
        return -float(self.bits.sum()) * _NATS

    @property
    def likelihood(self) -> float:
        """Return what the caption adds to it, in nats a token: the score of the ranking `likelihood`."""
        return float((self.bits_without_caption - self.bits).mean()) * _NATS


@dataclass(frozen=True, eq=False)
class Scores:
    """How likely pictures are with each of several captions, in nats, in float64 on the CPU.

    Args:
        log_probabilities: ln p(picture | caption).
        without_caption: ln p(picture).
    """

    log_probabilities: Float[Tensor, "pictures captions"]
    without_caption: Float[Tensor, " pictures"]

    @property
    def added(self) -> Float[Tensor, "pictures captions"]:
        """Return what each caption adds: the pointwise mutual information of picture and caption."""
        return self.log_probabilities - self.without_caption[:, None]

    @property
    def shares(self) -> Float[Tensor, "pictures captions"]:
        """Return p(caption | picture), if it is one of these and each was as likely before the picture was seen."""
        return self.log_probabilities.softmax(1)


@dataclass(frozen=True, eq=False)
class Tile:
    """A token at a place of a picture, its probability there, and the picture with it."""

    token: int
    probability: float
    image: Image.Image


@dataclass(frozen=True, eq=False)
class Tiles:
    """The likeliest tokens at a place, and the one that is there, which may be one of them."""

    likeliest: list[Tile]
    current: Tile


class Judge:
    """A model that judges pictures; every `DALLE` is one.

    A picture is a PIL image of any size, which is cropped and resized as an image prompt is, or its image tokens. Each
    is read alone, with each caption, in the type of the weights in memory: on a CPU no figure depends on what else is
    judged, bit for bit. An empty caption is no caption.
    """

    text_tokenizer: TextTokenizer
    image_tokenizer: ImageTokenizer
    transformer: Transformer
    ranker: Ranker | None
    sampling: Sampling

    def score(self, pictures: Sequence[Image.Image | Grid], captions: Sequence[str]) -> Scores:
        """Return how likely each picture is with each caption, and without one.

        Raises:
            PictureError: Image tokens are not of this model.
            PromptError: A caption is too long, or there is none.
        """
        if not captions:
            raise PromptError("no captions", expected="one or more", remedy="say what the pictures may show")
        texts = [self._text_tokens(caption)[0] for caption in ("", *captions)]
        found = []
        with in_memory("judging a picture", remedy="take a smaller model"), torch.no_grad():
            for picture in pictures:
                grid = self._grid(picture).to(self._device)
                found.append(torch.stack([-token_nats(self.transformer, text, grid).sum() for text in texts]).cpu())
        table = torch.stack(found) if found else torch.zeros(0, len(texts), dtype=torch.float64)
        return Scores(table[:, 1:], table[:, 0])

    def surprise(self, picture: Image.Image | Grid, caption: str) -> Surprise:
        """Return how surprising each token of a picture is, with a caption and without.

        Raises:
            PictureError: Image tokens are not of this model.
            PromptError: The caption is too long.
        """
        texts = [self._text_tokens(each)[0] for each in (caption, "")]
        with in_memory("judging a picture", remedy="take a smaller model"):
            grid = self._grid(picture)
            given, alone = (token_nats(self.transformer, text, grid.to(self._device)).cpu() / _NATS for text in texts)
        return Surprise(grid, given, alone)

    @torch.no_grad()
    def tiles(
        self,
        picture: Image.Image | Grid,
        caption: str,
        row: int,
        column: int,
        *,
        count: int = 8,
        guidance_scale: float | None = None,
    ) -> Tiles:
        """Return the likeliest tokens at a place of a picture, given the caption and the tokens before the place.

        Their probabilities are those that the token is drawn with, before temperature, top-k and top-p.

        Args:
            row: Of the grid of tokens, from 0; so is `column`.
            count: How many, 1..image_vocab_size; equals are in the order of their ids.
            guidance_scale: As for `generate`; None takes the model's own, and 1 is no guidance.

        Raises:
            ConfigError: A number is out of its range.
            PictureError: Image tokens are not of this model.
            PromptError: The caption is too long.
        """
        stream = self.transformer.stream
        self._check_place(row, column, count)
        sampling = overridden(self.sampling, {"guidance_scale": guidance_scale})
        texts = [self._text_tokens(each) for each in (caption, "")]
        place = row * stream.grid_size[1] + column
        scales = guidance_scales(sampling.guidance_scale, sampling.guidance_schedule, stream.image_len)
        with in_memory("judging a picture", remedy="take a smaller model"):
            grid = self._grid(picture).to(self._device)
            own, alone = (self.transformer.image_logits(text, grid[None])[0, place].float() for text in texts)
            probabilities = guide(own, alone, float(scales[place])).double().softmax(0).cpu()
            likeliest = probabilities.argsort(descending=True, stable=True)[:count].tolist()
            tokens = [*likeliest, int(grid[row, column])]
            grids = grid.repeat(len(tokens), 1, 1)
            grids[:, row, column] = torch.tensor(tokens, device=grids.device)
            images = to_pillow(decoded(self.image_tokenizer, grids))
        *tiles, current = (
            Tile(token, float(probabilities[token]), image) for token, image in zip(tokens, images, strict=True)
        )
        return Tiles(tiles, current)

    @property
    def rankings(self) -> tuple[Ranking, ...]:
        """Return the rankings that it can order candidates by."""
        return get_args(Ranking) if self.ranker is not None else ("likelihood", "none")

    def ranker_by(self, ranking: Ranking, image_tokens: Int[Tensor, "candidates rows columns"] | None = None) -> Ranker:
        """Return what scores pictures by a ranking: `clip`, `likelihood` or `both`.

        Args:
            image_tokens: Of the pictures that are scored, where they are known; else the likelihood encodes them.

        Raises:
            RankingError: The ranking is none of the three, or needs a ranker that the model lacks.
        """
        likelihood = LikelihoodRanker(self.transformer, self.image_tokenizer, self._text_tokens, image_tokens)
        return chosen_ranker(ranking, self.ranker, likelihood)

    def _grid(self, picture: Image.Image | Grid) -> Int[Tensor, "rows columns"]:
        """Return a picture's tokens on the CPU."""
        if isinstance(picture, Image.Image):
            return picture_tokens(self.image_tokenizer, picture, device=self._device)
        return token_grid(picture, self.transformer.stream)

    def _check_place(self, row: int, column: int, count: int) -> None:
        (rows, columns), vocab_size = self.transformer.stream.grid_size, self.transformer.stream.image_vocab_size
        limits = (("row", row, 0, rows - 1), ("column", column, 0, columns - 1), ("count", count, 1, vocab_size))
        for name, value, low, high in limits:
            if not low <= value <= high:
                expected = f"{low}..{high}, as this model has them"
                raise ConfigError(f"{name} {value}", expected=expected, remedy="choose one in between")

    def _text_tokens(self, prompt: str) -> Int[Tensor, "1 text_len"]:
        if len(prompt) > MAX_PROMPT_CHARS:
            given, expected = f"a prompt of {len(prompt):,} characters", f"at most {MAX_PROMPT_CHARS:,}"
            raise PromptError(given, expected=expected, remedy="shorten it")
        stream = self.transformer.stream
        tokens = self.text_tokenizer.encode(prompt, max_len=stream.text_len) if prompt.strip() else []
        return stream.pad_captions([tokens]).to(self._device)

    @property
    def _device(self) -> torch.device:
        return self.transformer.image_head.weight.device
