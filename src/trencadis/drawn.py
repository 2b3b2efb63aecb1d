"""What was drawn, and the record in a PNG from which it can be drawn again."""

import dataclasses
import hashlib
import itertools
import json
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import torch
from PIL import Image

from trencadis.data import read_picture
from trencadis.errors import PictureError, StorageError, UserError
from trencadis.pretrained import config_from_dict
from trencadis.sampling import ImagePrompt, Sampling
from trencadis.storage import user_storage, write_picture
from trencadis.stream import Stream
from trencadis.transformer.packing import Weights

MAX_SEED = 2**63 - 1
KEY = "trencadis"  # of the text chunk
_TYPES = {
    "seed": (int,),
    "score": (float, int, NoneType),
    "negative_prompt": (str, NoneType),
    "model_sha256": (str, NoneType),
}  # of the record's fields that are not text


@dataclass(frozen=True, kw_only=True)
class KeptImage:
    """What a picture depends on of its image prompt: the tokens alone. The rest says where they are from.

    Args:
        kept_tokens: Runs of image tokens in raster order: (first position, tokens).
        sha256: Of the image's RGB pixels.
        keep_rows: Rows that were asked to stay; None where a mask said it.
    """

    kept_tokens: tuple[tuple[int, tuple[int, ...]], ...]
    sha256: str
    keep_rows: int | None = None

    @classmethod
    def of(cls, image: Image.Image | None, prompt: ImagePrompt | None, keep_rows: int | None) -> "KeptImage | None":
        """Describe an image prompt and the image that it was made of; None where there is none."""
        if image is None or prompt is None:
            return None
        kept = zip(prompt.kept.flatten().tolist(), prompt.image_tokens.flatten().tolist(), strict=True)
        groups = itertools.groupby(enumerate(kept), key=lambda entry: entry[1][0])
        runs = [list(group) for is_kept, group in groups if is_kept]
        tokens = tuple((run[0][0], tuple(token for _, (_, token) in run)) for run in runs)
        sha256 = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
        return cls(kept_tokens=tokens, sha256=sha256, keep_rows=keep_rows)

    @classmethod
    def from_dict(cls, content: Any) -> "KeptImage":
        """Build it from JSON values.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: A run is not of two values.
        """
        _check("image", content, dict)
        runs, sha256, keep_rows = (content.get(name) for name in ("kept_tokens", "sha256", "keep_rows"))
        _check("kept_tokens", runs, list)
        _check("sha256", sha256, str)
        _check("keep_rows", keep_rows, int, NoneType)
        for first, tokens in runs:
            for number in (first, *tokens):
                _check("a position or token", number, int)
        kept = tuple((first, tuple(tokens)) for first, tokens in runs)
        return cls(kept_tokens=kept, sha256=sha256, keep_rows=keep_rows)

    def prompt(self, stream: Stream) -> ImagePrompt:
        """Return the image prompt again, for a model of this stream.

        Raises:
            PictureError: A position or a token is none of the model's.
        """
        raster = torch.zeros(stream.image_len, dtype=torch.long)
        kept = torch.zeros(stream.image_len, dtype=torch.bool)
        for first, tokens in self.kept_tokens:
            end = first + len(tokens)
            if first < 0 or end > stream.image_len or not all(0 <= token < stream.image_vocab_size for token in tokens):
                given = f"a record of image tokens at positions {first}..{end - 1}"
                expected = f"tokens below {stream.image_vocab_size} at positions below {stream.image_len}"
                raise PictureError(given, expected=expected, remedy="name the model that drew the picture")
            raster[first:end] = torch.tensor(tokens, dtype=torch.long)
            kept[first:end] = True
        return ImagePrompt(raster.view(stream.grid_size), kept.view(stream.grid_size))


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that a picture depends on. Which others were drawn in its batch is not in it: no picture depends on that.

    Args:
        prompt: What it was drawn from.
        seed: In 0..2^63-1.
        sampling: How its tokens were drawn.
        negative_prompt: What guidance moved away from; None is the empty caption.
        weights: Type of the transformer's weights while it was drawn.
        device: `cpu` or `cuda`; rounding differs between them.
        image: What stayed of an image prompt.
        score: The ranker's similarity.
        model: Name of the model.
        model_sha256: `DALLE.digest()`; None where a part of the model has no digest.
        trencadis: Version.
        torch: Version.
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
        """Build a record from `as_dict`'s values; what it does not know is left out.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: One is absent or out of its range.
            UserError: A setting of `sampling` is of the wrong type or out of its range.
        """
        own = {field.name: content[field.name] for field in dataclasses.fields(cls) if field.name in content}
        sampling = {field.name: content[field.name] for field in dataclasses.fields(Sampling) if field.name in content}
        image = own.pop("image", None)
        for name, value in own.items():
            _check(name, value, *_TYPES.get(name, (str,)))
        if not own.keys() >= {"prompt", "seed"} or not 0 <= own["seed"] <= MAX_SEED:
            raise ValueError("no prompt, or no seed in 0..2^63-1")
        if own.get("weights", "float32") not in get_args(Weights):
            raise ValueError(f"weights {own['weights']}")
        kept = None if image is None else KeptImage.from_dict(image)
        return cls(**own, sampling=config_from_dict(Sampling, sampling), image=kept)


