"""Judges that know nothing of the model: which of 100 real pictures is nearest to a drawing.

A judge turns pictures into vectors; the distance between pictures is the Euclidean one of their vectors. Drawings and
real pictures are brought to 32 pixels first, so that models of 64 and of 128 pixels are judged alike.

No network that a model is trained with may judge it. A training can use EfficientNet-Lite0; the judge is
EfficientNet-Lite1, of the same family and trained on the same photographs. The pixels share nothing with either.

The network's features are those at an eighth and a sixteenth of its picture, averaged over 4×4 areas. The stages were
chosen without any drawing: by whether a real picture is found again once it has been through a tokenizer, and whether
an emoji in one style is found by the same emoji in another. See `docs/log.md`.
"""

import math
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from trencadis.data.pixels import to_tensor
from trencadis.image.efficientnet_lite import EfficientNetLite

COMMON_SIDE = 32
NETWORK, NETWORK_SIDE = "lite1", 96
STAGES, AREAS = (2, 3), (4, 4)
PIXELS_SIDE = 16
BATCH = 32

Images = Float[Tensor, "batch 3 height width"]
Features = Float[Tensor, "batch features"]


class Judge(Protocol):
    """Turns pictures into vectors; near vectors are like pictures."""

    name: str

    def features(self, images: Images) -> Features:
        """Return a vector for each picture, RGB in [0, 1], of any size."""


class PixelJudge:
    """The colours of 16×16 areas, as numbers in [0, 1]."""

    name = "pixels"

    def features(self, images: Images) -> Float[Tensor, "batch 768"]:
        return F.interpolate(common(images), size=(PIXELS_SIDE, PIXELS_SIDE), mode="area").flatten(1)


class NetworkJudge:
    """What two stages of an ImageNet network see in 4×4 areas of a picture; each stage counts the same.

    Args:
        network: Its `features` are taken.
    """

    name = "features"

    def __init__(self, network: EfficientNetLite) -> None:
        self.network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def features(self, images: Images) -> Features:
        size = (NETWORK_SIDE, NETWORK_SIDE)
        scaled = F.interpolate(common(images), size=size, mode="bicubic").clamp(0, 1)
        parts = torch.split(scaled.contiguous(memory_format=torch.channels_last), BATCH)
        return torch.cat([self._of(part) for part in parts]).clone()

    def _of(self, images: Images) -> Features:
        stages = self.network.features(images)
        flat = [F.adaptive_avg_pool2d(stages[stage], AREAS).flatten(1) for stage in STAGES]
        joined: Tensor = torch.cat([F.normalize(each) for each in flat], dim=1)
        return joined / math.sqrt(len(STAGES))


def default_judges() -> list[Judge]:
    """Return the judges of the protocol.

    Raises:
        ModelError: The package with the network's weights is not installed.
    """
    return [PixelJudge(), NetworkJudge(EfficientNetLite.from_package(NETWORK))]


def common(images: Images) -> Float[Tensor, "batch 3 32 32"]:
    """Return pictures at the side at which all are compared, resized without aliasing."""
    size = (COMMON_SIDE, COMMON_SIDE)
    if images.shape[-2:] == size:
        return images.clamp(0, 1)
    return F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def read_pictures(paths: list[Path], size: tuple[int, int]) -> Float[Tensor, "pictures 3 height width"]:
    """Read pictures and resize them to a height and width, RGB in [0, 1]."""

    def read(path: Path) -> Tensor:
        with Image.open(path) as picture:
            return to_tensor(picture.convert("RGB").resize((size[1], size[0]), Image.Resampling.LANCZOS))

    return torch.stack([read(path) for path in paths])


def places(
    drawn: Float[Tensor, "drawings features"],
    target: Float[Tensor, " features"],
    others: Float[Tensor, "others features"],
) -> Int[Tensor, " drawings"]:
    """Return how many of the other pictures are as near to each drawing as its target is, or nearer; 0 is right."""
    # Differences, not products: in float32 the products of near vectors cancel.
    to_target = (drawn - target).square().sum(1)
    to_others = torch.stack([(drawn - other).square().sum(1) for other in others])
    return (to_others <= to_target).sum(0)


def nearest_ratio(
    drawn: Float[Tensor, "drawings 768"], known: Float[Tensor, "pictures 768"], *, same: float
) -> tuple[Float[Tensor, " drawings"], Int[Tensor, " drawings"]]:
    """Return the distance to the nearest known picture divided by that to the second, and which is nearest.

    A second picture that is nearly the same as the nearest would hide a copy, so those are passed over.

    Args:
        drawn: Pixels in [0, 1].
        known: Pixels of at least two different pictures.
        same: Mean squared difference below which two known pictures count as one.

    Source: Yoon et al. 2023 ("Diffusion probabilistic models generalize when they fail to memorize").
    """
    ratios, nearest = [], []
    for one in drawn:
        distances = (known - one).square().mean(1)
        first = int(distances.argmin())
        is_other = (known - known[first]).square().mean(1) >= same
        second = float(distances[is_other].min())
        ratios.append(float(np.sqrt(float(distances[first]) / max(second, 1e-12))))
        nearest.append(first)
    return torch.tensor(ratios), torch.tensor(nearest)
