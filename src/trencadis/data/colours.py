"""Colours as a viewer shows them: embedded profiles are converted to sRGB."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from trencadis.data.image_containers import MAX_PROFILE_BYTES

# A profile's colour space, as it names it, and the mode of pixels that it speaks of.
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
# Two ways to write sRGB differ by this much, of 255; converting between them would only round.
_SAME_COLOUR = 2


def as_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Return 8-bit pixels as sRGB: L, LA, RGB or RGBA.

    Args:
        picture: L, LA, RGB, RGBA, CMYK or LAB.
        profile: ICC; one that is empty, damaged, or of another colour space than the picture is left alone.
    """
    if picture.mode == "LAB":
        return _applied(_lab_transform(), picture)
    if picture.mode not in ("LA", "RGBA"):
        return _opaque_as_srgb(picture, profile)
    if not profile:
        return picture
    colours = _opaque_as_srgb(picture.convert(picture.mode.removesuffix("A")), profile)
    return Image.merge(f"{colours.mode}A", (*colours.split(), picture.getchannel("A")))


def on_white(picture: Image.Image) -> Image.Image:
    """Return RGB, with white where the picture is transparent."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    drawn = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")


def _opaque_as_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    mode = _MODES.get(profile[16:20])
    if mode == "RGB" and picture.mode == "L":  # greys may be coded as one channel of a colour profile
        picture = picture.convert("RGB")
    transform = _transform(profile, mode) if mode == picture.mode and len(profile) <= MAX_PROFILE_BYTES else None
    if transform is not None:
        return _applied(transform, picture)
    return picture.convert("RGB") if picture.mode == "CMYK" else picture


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion to sRGB; None where the profile is damaged, or is sRGB itself."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return transform
    probe = _probe(mode)
    difference = np.asarray(_applied(transform, probe)).astype(int) - np.asarray(probe.convert("RGB"))
    return transform if abs(difference).max() > _SAME_COLOUR else None


def _applied(transform: ImageCms.ImageCmsTransform, picture: Image.Image) -> Image.Image:
    shown = ImageCms.applyTransform(picture, transform)
    assert shown is not None  # it is not made in place
    return shown


def _probe(mode: str) -> Image.Image:
    """Return all greys, or colours evenly over the cube."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3))


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
