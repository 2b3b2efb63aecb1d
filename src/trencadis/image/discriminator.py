"""The patch discriminator: which parts of an image look real. Source: Isola et al. 2017; Esser et al. 2021."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.image.layers import group_norm

LEAK = 0.2
WIDEST = 8  # times the first layer


class PatchDiscriminator(nn.Module):
    """Strided 4×4 convolutions that give each patch a logit, large for a real one.

    Norms are over groups of channels, where the source normalises over the batch: an image's logits do not depend on
    the rest of the batch, and there is no state to average.

    Args:
        hidden_dim: Channels of the first layer; each layer doubles them, up to eight times.
        layers: Strided layers; three have a receptive field of 70×70 pixels, two of 34×34.
    """

    def __init__(self, hidden_dim: int, layers: int) -> None:
        super().__init__()
        widths = [hidden_dim * min(2**layer, WIDEST) for layer in range(layers + 1)]
        self.input = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        strides = [2] * (layers - 1) + [1]  # the last one keeps the size
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False)
            for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.norms = nn.ModuleList(group_norm(width) for width in widths[1:])
        self.output = nn.Conv2d(widths[-1], 1, 4, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1 rows columns"]:
        """Return the logit of each patch of images in [0, 1]."""
        x = F.leaky_relu(self.input(2 * images - 1), LEAK)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.leaky_relu(norm(convolution(x)), LEAK)
        logits: Tensor = self.output(x)
        return logits
