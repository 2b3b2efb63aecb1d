"""Batches of pictures: from text tokens and seeds to pixels."""

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from trencadis.data.pixels import to_pillow
from trencadis.drawn import MAX_SEED, Record
from trencadis.errors import ConfigError, RankingError
from trencadis.memory import in_memory
from trencadis.protocols import ImageTokenizer
from trencadis.ranking import no_ranker
from trencadis.sampling import (
    DecoderName,
    Grid,
    GuidanceSchedule,
    ImagePrompt,
    Partial,
    Ranking,
    Request,
    Sampling,
    sample_image_tokens,
)
from trencadis.transformer import KVDecoder, Weights

MAX_CANDIDATES = 4096
NOT_DRAWN = 0.9  # grey


@dataclass(frozen=True)
class Progress:
    """How far drawing has come."""

    drawn: int  # tokens, of all pictures together
    total: int  # tokens to draw
    partial_images: Callable[[], list[Image.Image]]  # the current batch as it is now; what is not drawn yet is grey


class SamplingOptions(TypedDict, total=False):
    """Fields of `Sampling` for one call; None takes the model's own value."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    guidance_scale: float | None
    guidance_schedule: GuidanceSchedule | None
    decoder: DecoderName | None
    jacobi_window: int | None
    ranking: Ranking | None


class GenerateOptions(SamplingOptions, total=False):
    """Arguments of `DALLE.generate`."""

    candidates: int | None
    keep: int | None
    seed: int | None
    negative_prompt: str | None
    weights: Weights | None
    image: Image.Image | None
    mask: Image.Image | None
    keep_rows: int | None
    image_tokens: Grid | None
    kept_tokens: int | None
    batch_size: int
    callback: Callable[[Progress], None] | None


@dataclass(frozen=True)
class Asked:
    """What is drawn of a prompt: a picture a seed, of which `keep` are returned."""

    prompt: str
    seeds: list[int]
    keep: int


class Pictures(NamedTuple):
    """Pictures, RGB in [0, 1], on the CPU, and the tokens that they were decoded from."""

    images: Float[Tensor, "pictures 3 height width"]
    image_tokens: Int[Tensor, "pictures rows columns"]


@dataclass(frozen=True)
class Prepared:
    """A prompt that has been checked and read: all that is drawn of it, for an engine that the caller drives.

    `DALLE.prepare` makes it, and `DALLE.finish` turns the pictures into what is kept.
    """

    asked: Asked
    request: Request  # all candidates
    record: Record  # what the records of its pictures have in common


def overridden(sampling: Sampling, options: SamplingOptions, *, has_ranker: bool = True) -> Sampling:
    """Return how a call draws. A model without a ranker ranks by none where the call does not ask for it.

    Raises:
        ConfigError: A number is out of its range.
        RankingError: The ranking needs a ranker.
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    chosen = dataclasses.replace(sampling, **given)
    if has_ranker or chosen.ranking in ("likelihood", "none"):
        return chosen
    if "ranking" in given:
        raise no_ranker(chosen.ranking)
    return dataclasses.replace(chosen, ranking="none" if chosen.ranking == "clip" else "likelihood")


def candidate_counts(candidates: int | None, keep: int | None, *, is_ranked: bool) -> tuple[int, int]:
    """Return how many candidates to draw and to keep. The defaults are 16 and 4; unranked, all are kept."""
    if candidates is None:
        candidates = max(16, keep or 4) if is_ranked else (keep or 4)
    if keep is None:
        keep = min(4, candidates) if is_ranked else candidates
    if not 1 <= candidates <= MAX_CANDIDATES:
        raise ConfigError(f"{candidates} candidates", expected=f"1..{MAX_CANDIDATES}", remedy="choose one in between")
    if not 1 <= keep <= candidates:
        expected = f"1..{candidates}, the number of candidates"
        raise RankingError(f"keep {keep}", expected=expected, remedy="keep fewer or draw more candidates")
    if not is_ranked and keep != candidates:
        given, expected = f"keep {keep} of {candidates} candidates", "a ranking, such as likelihood"
        raise RankingError(given, expected=expected, remedy="keep as many as are drawn, or choose a ranking")
    return candidates, keep


def consecutive_seeds(first: int | None, candidates: int) -> list[int]:
    """Return one seed for each candidate, from the first on; None takes new ones."""
    start = secrets.randbelow(2**31) if first is None else first
    if not 0 <= start <= MAX_SEED + 1 - candidates:
        expected = f"0..2^63-1 with room for {candidates} candidates"
        raise ConfigError(f"seed {first}", expected=expected, remedy="choose a lower one")
    return list(range(start, start + candidates))


def draw_pictures(
    decoder: KVDecoder,
    image_tokenizer: ImageTokenizer,
    text_tokens: Int[Tensor, "pictures text_len"],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    negative_tokens: Int[Tensor, " text_len"] | None = None,
    image_prompt: ImagePrompt | None = None,
    batch_size: int = 32,
    callback: Callable[[Progress], None] | None = None,
) -> Pictures:
    """Return one picture for each padded caption and seed. See `DALLE.draw`."""
    image_len, images, grids = decoder.stream.image_len, [], []
    for start in range(0, len(seeds), batch_size):
        batch = list(seeds[start : start + batch_size])

        def report(partial: Partial, start: int = start, count: int = len(batch)) -> None:
            assert callback is not None
            drawn = start * image_len + count * partial.drawn
            callback(Progress(drawn, len(seeds) * image_len, lambda: partial_images(image_tokenizer, partial)))

        remedy = "lower batch_size, or draw fewer" if len(batch) > 1 else "take a smaller model, or smaller weights"
        with in_memory(f"drawing {len(batch)} of {len(seeds)} pictures at once", remedy=remedy):
            image_tokens = sample_image_tokens(
                decoder,
                text_tokens[start : start + batch_size],
                batch,
                sampling,
                negative_tokens=negative_tokens,
                image_prompt=image_prompt,
                callback=None if callback is None else report,
            )
            images.append(decoded(image_tokenizer, image_tokens))
            grids.append(image_tokens)
    return Pictures(torch.cat(images), torch.cat(grids))


def decoded(
    image_tokenizer: ImageTokenizer, image_tokens: Int[Tensor, "pictures rows columns"]
) -> Float[Tensor, "pictures 3 height width"]:
    """Return the pictures of grids of tokens, RGB in [0, 1], on the CPU.

    They are decoded one by one: the last bit of a convolution's sums depends on the size of its batch, and now and then
    that changes a pixel. A picture must not depend on the others.
    """
    return torch.cat([image_tokenizer.decode(grid[None]).float().cpu() for grid in image_tokens])


def partial_images(image_tokenizer: ImageTokenizer, partial: Partial) -> list[Image.Image]:
    """Return pictures as they are now, of the decoder's size; what is not drawn yet is grey."""
    rows, columns = partial.image_tokens.shape[1:]
    images = image_tokenizer.decode(partial.image_tokens).float().cpu()
    factor = images.shape[-1] // columns
    shown = (torch.arange(rows * columns) < partial.drawn).view(rows, columns)
    pixels = shown.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    return to_pillow(images.where(pixels, torch.tensor(NOT_DRAWN)))
