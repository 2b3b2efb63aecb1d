"""Pictures of a run's progress, chosen and made part of a page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from trencadis.run_directory import RunDirectory

MOST_PICTURES = 5  # of a stage
LARGEST_BYTES = 400_000  # of a PNG that is shown as it is
WIDE_FROM = 2.0  # width over height


@dataclass(frozen=True, kw_only=True)
class Picture:
    step: int  # updates made by then; 0 where it shows no training
    width: int
    height: int
    data_uri: str  # the picture itself

    @property
    def is_wide(self) -> bool:
        return self.width >= WIDE_FROM * self.height


def chosen_pictures(run: RunDirectory, stage: str) -> list[Picture]:
    """Return the first, the last and some between of what a stage has drawn; damaged files are left out."""
    readable = [picture for step, path in run.samples(stage) if (picture := read_picture(path, step)) is not None]
    if len(readable) <= MOST_PICTURES:
        return readable
    return [readable[round(n * (len(readable) - 1) / (MOST_PICTURES - 1))] for n in range(MOST_PICTURES)]


def read_picture(path: Path, step: int = 0) -> Picture | None:
    """Return a PNG, as a smaller WebP where it is large; None where the file cannot be read."""
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
