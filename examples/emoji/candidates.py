"""The drawings of a model, with what its ranker, its likelihood and the judges say of them, kept on the disk.

A caption's drawings are written as soon as they are there, so an evaluation that was stopped goes on where it was.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from cases import first_seed
from jaxtyping import Float, Int
from judges import NETWORK, STAGES, Judge
from torch import Tensor

from trencadis import DALLE
from trencadis.errors import ModelError
from trencadis.progress import progress
from trencadis.protocols import Digested
from trencadis.ranking.choice import standardised
from trencadis.sampling import sample_image_tokens
from trencadis.storage import write_whole
from trencadis.transformer import KVDecoder, Weights

CAPTIONS_AT_ONCE = 8
SCORES = ("clip", "likelihood", "both", "log_probability")
"""What is kept of each drawing: the model's own rankings, and a simpler one."""


@dataclass(frozen=True, eq=False)
class Drawings:
    """The candidates of a caption.

    Attributes:
        tokens: Their image tokens.
        scores: By ranker, such as `clip`: a score for each, higher is better.
        features: By judge: a vector for each.
    """

    tokens: Int[Tensor, "candidates rows columns"]
    scores: dict[str, Float[Tensor, " candidates"]] = field(default_factory=dict)
    features: dict[str, Float[Tensor, "candidates features"]] = field(default_factory=dict)


class Artist:
    """Draws captions with a model as it is by default, and keeps the drawings in a folder.

    Args:
        candidates: Drawings of each caption.
        judges: Whose vectors are kept with them.
        folder: Where they are kept; those of other models and settings may be there too.

    Raises:
        ModelError: Nothing says which weights the model has.
    """

    def __init__(
        self, model: DALLE, *, weights: Weights, candidates: int, judges: Sequence[Judge], folder: Path
    ) -> None:
        self.model, self.candidates, self.judges = model, candidates, judges
        self.decoder = KVDecoder(model.transformer, weights)
        digest = model.digest()
        if digest is None:
            expected = "parts that have a digest"
            raise ModelError("a model without a digest", expected=expected, remedy="save it and load it again")
        ranker = getattr(model.ranker, "clip", model.ranker)
        ranked_by = ranker.digest() if isinstance(ranker, Digested) else repr(type(ranker))
        settings = asdict(model.sampling) | {"weights": weights, "candidates": candidates}
        judged_by = [*[judge.name for judge in judges], NETWORK, STAGES, SCORES]
        key = f"{digest} {ranked_by} {sorted(settings.items(), key=str)} {judged_by}"
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]

    def draw(self, captions: Sequence[str]) -> dict[str, Drawings]:
        """Return the drawings of each caption; those that are not kept are drawn first."""
        wanted = list(dict.fromkeys(captions))
        found = {caption: kept for caption in wanted if (kept := self._read(caption)) is not None}
        missing = [caption for caption in wanted if caption not in found]
        with progress("drawing captions", len(wanted), done=len(found)) as advance:
            for start in range(0, len(missing), CAPTIONS_AT_ONCE):
                batch = missing[start : start + CAPTIONS_AT_ONCE]
                for caption, drawings in zip(batch, self._drawn(batch), strict=True):
                    found[caption] = drawings
                    self._write(caption, drawings)
                    advance()
        return {caption: found[caption] for caption in wanted}

    def images(self, tokens: Int[Tensor, "pictures rows columns"]) -> Float[Tensor, "pictures 3 height width"]:
        """Return the pictures of image tokens, RGB in [0, 1]."""
        with torch.inference_mode():
            return self.model.image_tokenizer.decode(tokens).float().clamp(0, 1).cpu()

    @torch.inference_mode()
    def _drawn(self, captions: Sequence[str]) -> Iterator[Drawings]:
        text = torch.cat([text_tokens(self.model, caption) for caption in captions])
        seeds = [first_seed(caption) + number for caption in captions for number in range(self.candidates)]
        repeated = text.repeat_interleave(self.candidates, 0)
        tokens = sample_image_tokens(self.decoder, repeated, seeds, self.model.sampling)
        for caption, own_text, own in zip(captions, text, torch.split(tokens, self.candidates), strict=True):
            images = self.images(own)
            scores = {"log_probability": log_probabilities(self.model, own_text, own)}
            scores["likelihood"] = self.model.ranker_by("likelihood", own).score(images, caption)
            if self.model.ranker is not None:
                scores["clip"] = self.model.ranker_by("clip").score(images, caption)
                scores["both"] = standardised(scores["clip"]) + standardised(scores["likelihood"])
            features = {judge.name: judge.features(images).half().float() for judge in self.judges}
            yield Drawings(own.cpu(), scores, features)

    def _path(self, caption: str) -> Path:
        return self.folder / f"{hashlib.sha256(caption.encode()).hexdigest()[:24]}.npz"

    def _write(self, caption: str, drawings: Drawings) -> None:
        arrays = {"tokens": drawings.tokens.int().numpy()}
        arrays |= {f"score {name}": scores.float().numpy() for name, scores in drawings.scores.items()}
        arrays |= {f"judge {name}": found.half().numpy() for name, found in drawings.features.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(self._path(caption), buffer.getvalue())

    def _read(self, caption: str) -> Drawings | None:
        """Return what is kept of a caption; None where nothing is, or where it is damaged."""
        try:
            with np.load(self._path(caption)) as stored:
                arrays = {name: torch.from_numpy(stored[name]) for name in stored}
        except (OSError, ValueError, BadZipFile):
            return None
        parts: dict[str, dict[str, Tensor]] = {"score": {}, "judge": {}}
        for name in set(arrays) - {"tokens"}:
            kind, _, rest = name.partition(" ")
            parts[kind][rest] = arrays[name].float()
        return Drawings(arrays["tokens"].long(), parts["score"], parts["judge"])


def text_tokens(model: DALLE, caption: str) -> Int[Tensor, "1 text_len"]:
    """Return a caption's padded tokens; of an empty one, only padding."""
    stream = model.transformer.stream
    tokens = model.text_tokenizer.encode(caption, max_len=stream.text_len) if caption else []
    return stream.pad_captions([tokens])


@torch.inference_mode()
def log_probabilities(
    model: DALLE, text: Int[Tensor, " text_len"], tokens: Int[Tensor, "pictures rows columns"]
) -> Float[Tensor, " pictures"]:
    """Return ln p(picture | caption) in nats a picture: the ranking by likelihood without its second term."""
    logits = model.transformer.logits(text.expand(len(tokens), -1), tokens).image.float()
    return logits.log_softmax(-1).gather(-1, tokens.flatten(1)[..., None]).sum((1, 2))
