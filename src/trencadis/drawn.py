"""What has been drawn, and the PNGs that remember how."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from trencadis.errors import StorageError
from trencadis.storage import user_storage, write_picture


@dataclass(frozen=True)
class Drawn:
    """Pictures of a prompt, best first.

    Args:
        images: RGB.
        scores: The ranker's similarities, falling; None where nothing was ranked.
        seeds: One a picture: `generate(prompt, candidates=1, keep=1, seed=seeds[i])` draws it again.
        prompt: What was asked for.
        settings: How it was drawn; with the prompt and a seed, all that a picture depends on.
        model: Name of the model.
    """

    images: list[Image.Image]
    scores: list[float] | None
    seeds: list[int]
    prompt: str
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = ""

    def record(self, index: int) -> dict[str, Any]:
        """Return how a picture was drawn, as its PNG remembers it."""
        score = None if self.scores is None else self.scores[index]
        return {"prompt": self.prompt, "seed": self.seeds[index], "score": score, "model": self.model, **self.settings}

    def save(self, directory: str | Path) -> list[Path]:
        """Write each picture as `<prompt>-<seed>.png`, best first; each file whole or not at all.

        The text chunk `trencadis` holds the record as JSON, `Description` the prompt.

        Raises:
            StorageError: The place cannot be written.
        """
        folder = Path(directory)
        is_new = not folder.exists()
        with user_storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            return [self._save(index, folder) for index in range(len(self.images))]
        except StorageError:
            if is_new:
                with suppress(OSError):  # it stays where there are pictures in it
                    folder.rmdir()
            raise

    def _save(self, index: int, folder: Path) -> Path:
        path = folder / f"{_stem(self.prompt)}-{self.seeds[index]}.png"
        chunks = {
            "Description": self.prompt,
            "Software": f"trencadis {version('trencadis')}",
            "trencadis": json.dumps(self.record(index), ensure_ascii=False),
        }
        write_picture(path, self.images[index], chunks)
        return path


def read_record(image: Image.Image) -> dict[str, Any] | None:
    """Return how a picture was drawn, or None where it does not say."""
    text = image.info.get("trencadis")
    try:
        record = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _stem(prompt: str) -> str:
    """Return a file name that the prompt can be read from: letters and digits of any script, joined by dashes."""
    words = "".join(character if character.isalnum() else " " for character in prompt.lower()).split()
    stem = "-".join(words)
    while len(stem.encode()) > 60:
        stem = stem[:-1]
    return stem.strip("-") or "drawn"
