"""The drawings of a model, with their scores and what the judge says of them, kept on the disk.

A caption's drawings are written as soon as they are there, so an evaluation that was stopped goes on where it was.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mosaic.claims import CLAIMS, Case
from mosaic.draw import draw
from mosaic.judge import read
from mosaic.scene import Reading
from mosaic.verdict import place_of, verdict
from trencadis import DALLE
from trencadis.data.pixels import to_pillow
from trencadis.errors import ModelError
from trencadis.progress import progress
from trencadis.protocols import Digested
from trencadis.randomness import derive_seed
from trencadis.sampling import image_prompt, sample_image_tokens
from trencadis.storage import write_whole
from trencadis.transformer import KVDecoder

PROTOCOL = 1
"""Changes whenever captions, seeds or the judge do."""
AT_ONCE = 64


@dataclass(frozen=True)
class Drawings:
    """The candidates of a caption, in the order of their seeds.

    Attributes:
        tokens: Image tokens of each, in raster order.
        scores: By ranking, `clip` or `likelihood`: one for each, higher is better.
        verdicts: What of the asked each has.
        details: What each shows of what may be left open, if it shows one thing.
    """

    tokens: list[list[int]]
    scores: dict[str, list[float]]
    verdicts: list[dict[str, bool]]
    details: list[dict[str, str]]

    @property
    def right(self) -> list[bool]:
        return [all(each.values()) for each in self.verdicts]


def details(seen: Reading) -> dict[str, str]:
    """Return the attributes of a picture of one thing; nothing where there is not one."""
    if len(seen.things) != 1 or seen.words:
        return {}
    thing = seen.things[0].thing
    found = {"colour": thing.colour, "size": thing.size, "texture": thing.texture, "place": place_of(seen.things[0])}
    return {name: value for name, value in found.items() if value} | {"decade": seen.decade}


class Artist:
    """Draws captions with a model as it is by default.

    Args:
        candidates: Drawings of each caption.
        folder: Where they are kept; those of other models and settings may be there too.

    Raises:
        ModelError: Nothing says which weights the model has.
    """

    def __init__(self, model: DALLE, *, candidates: int, folder: Path) -> None:
        self.model, self.candidates = model, candidates
        self.decoder = KVDecoder(model.transformer, model.weights)
        digest = model.digest()
        if digest is None:
            expected = "parts that have a digest"
            raise ModelError("a model without a digest", expected=expected, remedy="save it and load it again")
        ranker = getattr(model.ranker, "clip", model.ranker)
        ranked_by = ranker.digest() if isinstance(ranker, Digested) else repr(type(ranker))
        settings = asdict(model.sampling) | {"weights": model.weights, "candidates": candidates, "protocol": PROTOCOL}
        key = f"{digest} {ranked_by} {sorted(settings.items(), key=str)}"
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]

    def draw(self, cases: Sequence[Case]) -> dict[str, Drawings]:
        """Return the drawings of each case by its name; those that are not kept are drawn first."""
        found = {case.name: kept for case in cases if (kept := self._read(case)) is not None}
        with progress("drawing captions", len(cases), done=len(found)) as advance:
            for case in cases:
                if case.name not in found:
                    found[case.name] = self._drawn(case)
                    write_whole(self._path(case), json.dumps(asdict(found[case.name])))
                    advance()
        return found

    def images(self, tokens: Int[Tensor, "pictures rows columns"]) -> Float[Tensor, "pictures 3 height width"]:
        """Return the pictures of image tokens, RGB in [0, 1]."""
        with torch.inference_mode():
            return self.model.image_tokenizer.decode(tokens).float().clamp(0, 1).cpu()

    def grid(self, tokens: Sequence[Sequence[int]]) -> Int[Tensor, "pictures rows columns"]:
        """Return kept tokens as the image tokenizer takes them."""
        return torch.tensor(tokens, dtype=torch.long).view(-1, *self.model.image_tokenizer.grid_size)

    @torch.inference_mode()
    def _drawn(self, case: Case) -> Drawings:
        model = self.model
        stream = model.transformer.stream
        text = stream.pad_captions([model.text_tokenizer.encode(case.caption, max_len=stream.text_len)])
        kept = None
        if CLAIMS[case.claim].is_kept:
            rows = model.image_tokenizer.grid_size[0] // 2
            real, device = draw(case.scene), torch.device("cpu")
            kept = image_prompt(model.image_tokenizer, real, mask=None, keep_rows=rows, device=device)
        first = derive_seed("mosaic", case.caption, case.name) % 2**31
        seeds, parts = range(first, first + self.candidates), []
        for start in range(0, self.candidates, AT_ONCE):
            own = seeds[start : start + AT_ONCE]
            repeated = text.expand(len(own), -1)
            parts.append(sample_image_tokens(self.decoder, repeated, own, model.sampling, image_prompt=kept))
        tokens = torch.cat(parts)
        images = self.images(tokens)
        scores = {"likelihood": model.ranker_by("likelihood", tokens).score(images, case.caption).tolist()}
        if model.ranker is not None:
            scores["clip"] = model.ranker_by("clip").score(images, case.caption).tolist()
        seen = [read(picture) for picture in to_pillow(images)]
        verdicts = [verdict(case.asked, each) for each in seen]
        return Drawings(tokens.flatten(1).tolist(), scores, verdicts, [details(each) for each in seen])

    def _path(self, case: Case) -> Path:
        return self.folder / f"{case.name}-{hashlib.sha256(case.caption.encode()).hexdigest()[:12]}.json"

    def _read(self, case: Case) -> Drawings | None:
        """Return what is kept of a case; None where nothing is, or where it is damaged."""
        try:
            content: dict[str, Any] = json.loads(self._path(case).read_text(encoding="utf-8"))
            return Drawings(**content)
        except (OSError, ValueError, TypeError):
            return None
