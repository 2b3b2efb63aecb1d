"""What was drawn, and the record in a PNG from which it can be drawn again."""

import dataclasses
import hashlib
import itertools
import json
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from trencadis.data import read_picture
from trencadis.errors import PictureError, StorageError, UserError
from trencadis.pretrained import config_from_dict
from trencadis.sampling import ImagePrompt, Sampling
from trencadis.spelling import encodable, file_stem, json_text
from trencadis.storage import png_bytes, user_storage, write_new
from trencadis.stream import Stream
from trencadis.transformer import Weights

MAX_SEED = 2**63 - 1
KEY = "trencadis"  # of the text chunk
_TYPES = {
    "seed": (int,),
    "score": (float, int, NoneType),
    "negative_prompt": (str, NoneType),
    "model_sha256": (str, NoneType),
    "kept_tokens": (list,),
    "sha256": (str, NoneType),
    "keep_rows": (int, NoneType),
}  # of the fields in JSON that are not text


@dataclass(frozen=True, kw_only=True)
class KeptImage:
    """What a picture depends on of its image prompt: the tokens alone. The rest says where they are from."""

    kept_tokens: tuple[tuple[int, tuple[int, ...]], ...]  # runs in raster order: (first position, tokens)
    sha256: str | None = None  # of the image's RGB pixels; None where tokens were given
    keep_rows: int | None = None  # that were asked for; None where a mask or tokens were given

    @classmethod
    def of(cls, image: Image.Image | None, prompt: ImagePrompt | None, keep_rows: int | None) -> "KeptImage | None":
        """Describe an image prompt and the image that it was made of, if there is one; None where nothing is kept."""
        if prompt is None:
            return None
        kept = zip(prompt.kept.flatten().tolist(), prompt.image_tokens.flatten().tolist(), strict=True)
        groups = itertools.groupby(enumerate(kept), key=lambda entry: entry[1][0])
        runs = [list(group) for is_kept, group in groups if is_kept]
        tokens = tuple((run[0][0], tuple(token for _, (_, token) in run)) for run in runs)
        sha256 = None if image is None else hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
        return cls(kept_tokens=tokens, sha256=sha256, keep_rows=keep_rows)

    @classmethod
    def from_dict(cls, content: Any) -> "KeptImage":
        """Build it from JSON values; raises `TypeError` or `ValueError` where one is absent or wrong."""
        own = _fields(cls, content)
        if "kept_tokens" not in own:
            raise ValueError("no kept_tokens")
        runs = tuple((first, tuple(tokens)) for first, tokens in own["kept_tokens"])
        if any(type(number) is not int for first, tokens in runs for number in (first, *tokens)):
            raise TypeError("a position or a token is no whole number")
        return cls(**own | {"kept_tokens": runs})

    def prompt(self, stream: Stream) -> ImagePrompt:
        """Return the image prompt again.

        Raises:
            PictureError: A position or a token is outside the model's stream.
        """
        raster = torch.zeros(stream.image_len, dtype=torch.long)
        kept = torch.zeros(stream.image_len, dtype=torch.bool)
        for first, tokens in self.kept_tokens:
            end = first + len(tokens)
            if first < 0 or end > stream.image_len or not all(0 <= token < stream.image_vocab_size for token in tokens):
                given = f"a record of image tokens at positions {first}..{end - 1}"
                expected = f"tokens below {stream.image_vocab_size:,} at positions below {stream.image_len:,}"
                raise PictureError(given, expected=expected, remedy="name the model that drew the picture")
            raster[first:end] = torch.tensor(tokens, dtype=torch.long)
            kept[first:end] = True
        return ImagePrompt(raster.view(stream.grid_size), kept.view(stream.grid_size))


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that a picture depends on. Which others were drawn in its batch is not in it: no picture depends on that.

    Args:
        seed: In 0..2^63-1.
        negative_prompt: What guidance moved away from; None is the empty caption.
        weights: Type of the transformer's weights while it was drawn.
        device: `cpu` or `cuda`; rounding differs between them.
        image: What stayed of an image prompt.
        score: What `sampling.ranking` orders by; see `DALLE.ranker_by`.
        model_sha256: `DALLE.digest()`; None where a part of the model has no digest.
        trencadis: Version; so is `torch`.
    """

    prompt: str
    seed: int
    sampling: Sampling
    negative_prompt: str | None = None
    weights: Weights = "float32"
    device: str = "cpu"
    image: KeptImage | None = None
    score: float | None = None
    model: str = ""
    model_sha256: str | None = None
    trencadis: str = ""
    torch: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, those of `sampling` among them."""
        own = dataclasses.asdict(self)
        sampling: dict[str, Any] = own.pop("sampling")
        return own | sampling

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Record":
        """Build a record from `as_dict`'s values; unknown names are left out.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: One is absent or out of its range.
            ModelError: A setting of `sampling` is of the wrong type or out of its range.
        """
        names = {field.name for field in dataclasses.fields(Sampling)} & content.keys()
        sampling = config_from_dict(Sampling, {name: content[name] for name in names})
        image = content.get("image")
        own = _fields(cls, {name: value for name, value in content.items() if name not in ("image", "sampling")})
        if not own.keys() >= {"prompt", "seed"} or not 0 <= own["seed"] <= MAX_SEED:
            raise ValueError("no prompt, or no seed in 0..2^63-1")
        if own.get("weights", "float32") not in get_args(Weights):
            raise ValueError(f"weights {own['weights']}")
        return cls(**own, sampling=sampling, image=None if image is None else KeptImage.from_dict(image))


