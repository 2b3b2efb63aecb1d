"""The pipeline: a prompt to ranked pictures.

prompt ─ text tokenizer ─ transformer ─ sampling ─ image tokenizer ─ pictures ─ ranker ─ ranked pictures
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from trencadis import generation
from trencadis.data.pixels import to_pillow
from trencadis.drawn import MAX_SEED, Drawn, KeptImage, Record
from trencadis.errors import ConfigError, PromptError
from trencadis.generation import Asked, GenerateOptions, Pictures, Prepared, Progress, SamplingOptions
from trencadis.judgement import Judge
from trencadis.model_directory import check_parts, load_model, model_card, save_parts, save_settings
from trencadis.parts import PartName
from trencadis.pretrained import HubModel, HubOptions, StoredType, check_stored_type
from trencadis.protocols import Digested, ImageTokenizer, Movable, Ranker, TextTokenizer
from trencadis.ranking import rank
from trencadis.sampling import Engine, Grid, ImagePrompt, Ranking, Request, Sampling, image_prompt, token_prefix
from trencadis.storage import whole_directory
from trencadis.transformer import KVDecoder, Transformer, Weights
from trencadis.weight_cache import WeightCache

DALLET = TypeVar("DALLET", bound="DALLE")


class DALLE(HubModel, Judge):
    """A whole model: it draws pictures from prompts, and judges pictures as `Judge` says.

    Args:
        ranker: Orders candidates; without one the transformer can, or they stay in the order of their seeds.
        sampling: How it draws where a call does not say otherwise.
        name: What the records of its pictures call it.

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
        check_parts(text_tokenizer, image_tokenizer, transformer)
        self.text_tokenizer, self.image_tokenizer, self.ranker = text_tokenizer, image_tokenizer, ranker
        self.transformer = transformer.eval()
        self.sampling, self.name = sampling or Sampling(), name
        self._caches = {part: WeightCache() for part in ("text", "image", "transformer")}

    @classmethod
    def from_pretrained(cls: type[DALLET], name: str | Path = "emoji", **hub: Unpack[HubOptions]) -> DALLET:  # type: ignore[override]
        """Load a shipped model, a directory, or a repository of the hub, whose options are `HubOptions`.

        Args:
            name: Such as `emoji`, `runs/mine/model` or `owner/name`; only the last asks the network.

        Raises:
            ModelError: There is no such model, or it is damaged.
        """
        return cls(**load_model(name, **hub))

    def save_pretrained(  # type: ignore[override]  # the hub library's takes more
        self,
        save_directory: str | Path,
        *,
        dtype: StoredType | None = None,
        config: object = None,
        model_card_kwargs: object = None,
    ) -> None:
        """Write the model, whole or not at all; what the directory holds is replaced.

        Args:
            dtype: Type that the weights of transformer and CLIP are rounded to. Loaded again, the model draws with it
                by default. None takes the type that the model was loaded from. The image tokenizer is never rounded.
            config: None; the hub library's `push_to_hub` passes it, and so it does `model_card_kwargs`.

        Raises:
            ConfigError: The type is unknown.
            ModelError: A part cannot be saved.
            StorageError: The place cannot be written.
        """
        dtype = dtype or self.transformer.stored_type
        check_stored_type(dtype)
        self._check_hub_arguments(config, model_card_kwargs)
        with whole_directory(Path(save_directory)) as directory:
            save_parts(directory, self._parts(), dtype=dtype)
            self.save_settings(directory)

    def save_settings(self, directory: Path) -> None:
        """Write `config.json` and the card beside parts that are already there."""
        card = model_card(self.name, self.transformer, self.image_tokenizer, is_ranked=self.ranker is not None)
        save_settings(directory, name=self.name, sampling=self.sampling, card=card)

    def to(self, device: str | torch.device) -> "DALLE":
        """Move every part that has a `to` to a device, and return the model itself."""
        before = self._device
        for part in self._parts().values():
            if isinstance(part, Movable):
                part.to(device)
        if self._device != before:  # frees the memory there
            for cache in self._caches.values():
                cache.clear()
        return self

    @property
    def weights(self) -> Weights:
        """Type of weights that draws where a call does not say otherwise: the one that they are stored in."""
        return self.transformer.stored_type

    def digest(self) -> str | None:
        """Return the SHA-256 of what pictures depend on: the weights and configs of all parts but the ranker.

        It is computed when it is first asked for, and again once weights have changed. None where a part has no digest.
        """
        digests, parts = [], (self.text_tokenizer, self.image_tokenizer, self.transformer)
        for part, cache in zip(parts, self._caches.values(), strict=True):
            if not isinstance(part, Digested):
                return None
            digests.append(cache.get(part, "digest", part.digest) if isinstance(part, nn.Module) else part.digest())
        return hashlib.sha256(f"{digests}".encode()).hexdigest()

    @overload
    def generate(self, prompt: str, **options: Unpack[GenerateOptions]) -> Drawn: ...
    @overload
    def generate(self, prompt: list[str] | tuple[str, ...], **options: Unpack[GenerateOptions]) -> list[Drawn]: ...
    def generate(
        self,
        prompt: str | list[str] | tuple[str, ...],
        *,
        candidates: int | None = None,
        keep: int | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
        weights: Weights | None = None,
        image: Image.Image | None = None,
        mask: Image.Image | None = None,
        keep_rows: int | None = None,
        image_tokens: Grid | None = None,
        kept_tokens: int | None = None,
        batch_size: int = 32,
        callback: Callable[[Progress], None] | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Drawn | list[Drawn]:
        """Draw candidates of a prompt, or of each of several prompts, and keep those that fit it best.

        Args:
            prompt: Up to 4096 characters; what the model's text has no room for is cut with a warning. An empty one is
                drawn without a caption: nothing is ranked, and as many as are kept are drawn. Of a list, a `Drawn` is
                returned for each prompt, and the candidates of all are drawn in common batches; each picture is the
                same as if its prompt were drawn alone.
            candidates: How many to draw, 1..4096; 16, or as many as are kept, where None. Unranked, `keep`.
            keep: How many to return, 1..candidates; 4, or as many as are drawn, where None.
            seed: Of the first candidate of each prompt, in 0..2^63-1; the others have those that follow. None takes
                new ones.
            image: An image prompt, of which `mask` or `keep_rows` says what stays.
            mask: Of the image's size; transparent pixels are drawn anew, or white ones if it has no transparency. What
                is drawn anew does not depend on what stays below it or to its right.
            keep_rows: Rows of tokens of the image that stay, from the top.
            image_tokens: Of a picture whose first tokens stay, in place of an image; a `Drawn` has those of its own.
            kept_tokens: How many of them stay, in raster order, 0..image_len.
            **sampling: Fields of `Sampling` in place of the model's, such as `guidance_scale` and `ranking`.

        The other arguments are those of `draw`.

        Raises:
            UserError: As for `draw`; or `keep` is more than `candidates`, or the mask has another size than the image.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        chosen = generation.overridden(self.sampling, sampling, has_ranker=self.ranker is not None)
        weights = weights or self.weights
        asked = [self._asked(each, candidates, keep, seed, chosen.ranking) for each in prompts]
        kept, of_image = self._kept(image, mask, keep_rows, image_tokens, kept_tokens)
        pictures = self._pictures(
            [each.prompt for each in asked for _ in each.seeds], [seed for each in asked for seed in each.seeds],
            chosen, negative_prompt=negative_prompt, image_prompt=kept, weights=weights, batch_size=batch_size,
            callback=callback,
        )  # fmt: skip
        record = self._record(sampling=chosen, negative_prompt=negative_prompt, weights=weights, image=of_image)
        of_prompts = zip(*(torch.split(each, [len(own.seeds) for own in asked]) for each in pictures), strict=True)
        drawn = [self._ranked(Pictures(*own), each, record) for own, each in zip(of_prompts, asked, strict=True)]
        return drawn[0] if isinstance(prompt, str) else drawn

    def check(
        self,
        prompt: str,
        *,
        candidates: int | None = None,
        keep: int | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> None:
        """Raise what `generate` would raise for a prompt and its settings; nothing is drawn."""
        self.prepare(prompt, candidates=candidates, keep=keep, seed=seed, negative_prompt=negative_prompt, **sampling)

    def prepare(
        self,
        prompt: str,
        *,
        candidates: int | None = None,
        keep: int | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
        weights: Weights | None = None,
        image: Image.Image | None = None,
        mask: Image.Image | None = None,
        keep_rows: int | None = None,
        image_tokens: Grid | None = None,
        kept_tokens: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Prepared:
        """Check and read what `generate` would draw, for an engine that the caller drives; raises what `generate` does.

        Any seeds of the request may be admitted together, or one by one: the pictures are those of `generate`. Several
        threads may call it at a time once `digest` has been called.
        """
        chosen = generation.overridden(self.sampling, sampling, has_ranker=self.ranker is not None)
        asked, weights = self._asked(prompt, candidates, keep, seed, chosen.ranking), weights or self.weights
        text_tokens, negative_tokens = self._text_tokens(prompt)[0], self._negative_tokens(negative_prompt, chosen)
        kept, of_image = self._kept(image, mask, keep_rows, image_tokens, kept_tokens)
        request = Request(
            text_tokens=text_tokens, seeds=tuple(asked.seeds), sampling=chosen, negative_tokens=negative_tokens,
            image_prompt=kept,
        )  # fmt: skip
        record = self._record(sampling=chosen, negative_prompt=negative_prompt, weights=weights, image=of_image)
        return Prepared(asked, request, record)

    def engine(self, slots: int, weights: Weights | None = None) -> Engine:
        """Return an engine that draws the requests of `prepare`.

        Args:
            slots: Streams at a time; a picture takes one, and with guidance two.
        """
        return Engine(self._decoder(weights or self.weights), slots)

    def finish(self, image_tokens: Int[Tensor, "candidates rows columns"], prepared: Prepared) -> Drawn:
        """Return the pictures of a prepared prompt that are kept, best first.

        Args:
            image_tokens: Of all candidates, in the order of their seeds.
        """
        pictures = Pictures(generation.decoded(self.image_tokenizer, image_tokens), image_tokens)
        return self._ranked(pictures, prepared.asked, prepared.record)

    def draw(
        self,
        captions: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        negative_prompt: str | None = None,
        image_prompt: ImagePrompt | None = None,
        weights: Weights | None = None,
        batch_size: int = 32,
        callback: Callable[[Progress], None] | None = None,
    ) -> Float[Tensor, "pictures 3 height width"]:
        """Draw one picture for each caption, RGB in [0, 1] on the CPU; nothing is ranked.

        A picture depends on its own caption and seed, and on no other of the call.

        Args:
            captions: As `generate` takes a prompt; an empty one is no caption.
            seeds: One for each caption, in 0..2^63-1.
            sampling: None takes the model's.
            negative_prompt: What guidance moves away from, in place of the empty caption.
            image_prompt: Image tokens that stay, the same in every picture.
            weights: Type of a copy of the transformer's weights that draws; `bfloat16` and `int8` are faster and change
                pictures a little. None takes the type that the model is stored in.
            batch_size: Pictures drawn at once; it changes speed and memory, not the pictures.
            callback: Called after each pass for a batch; an exception that it raises stops the drawing.

        Raises:
            PromptError: A caption is too long, or a negative prompt empty.
            ConfigError: A number is out of its range, guidance is absent, or the device cannot compute with `weights`.
        """
        return self._pictures(
            captions, seeds, sampling or self.sampling, negative_prompt=negative_prompt, image_prompt=image_prompt,
            weights=weights or self.weights, batch_size=batch_size, callback=callback,
        ).images  # fmt: skip

    def _pictures(
        self,
        captions: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
        *,
        negative_prompt: str | None,
        image_prompt: ImagePrompt | None,
        weights: Weights,
        batch_size: int,
        callback: Callable[[Progress], None] | None,
    ) -> Pictures:
        """Do what `draw` does."""
        if not captions or len(captions) != len(seeds) or not all(0 <= seed <= MAX_SEED for seed in seeds):
            given = f"{len(seeds)} seeds for {len(captions)} captions"
            raise ConfigError(given, expected="one seed in 0..2^63-1 for each caption", remedy="give as many")
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size}", expected="1 or more", remedy="raise it")
        negative_tokens = self._negative_tokens(negative_prompt, sampling)
        by_caption = {caption: self._text_tokens(caption) for caption in dict.fromkeys(captions)}
        return generation.draw_pictures(
            self._decoder(weights),
            self.image_tokenizer,
            torch.cat([by_caption[caption] for caption in captions]),
            seeds,
            sampling,
            negative_tokens=negative_tokens,
            image_prompt=image_prompt,
            batch_size=batch_size,
            callback=callback,
        )

    def redraw(self, record: Record) -> Image.Image:
        """Draw the picture of a record again; raises what `draw` does."""
        kept = None if record.image is None else record.image.prompt(self.transformer.stream)
        images = self.draw(
            [record.prompt],
            [record.seed],
            record.sampling,
            negative_prompt=record.negative_prompt,
            image_prompt=kept,
            weights=record.weights,
        )
        return to_pillow(images)[0]

    def _asked(
        self, prompt: str, candidates: int | None, keep: int | None, seed: int | None, ranking: Ranking
    ) -> Asked:
        candidates, keep = generation.candidate_counts(candidates, keep, is_ranked=ranking != "none")
        if not prompt.strip():  # nothing to rank by
            candidates = keep
        return Asked(prompt, generation.consecutive_seeds(seed, candidates), keep)

    def _record(self, **how: Any) -> Record:
        """Return what the records of all pictures of a call have in common."""
        return Record(
            prompt="",
            seed=0,
            device=self._device.type,
            model=self.name,
            model_sha256=self.digest(),
            trencadis=version("trencadis"),
            torch=torch.__version__,
            **how,
        )

    def _ranked(self, pictures: Pictures, asked: Asked, record: Record) -> Drawn:
        records = [dataclasses.replace(record, prompt=asked.prompt, seed=seed) for seed in asked.seeds]
        (images, image_tokens), ranking = pictures, record.sampling.ranking
        if ranking == "none" or not asked.prompt.strip():
            return Drawn(to_pillow(images), records, image_tokens.cpu())
        ranked = rank(images, asked.prompt, ranker=self.ranker_by(ranking, image_tokens), keep=asked.keep)
        scored = zip(ranked.order.tolist(), ranked.scores.tolist(), strict=True)
        kept = [dataclasses.replace(records[index], score=score) for index, score in scored]
        return Drawn(to_pillow(ranked.images), kept, image_tokens.cpu()[ranked.order])

    def _kept(
        self,
        image: Image.Image | None,
        mask: Image.Image | None,
        keep_rows: int | None,
        image_tokens: Grid | None,
        kept_tokens: int | None,
    ) -> tuple[ImagePrompt | None, KeptImage | None]:
        """Return what stays, and how records describe it; None for nothing."""
        if image is not None and image_tokens is not None:
            remedy = "leave one of them out"
            raise ConfigError("image_tokens beside an image", expected="one of the two", remedy=remedy)
        kept = image_prompt(self.image_tokenizer, image, mask=mask, keep_rows=keep_rows, device=self._device)
        kept = kept or token_prefix(image_tokens, kept_tokens, self.transformer.stream)
        return kept, KeptImage.of(image, kept, keep_rows)

    def _decoder(self, weights: Weights) -> KVDecoder:
        is_compiled = self._device.type == "cuda"
        build = partial(KVDecoder, self.transformer, weights, is_compiled=is_compiled)
        return self._caches["transformer"].get(self.transformer, weights, build)

    def _negative_tokens(self, negative_prompt: str | None, sampling: Sampling) -> Int[Tensor, " text_len"] | None:
        if negative_prompt is None:
            return None
        if not negative_prompt.strip():
            given, expected = "an empty negative prompt", "words; without one, guidance moves away from no caption"
            raise PromptError(given, expected=expected, remedy="leave it out, or say what to draw away from")
        if not sampling.guided:
            given, expected = "a negative prompt without guidance", "a guidance_scale other than 1"
            raise ConfigError(given, expected=expected, remedy="raise guidance_scale, or leave the prompt out")
        return self._text_tokens(negative_prompt)[0]

    def _parts(self) -> dict[PartName, object]:
        parts: dict[PartName, object] = {
            "text": self.text_tokenizer,
            "image": self.image_tokenizer,
            "transformer": self.transformer,
            "ranker": self.ranker,
        }
        return {name: part for name, part in parts.items() if part is not None}
