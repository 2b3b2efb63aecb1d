"""The pipeline: a prompt to ranked pictures.

prompt ─ text tokenizer ─ transformer ─ sampling ─ image tokenizer ─ pictures ─ ranker ─ ranked pictures
"""

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from huggingface_hub import ModelHubMixin
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from trencadis.data.pixels import to_pillow
from trencadis.drawn import Drawn
from trencadis.errors import ConfigError, ModelError, PromptError, RankingError
from trencadis.model_directory import ModelDirectory
from trencadis.protocols import ImageTokenizer, Ranker, TextTokenizer
from trencadis.ranking import CLIPRanker, rank
from trencadis.sampling import (
    DecoderName,
    GuidanceSchedule,
    ImagePrompt,
    Partial,
    Sampling,
    image_prompt,
    sample_image_tokens,
)
from trencadis.transformer import KVDecoder, Transformer, Weights

MAX_PROMPT_CHARS = 4096
MAX_CANDIDATES = 4096
NOT_DRAWN = 0.9  # the grey of what a partial picture does not show yet


@dataclass(frozen=True)
class Progress:
    """How far drawing has come.

    Args:
        drawn: Tokens drawn, of all candidates together.
        total: Tokens to draw.
        partial_images: Returns the candidates being drawn as they are now; what is not drawn yet is grey.
    """

    drawn: int
    total: int
    partial_images: Callable[[], list[Image.Image]]


@dataclass(frozen=True)
class _Asked:
    """What every candidate is drawn from.

    Args:
        text_tokens: Of the prompt.
        negative_tokens: Of the negative prompt.
        sampling: How tokens are drawn.
        image_prompt: Tokens that stay.
    """

    text_tokens: Int[Tensor, "1 text_len"]
    negative_tokens: Int[Tensor, " text_len"] | None
    sampling: Sampling
    image_prompt: ImagePrompt | None


