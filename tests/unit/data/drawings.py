"""Generated pictures of each kind that crops must tell apart, and a source that holds them."""

import io
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from trencadis.data import KeptPair


class Listed:
    """A source of given pictures that counts how often each is read."""

    def __init__(self, images: Sequence[Image.Image | bytes]) -> None:
        self.read: Counter[int] = Counter()
        self.raws = [image if isinstance(image, bytes) else encoded(image) for image in images]

    def __len__(self) -> int:
        return len(self.raws)

    def sample_id(self, index: int) -> str:
        return f"{index}.png"

    def captions(self, index: int) -> tuple[str, ...]:
        return ("a caption",)

    def weight(self, index: int) -> float:
        return 1.0

    def image_bytes(self, index: int) -> bytes:
        self.read[index] += 1
        return self.raws[index]

    def pairs(self) -> list[KeptPair]:
        return [KeptPair(index, self.sample_id(index), ("a caption",), 1.0, (1, 1)) for index in range(len(self))]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    raw = io.BytesIO()
    image.save(raw, kind, **options)
    return raw.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def gradient(width: int, height: int) -> Image.Image:
    """Return a picture whose red tells how far right, and whose green how far down."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.zeros_like(down)], -1).round().astype(np.uint8))


def photo(width: int = 96, height: int = 96) -> Image.Image:
    """Return a landscape: a sky that grows lighter, hills, and grain."""
    smooth = noise(width, height).filter(ImageFilter.GaussianBlur(6))
    pixels = np.asarray(smooth).astype(float) * 0.8
    pixels[: height // 2] += np.linspace(0, 60, height // 2)[:, None, None]
    grain = np.random.default_rng(1).normal(0, 4, pixels.shape)
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


def sky(width: int = 96, height: int = 96) -> Image.Image:
    """Return nothing but sky, only 24 levels lighter at the horizon."""
    lighter = np.linspace(180, 204, height)[:, None, None] * np.ones((1, width, 3))
    return Image.fromarray((lighter * (0.6, 0.8, 1.0)).astype(np.uint8))


def sand(width: int = 96, height: int = 96) -> Image.Image:
    """Return a texture whose mean is the same everywhere."""
    grain = np.random.default_rng(2).normal(150, 25, (height, width, 1)) * np.ones(3)
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


def letterbox() -> Image.Image:
    """Return a wide photograph with black bars above and below."""
    framed = Image.new("RGB", (96, 96), "black")
    framed.paste(photo(96, 54), (0, 21))
    return framed


def disc(size: tuple[int, int] = (72, 72), box: tuple[int, ...] = (2, 2, 69, 69), ground: str = "white") -> Image.Image:
    drawn = Image.new("RGB", size, ground)
    ImageDraw.Draw(drawn).ellipse(box, fill="#d02020", outline="black", width=2)
    return drawn


def bust() -> Image.Image:
    """Return a drawing that stands on the lower edge."""
    drawn = disc(box=(24, 8, 47, 40))
    ImageDraw.Draw(drawn).rectangle((30, 40, 42, 71), fill="blue")
    return drawn


def app_icon() -> Image.Image:
    """Return a blue square with rounded corners, white outside of them."""
    drawn = Image.new("RGB", (72, 72), "white")
    ImageDraw.Draw(drawn).rounded_rectangle((0, 0, 71, 71), radius=8, fill="blue")
    return drawn


def jpeg(image: Image.Image) -> Image.Image:
    """Return a picture with the noise that JPEG leaves around edges."""
    return Image.open(io.BytesIO(encoded(image, "JPEG", quality=70))).convert("RGB")


def transparent() -> bytes:
    """Return a PNG whose ground is transparent, and black below."""
    drawn = disc(ground="black")
    alpha = Image.new("L", drawn.size, 0)
    ImageDraw.Draw(alpha).ellipse((2, 2, 69, 69), fill=255)
    drawn.putalpha(alpha)
    return encoded(drawn)


DRAWINGS: dict[str, Callable[[], Image.Image | bytes]] = {
    "disc": disc,
    "touching all sides": lambda: disc(box=(0, 0, 71, 71)),
    "small and off centre": lambda: disc(box=(6, 40, 30, 64)),
    "wide": lambda: disc((120, 60), (4, 4, 115, 55), "#205080"),
    "tall": lambda: disc((50, 100), (1, 1, 48, 98)),
    "standing on the edge": bust,
    "jpeg": lambda: jpeg(disc(box=(5, 5, 66, 66))),
    "transparent": transparent,
    "one colour": lambda: Image.new("RGB", (40, 40), "#30a060"),
}
PHOTOS: dict[str, Callable[[], Image.Image]] = {
    "landscape": photo,
    "jpeg": lambda: jpeg(photo()),
    "sky": sky,
    "sand": sand,
    "letterbox": letterbox,
    "pillarbox": lambda: letterbox().transpose(Image.Transpose.ROTATE_90),
    "app icon": app_icon,
    "gradient": lambda: gradient(80, 60),
}