@dataclass(frozen=True)
class Drawn:
    """RGB pictures of a prompt, best first, how each was drawn, and its image tokens."""

    images: list[Image.Image]
    records: list[Record]
    image_tokens: Int[Tensor, "pictures rows columns"] = field(compare=False)

    @property
    def scores(self) -> list[float] | None:
        """What they were ranked by, falling; None where nothing was ranked."""
        scores = [record.score for record in self.records if record.score is not None]
        return scores if len(scores) == len(self.records) else None

    @property
    def seeds(self) -> list[int]:
        """One for each picture: `generate(prompt, candidates=1, keep=1, seed=seeds[i])` draws it again."""
        return [record.seed for record in self.records]

    @property
    def prompt(self) -> str:
        return self.records[0].prompt

    def save(self, directory: str | Path) -> list[Path]:
        """Write each picture as `<prompt>-<seed>.png`, best first; each file whole or not at all.

        Nothing that is there is replaced. Where a file has that name, `-2`, `-3` … is added; a file that holds the same
        picture with the same record is left as it is. The text chunk `trencadis` holds the record as JSON,
        `Description` the prompt.

        Raises:
            StorageError: The place cannot be written.
        """
        folder = Path(directory)
        is_new = not folder.exists()
        with user_storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            return [_save(*each, folder) for each in zip(self.images, self.records, strict=True)]
        except StorageError:
            if is_new:
                with suppress(OSError):  # it stays where there are pictures in it
                    folder.rmdir()
            raise


def png_with_record(image: Image.Image, record: Record) -> bytes:
    """Return a PNG whose text chunks say how it was drawn; `read_record` reads them."""
    chunks = {
        "Description": encodable(record.prompt),
        "Software": f"trencadis {version('trencadis')}",
        KEY: json_text(record.as_dict()),
    }
    return png_bytes(image, chunks)


def read_record(image: Image.Image, name: str = "the picture") -> Record:
    """Return how a picture, as it was opened, was drawn. A message calls it `name`.

    Raises:
        PictureError: It holds no record, or one that is damaged.
    """
    expected, remedy = "a PNG as trencadis wrote it", "take the original file"
    text = image.info.get(KEY)
    if not isinstance(text, str):
        raise PictureError(f"{name} does not say how it was drawn", expected=expected, remedy=remedy)
    try:
        return Record.from_dict(dict(json.loads(text)))
    except (TypeError, ValueError, RecursionError, UserError) as error:
        reason = " ".join((error.given if isinstance(error, UserError) else str(error)).split())[:200]
        raise PictureError(f"{name} has a damaged record: {reason}", expected=expected, remedy=remedy) from error


def _fields(config_type: type[Any], content: dict[str, Any]) -> dict[str, Any]:
    """Return the content that a dataclass has fields for; raises `TypeError` where a value's type is wrong."""
    own = {field.name: content[field.name] for field in dataclasses.fields(config_type) if field.name in content}
    for name, value in own.items():
        if type(value) not in _TYPES.get(name, (str,)):
            raise TypeError(f"{name} is {str(value)[:40]!r}")
    return own


def _save(image: Image.Image, record: Record, folder: Path) -> Path:
    content = png_with_record(image, record)
    stem = f"{file_stem(record.prompt, otherwise='drawn')}-{record.seed}"
    names = itertools.chain([f"{stem}.png"], (f"{stem}-{number}.png" for number in itertools.count(2)))
    return next(path for path in map(folder.joinpath, names) if write_new(path, content) or _holds(path, image, record))


def _holds(path: Path, image: Image.Image, record: Record) -> bool:
    """Return whether a file holds this picture, drawn as the record says."""
    try:
        there = read_picture(path)
        return (there.size, there.tobytes(), read_record(there)) == (image.size, image.tobytes(), record)
    except PictureError:
        return False