class DALLE(ModelDirectory, ModelHubMixin):  # type: ignore[misc]  # from_pretrained is narrower than the hub's
    """A whole model: it draws pictures from prompts.

    Args:
        text_tokenizer: Prompts to text tokens.
        image_tokenizer: Image tokens to pictures.
        transformer: Models both as one stream.
        ranker: Orders candidates; None leaves them as they are drawn.
        sampling: How it draws where `generate` is not told otherwise.
        name: What its pictures say that they were drawn by.

    Raises:
        ModelError: The parts do not belong together.
    """

    def __init__(
        self,
        *,
        text_tokenizer: TextTokenizer,
        image_tokenizer: ImageTokenizer,
        transformer: Transformer,
        ranker: Ranker | None = None,
        sampling: Sampling | None = None,
        name: str = "",
    ) -> None:
        self.text_tokenizer, self.image_tokenizer, self.ranker = text_tokenizer, image_tokenizer, ranker
        self.transformer = transformer.eval()
        self.sampling, self.name = sampling or Sampling(), name
        self._decoders: dict[Weights, KVDecoder] = {}
        self._check_parts()

    def to(self, device: str | torch.device) -> "DALLE":
        """Move the parts that are modules to a device, and return the model itself."""
        ranker = self.ranker.clip if isinstance(self.ranker, CLIPRanker) else self.ranker
        for part in (self.transformer, self.image_tokenizer, ranker):
            if isinstance(part, nn.Module):
                part.to(device)
        self._decoders.clear()
        return self

    def generate(
        self,
        prompt: str,
        *,
        candidates: int | None = None,
        keep: int | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
        guidance_scale: float | None = None,
        guidance_schedule: GuidanceSchedule | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        decoder: DecoderName | None = None,
        weights: Weights = "float32",
        image: Image.Image | None = None,
        mask: Image.Image | None = None,
        keep_rows: int | None = None,
        batch_size: int = 32,
        callback: Callable[[Progress], None] | None = None,
    ) -> Drawn:
        """Draw candidates of a prompt and keep those that fit it best.

        Args:
            prompt: Up to 4096 characters; what the model's text has no room for is cut with a warning.
            candidates: How many to draw, 1..4096; 16, or as many as are kept, where None. Without a ranker, `keep`.
            keep: How many to return, 1..candidates; 4, or as many as are drawn, where None.
            seed: Of the first candidate, in 0..2^63-1; the others have those that follow. None takes a new one.
            negative_prompt: What guidance moves away from, in place of the empty caption; as long as a prompt.
            guidance_scale: How closely to follow the prompt; 1 is no guidance. None takes the model's.
            guidance_schedule: `constant`, or from 1 at the first token to `guidance_scale` at the last, `linear` or
                `cosine`. None takes the model's.
            temperature: Above 0. None takes the model's.
            top_k: Draw among this many likeliest tokens. None takes the model's.
            top_p: Draw among the likeliest tokens that make up this probability. None takes the model's.
            decoder: `sequential` or `jacobi`, which draws the same pictures in fewer passes. None takes the model's.
            weights: Type that the transformer's are kept in while it draws, in a copy of their own: `float32`,
                `bfloat16` or `int8`. The smaller ones change pictures a little.
            image: An image prompt, of which `mask` or `keep_rows` says what stays.
            mask: Of the image's size; transparent pixels are drawn anew, or white ones where it has no transparency.
                A region that reaches the bottom right corner is drawn knowing all that stays; any other is drawn
                knowing only what stays above it and to its left.
            keep_rows: Rows of tokens of the image that stay, from the top.
            batch_size: Candidates drawn at once; it changes speed and memory, not the pictures.
            callback: Called after each pass for a batch; an exception that it raises stops the drawing.

        Raises:
            PromptError: The prompt is empty or too long.
            RankingError: `keep` is more than `candidates`.
            ConfigError: Another number is out of its range, there is a negative prompt without guidance, or the
                device cannot compute with such weights.
            PictureError: The mask has another size than the image.
        """
        given: dict[str, Any] = {"guidance_scale": guidance_scale, "guidance_schedule": guidance_schedule}
        given |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "decoder": decoder}
        sampling = dataclasses.replace(self.sampling, **{k: v for k, v in given.items() if v is not None})
        asked = _Asked(
            self._text_tokens(prompt),
            self._negative_tokens(negative_prompt, sampling),
            sampling,
            self._image_prompt(image, mask, keep_rows),
        )
        candidates, keep = self._counts(candidates, keep)
        seeds = _seeds(seed, candidates)
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size}", expected="1 or more", remedy="raise it")
        images = self._draw(asked, seeds, self._decoder(weights), batch_size, callback)
        scores = None
        if self.ranker is not None:
            ranked = rank(images, prompt, ranker=self.ranker, keep=keep)
            images, scores = ranked.images, ranked.scores.tolist()
            seeds = [seeds[index] for index in ranked.order.tolist()]
        settings = {**dataclasses.asdict(sampling), "weights": weights, "negative_prompt": negative_prompt}
        return Drawn(to_pillow(images), scores, seeds, prompt, settings, self.name)

    def _draw(
        self,
        asked: "_Asked",
        seeds: list[int],
        decoder: KVDecoder,
        batch_size: int,
        callback: Callable[[Progress], None] | None,
    ) -> Float[Tensor, "candidates 3 height width"]:
        """Draw every seed's picture, a batch at a time."""
        image_len, pictures = self.transformer.stream.image_len, []
        for start in range(0, len(seeds), batch_size):
            batch = seeds[start : start + batch_size]

            def report(partial: Partial, done: int = start, count: int = len(batch)) -> None:
                assert callback is not None
                drawn = done * image_len + count * partial.drawn
                callback(Progress(drawn, len(seeds) * image_len, lambda: self._partial_images(partial)))

            image_tokens = sample_image_tokens(
                decoder,
                asked.text_tokens.expand(len(batch), -1),
                batch,
                asked.sampling,
                negative_tokens=asked.negative_tokens,
                image_prompt=asked.image_prompt,
                callback=None if callback is None else report,
            )
            # One by one: a convolution's sums depend on the size of its batch, in the last bit, and that shows in a
            # pixel now and then. A seed's picture must not depend on the others.
            pictures += [self.image_tokenizer.decode(grid[None]).float().cpu() for grid in image_tokens]
        return torch.cat(pictures)

    def _decoder(self, weights: Weights) -> KVDecoder:
        """Return the transformer made ready to draw from, once for all drawings: that takes a while."""
        if weights not in get_args(Weights):
            expected = f"one of {', '.join(get_args(Weights))}"
            raise ConfigError(f"weights {weights!r}", expected=expected, remedy="choose one of them")
        if weights not in self._decoders:
            self._decoders[weights] = KVDecoder(self.transformer, weights)
        return self._decoders[weights]

    def _partial_images(self, partial: Partial) -> list[Image.Image]:
        rows, columns = partial.image_tokens.shape[1:]
        images = self.image_tokenizer.decode(partial.image_tokens).float().cpu()
        factor = images.shape[-1] // columns
        shown = (torch.arange(rows * columns) < partial.drawn).view(rows, columns)
        pixels = shown.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        return to_pillow(images.where(pixels, torch.tensor(NOT_DRAWN)))

    def _text_tokens(self, prompt: str) -> Int[Tensor, "1 text_len"]:
        if not prompt.strip():
            raise PromptError("an empty prompt", expected="words", remedy="say what to draw")
        if len(prompt) > MAX_PROMPT_CHARS:
            expected = f"at most {MAX_PROMPT_CHARS}"
            raise PromptError(f"a prompt of {len(prompt)} characters", expected=expected, remedy="shorten it")
        stream = self.transformer.stream
        tokens = self.text_tokenizer.encode(prompt, max_len=stream.text_len)
        return stream.pad_captions([tokens]).to(self._device)

    def _negative_tokens(self, prompt: str | None, sampling: Sampling) -> Int[Tensor, " text_len"] | None:
        if prompt is None:
            return None
        if not sampling.guided:
            remedy = "raise guidance_scale, or leave the negative prompt out"
            raise ConfigError(
                "a negative prompt without guidance", expected="a guidance_scale other than 1", remedy=remedy
            )
        return self._text_tokens(prompt)[0]

    def _counts(self, candidates: int | None, keep: int | None) -> tuple[int, int]:
        if candidates is None:
            candidates = max(16, keep or 4) if self.ranker is not None else (keep or 4)
        if keep is None:
            keep = min(4, candidates) if self.ranker is not None else candidates
        if not 1 <= candidates <= MAX_CANDIDATES:
            expected = f"1..{MAX_CANDIDATES}"
            raise ConfigError(f"{candidates} candidates", expected=expected, remedy="choose one in between")
        if not 1 <= keep <= candidates:
            expected = f"1..{candidates}, the number of candidates"
            raise RankingError(f"keep {keep}", expected=expected, remedy="keep fewer or draw more candidates")
        if self.ranker is None and keep != candidates:
            remedy = "keep as many as are drawn, or give the model a ranker"
            raise RankingError(
                f"keep {keep} of {candidates} candidates", expected="a model with a ranker", remedy=remedy
            )
        return candidates, keep

    def _image_prompt(
        self, image: Image.Image | None, mask: Image.Image | None, keep_rows: int | None
    ) -> ImagePrompt | None:
        if image is not None:
            return image_prompt(self.image_tokenizer, image, mask=mask, keep_rows=keep_rows, device=self._device)
        if mask is not None or keep_rows is not None:
            given = "mask without an image" if mask is not None else "keep_rows without an image"
            raise ConfigError(given, expected="an image that it speaks of", remedy="give the image too")
        return None

    @property
    def _device(self) -> torch.device:
        return self.transformer.image_head.weight.device

    def _check_parts(self) -> None:
        """Refuse parts that were not made for each other."""
        config, tokenizer = self.transformer.config, self.image_tokenizer
        pairs = (
            ("text ids", self.text_tokenizer.vocab_size, config.text_vocab_size, "at most"),
            ("image codes", tokenizer.image_vocab_size, config.image_vocab_size, "exactly"),
            ("a grid", tuple(tokenizer.grid_size), tuple(config.grid_size), "exactly"),
        )
        for what, given, expected, how in pairs:
            if given != expected and not (how == "at most" and given <= expected):
                remedy = "put together parts that were trained together"
                raise ModelError(
                    f"a tokenizer of {what} {given}", expected=f"{how} the transformer's {expected}", remedy=remedy
                )


def _seeds(first: int | None, candidates: int) -> list[int]:
    """Return one seed a candidate, from the first on; None takes new ones."""
    start = secrets.randbelow(2**31) if first is None else first
    if not 0 <= start <= 2**63 - 1 - candidates:
        expected = f"0..2^63-1 with room for {candidates} candidates"
        raise ConfigError(f"seed {first}", expected=expected, remedy="choose a lower one")
    return list(range(start, start + candidates))
