"""Perceptual distance: between the features that a frozen network has for two images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.errors import ModelError
from trencadis.image.weight_files import read_tensors

VGG_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
VGG_MEAN, VGG_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1]."""


Images = Float[Tensor, "batch 3 height width"]


@runtime_checkable
class FeatureNetwork(Protocol):
    """A frozen network with features at several depths."""

    def features(self, images: Images) -> Sequence[Float[Tensor, "batch channels *_"]]:
        """Return features of RGB images in [0, 1], shallow ones first, each with its channels in dimension 1."""


def perceptual_loss(network: FeatureNetwork, drawn: Images, images: Images) -> Float[Tensor, " batch"]:
    """Return the squared distance of normalised features, 0..4: for each image the mean over positions and depths.

    Channels are scaled to length 1 at every position, so that directions are compared. They have equal weights; LPIPS
    learns its weights from human judgements.

    Source: Johnson et al. 2016; Zhang et al. 2018.
    """
    with torch.no_grad():
        targets = network.features(images)
    distances = [
        (F.normalize(features, dim=1) - F.normalize(target, dim=1)).square().sum(dim=1).flatten(1).mean(dim=1)
        for features, target in zip(network.features(drawn), targets, strict=True)
    ]
    return torch.stack(distances).mean(dim=0)


class VGG16(nn.Module):
    """The thirteen convolutions of VGG-16, with features after each of its five groups. A `FeatureNetwork`.

    Source: Simonyan and Zisserman 2015; depths as in Zhang et al. 2018.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers, before = nn.Sequential(), 3  # numbered as in torchvision
        for widths in VGG_WIDTHS:
            if self.layers:
                self.layers.append(nn.MaxPool2d(2))
            for width in widths:
                self.layers.extend([nn.Conv2d(before, width, 3, padding=1), nn.ReLU()])
                before = width
        self.register_buffer("mean", torch.tensor(VGG_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(VGG_DEVIATION).view(3, 1, 1), persistent=False)

    def features(self, images: Images) -> list[Float[Tensor, "batch channels *_"]]:
        x, features = (images - self.mean) / self.deviation, []
        for layer in self.layers:
            if isinstance(layer, nn.MaxPool2d):
                features.append(x)
            x = layer(x)
        return [*features, x]

    @classmethod
    def from_file(cls, path: Path) -> "VGG16":
        """Load weights named as in torchvision, `features.0.weight` and so on, from safetensors or a torch file.

        Nothing in the file is executed.

        Raises:
            ModelError: It cannot be read, or holds something else.
        """
        network, tensors, prefix = cls(), read_tensors(path), "features."
        try:
            network.layers.load_state_dict(
                {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            )
        except RuntimeError as error:
            remedy = "name a file with VGG-16's convolutions, or a model directory with a ranker"
            raise ModelError(f"{path} holds something else", expected="VGG-16's weights", remedy=remedy) from error
        return network.requires_grad_(False).eval()
