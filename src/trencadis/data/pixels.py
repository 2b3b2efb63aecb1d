"""Pictures as tensors and as Pillow images."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def to_tensor(image: Image.Image) -> Float[Tensor, "3 height width"]:
    """Return an RGB picture as numbers in [0, 1]."""
    pixels = np.array(image.convert("RGB"), np.float32)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(255))


def to_pillow(images: Float[Tensor, "batch 3 height width"]) -> list[Image.Image]:
    """Return pictures in [0, 1], rounded to 256 levels."""
    pixels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]
