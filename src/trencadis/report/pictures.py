"""Pictures of a run's progress, chosen and made part of a page."""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

MOST_PICTURES = 5  # of a stage
LARGEST_BYTES = 400_000  # of a PNG that is shown as it is
WIDE_FROM = 2.0  # width over height


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture drawn after some step.

    Args:
        step: Updates made by then; 0 where that is no part of what it shows.
        width: In pixels.
        height: In pixels.
        data_uri: The picture itself, as an address that holds it.
    """

    step: int
    width: int
    height: int
    data_uri: str

    @property
    def is_wide(self) -> bool:
        """Whether it takes a line to itself."""
        return self.width >= WIDE_FROM * self.height


def chosen_pictures(directory: Path, stage: str) -> list[Picture]:
    """Return the first, the last and some between of the files `<stage>-<step>.png`; damaged ones are left out."""
    name = re.compile(rf"{re.escape(stage)}-(\d+)\.png")
    found = sorted((int(match[1]), path) for path in directory.glob("*.png") if (match := name.fullmatch(path.name)))
    readable = [picture for step, path in found if (picture := read_shown(path, step)) is not None]
    if len(readable) <= MOST_PICTURES:
        return readable
    return [readable[round(n * (len(readable) - 1) / (MOST_PICTURES - 1))] for n in range(MOST_PICTURES)]


def read_shown(path: Path, step: int = 0) -> Picture | None:
    """Return a PNG as it is shown, packed where it is large; None where the file cannot be read."""
    try:
        content, kind = path.read_bytes(), "png"
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.load()
            if len(content) > LARGEST_BYTES:
                buffer, kind = io.BytesIO(), "webp"
                image.convert("RGB").save(buffer, "WEBP", quality=88)
                content = buffer.getvalue()
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Picture(step=step, width=width, height=height, data_uri=uri)