@dataclass(frozen=True)
class Drawn:
    """Pictures of a prompt, best first.

    Args:
        images: RGB.
        records: How each was drawn.
    """

    images: list[Image.Image]
    records: list[Record]

    @property
    def scores(self) -> list[float] | None:
        """The ranker's similarities, falling; None where nothing was ranked."""
        scores = [record.score for record in self.records if record.score is not None]
        return scores if len(scores) == len(self.records) else None

    @property
    def seeds(self) -> list[int]:
        """One for each picture: `generate(prompt, candidates=1, keep=1, seed=seeds[i])` draws it again."""
        return [record.seed for record in self.records]

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return self.records[0].prompt

    def save(self, directory: str | Path) -> list[Path]:
        """Write each picture as `<prompt>-<seed>.png`, best first; each file whole or not at all.

        Where another picture has that name, `-2`, `-3` … is added. The text chunk `trencadis` holds the record as
        JSON, `Description` the prompt.

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


def read_record(image: Image.Image, name: str = "the picture") -> Record:
    """Return how a picture was drawn.

    Args:
        image: As it was opened.
        name: What a message calls it.

    Raises:
        PictureError: It holds no record, or one that is damaged.
    """
    expected, remedy = "a PNG as trencadis wrote it", "take the original file"
    text = image.info.get(KEY)
    if not isinstance(text, str):
        raise PictureError(f"{name} does not say how it was drawn", expected=expected, remedy=remedy)
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        record = Record.from_dict(content)
    except (TypeError, ValueError, RecursionError, UserError) as error:
        reason = " ".join((error.given if isinstance(error, UserError) else str(error)).split())[:200]
        raise PictureError(f"{name} has a damaged record: {reason}", expected=expected, remedy=remedy) from error
    return record


def _check(name: str, value: object, *types: type) -> None:
    if type(value) not in types:
        raise TypeError(f"{name} is {str(value)[:40]!r}")


def _save(image: Image.Image, record: Record, folder: Path) -> Path:
    with user_storage(folder):
        path = _free_path(folder / f"{_stem(record.prompt)}-{record.seed}.png", image)
    chunks = {
        "Description": record.prompt,
        "Software": f"trencadis {version('trencadis')}",
        KEY: json.dumps(record.as_dict(), ensure_ascii=False),
    }
    write_picture(path, image, chunks)
    return path


def _free_path(path: Path, image: Image.Image) -> Path:
    """Return the path, or the first numbered one beside it, that no other picture has."""
    numbered = (path.with_name(f"{path.stem}-{number}.png") for number in itertools.count(2))
    return next(path for path in itertools.chain([path], numbered) if not path.exists() or _holds(path, image))


def _holds(path: Path, image: Image.Image) -> bool:
    try:
        there = read_picture(path)
    except PictureError:
        return False
    return there.size == image.size and there.tobytes() == image.tobytes()


def _stem(prompt: str) -> str:
    """Return a file name that the prompt can be read from: letters and digits of any script, joined by dashes."""
    words = "".join(character if character.isalnum() else " " for character in prompt.lower()).split()
    stem = "-".join(words)
    while len(stem.encode()) > 60:
        stem = stem[:-1]
    return stem.strip("-") or "drawn"
