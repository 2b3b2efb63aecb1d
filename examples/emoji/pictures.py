"""Turn drawings into square pictures, centred on white."""

import io

import resvg_py
from PIL import Image

# Some styles' drawings touch the edges of their box, others have a margin. Scaled to this share of the side, all have a
# margin, and no picture looks cut.
FILL = {
    "3d": 1.0, "flat": 1.0, "noto": 0.96, "twemoji": 0.92, "emojione": 0.92, "fxemoji": 0.92, "noto-v1": 0.92,
    "streamline": 0.96,
}  # fmt: skip


def draw(content: bytes, style: str, size: int) -> Image.Image:
    """Rasterise a drawing with its transparency.

    Args:
        content: SVG text or a WebP file.
        style: A key of `FILL`.
        size: Side of the square in pixels.
    """
    inner = max(1, round(size * FILL[style]))
    if content[:4] == b"RIFF":
        drawing = Image.open(io.BytesIO(content)).convert("RGBA")
    else:
        drawing = _rasterise(content.decode("utf-8"), inner)
    # Premultiplied alpha, so that the colour of transparent pixels does not bleed into the edges.
    drawing = drawing.convert("RGBa")
    scale = inner / max(drawing.size)
    side = (max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale)))
    if side != drawing.size:
        drawing = drawing.resize(side, Image.Resampling.LANCZOS)
    square = Image.new("RGBa", (size, size))
    square.paste(drawing, ((size - side[0]) // 2, (size - side[1]) // 2))
    return square.convert("RGBA")


def _rasterise(svg: str, size: int) -> Image.Image:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGBA")


def on_white(drawing: Image.Image) -> Image.Image:
    """Composite a transparent drawing onto white."""
    white = Image.new("RGBA", drawing.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, drawing).convert("RGB")


def encode(picture: Image.Image) -> bytes:
    """Encode as lossless WebP: half the bytes of a PNG, the same pixels."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, quality=60, method=3)
    return buffer.getvalue()
