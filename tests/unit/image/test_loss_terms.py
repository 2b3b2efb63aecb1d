"""The terms of the image tokenizer's loss, against numbers and formulas worked out by hand."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from trencadis.config import CLIPConfig, TowerConfig
from trencadis.errors import ModelError
from trencadis.image.discriminator import PatchDiscriminator
from trencadis.image.loss_terms import (
    adaptive_weight,
    entropy_loss,
    generator_loss,
    hinge_discriminator_loss,
    l1_loss,
    l2_loss,
    lecam_loss,
    likelihood_loss,
    rmse_loss,
)
from trencadis.image.metrics import psnr
from trencadis.image.perceptual import VGG16, VGG_WIDTHS, FeatureNetwork, perceptual_loss
from trencadis.ranking import CLIP
from trencadis.training.picture_terms import feature_network


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_pixel_terms() -> None:
    drawn, real = images(2, 3, 8, 8), images(2, 3, 8, 8, seed=1)
    assert float(l1_loss(drawn, real).mean()) == pytest.approx(float((drawn - real).abs().mean()))
    assert -10 * math.log10(float(l2_loss(drawn[:1], real[:1]))) == pytest.approx(float(psnr(drawn[:1], real[:1])))


def test_every_picture_has_its_own_root() -> None:
    real = 0.8 * images(3, 3, 8, 8)
    drawn = (real + torch.tensor([0.0, 0.01, 0.1]).view(3, 1, 1, 1)).requires_grad_()
    roots = [math.sqrt(error**2 + 1e-5) for error in (0.0, 0.01, 0.1)]
    loss = rmse_loss(drawn, real).mean()
    assert float(loss.detach()) == pytest.approx(sum(roots) / 3, rel=1e-4)
    (gradient,) = torch.autograd.grad(loss, drawn)
    assert gradient.isfinite().all()
    # The second is ten times nearer than the third, and pulls nearly as much.
    assert float(gradient[1].sum() / gradient[2].sum()) == pytest.approx(0.954, rel=2e-2)


def test_what_is_brighter_than_white_or_darker_than_black_is_no_error_there() -> None:
    images = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.5, 0.5]).view(1, 1, 1, 6)
    drawn = torch.tensor([1.5, 0.5, -0.5, 0.5, 1.5, -0.5]).view(1, 1, 1, 6).requires_grad_()
    shown = drawn.detach().clamp(0, 1)
    assert float(l2_loss(drawn, images).detach()) >= float((shown - images).square().mean())
    (gradient,) = torch.autograd.grad(l2_loss(drawn, images).sum(), drawn)
    # What is shown could be better wherever there is a gradient, and is right where there is none.
    torch.testing.assert_close(6 * gradient.flatten(), 2 * torch.tensor([0, -0.5, 0, 0.5, 1, -1]))
    assert float(l1_loss(drawn, images).detach()) == pytest.approx((0.5 + 0.5 + 1 + 1) / 6)


def test_the_likelihood_is_a_density_of_pixels() -> None:
    """The chance of all values of a sub-pixel together is 1, worked out by a sum over a fine grid of them."""
    pixels = torch.linspace(0, 1, 20_001)[1:-1]
    maps = torch.tensor([0.7, math.log(0.4)]).view(1, 2, 1, 1).repeat_interleave(3, dim=1)
    losses = [float(likelihood_loss(maps, pixel.expand(1, 3, 1, 1))) for pixel in pixels[:: len(pixels) // 2000]]
    inside = sum(math.exp(-loss) for loss in losses) / len(losses) * 0.8  # x runs from 0.1 to 0.9
    tails = 0.5 * math.exp(-(0.7 + math.log(9)) / 0.4) + 0.5 * math.exp(-(math.log(9) - 0.7) / 0.4)
    assert inside + tails == pytest.approx(1, abs=2e-3)


def test_the_entropy_term_is_least_for_decided_and_varied_tokens() -> None:
    decided_alike = 100 * F.one_hot(torch.zeros(1, 2, 4, dtype=torch.long), 8).float()
    decided_varied = 100 * F.one_hot(torch.arange(8).view(1, 2, 4), 8).float()
    undecided = torch.zeros(1, 2, 4, 8)
    assert float(entropy_loss(decided_alike, entropy_temperature=1.0)) == pytest.approx(0, abs=1e-4)
    assert float(entropy_loss(undecided, entropy_temperature=1.0)) == pytest.approx(0, abs=1e-4)
    assert float(entropy_loss(decided_varied, entropy_temperature=1.0)) == pytest.approx(-math.log(8), rel=1e-4)
    some = torch.randn(2, 3, 3, 8, generator=torch.Generator().manual_seed(0))
    cold = (some / 0.5).softmax(-1).flatten(0, 2)
    expected = -(cold * cold.log()).sum(-1).mean() + (cold.mean(0) * cold.mean(0).log()).sum()
    assert float(entropy_loss(some, entropy_temperature=0.5).mean()) == pytest.approx(float(expected), rel=1e-4)


def test_the_entropy_term_has_a_gradient_where_codes_are_out_of_reach() -> None:
    logits = (40 * torch.randn(1, 4, 4, 64, generator=torch.Generator().manual_seed(0))).requires_grad_()
    torch.autograd.backward(entropy_loss(logits, entropy_temperature=0.01).mean())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_hinge_terms() -> None:
    real, drawn = torch.tensor([[2.0, 0.5]]), torch.tensor([[-3.0, 1.0]])
    assert float(hinge_discriminator_loss(real, drawn)) == pytest.approx(0.5 * (0.25 + 1.0))
    assert float(generator_loss(drawn)) == pytest.approx(1.0)


def test_lecam_holds_opinions_to_the_other_side() -> None:
    real, drawn = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 3.0]])
    # Real above the average of drawn (0.5): 0.5; drawn below the average of real (1): 1.
    loss = lecam_loss(real, drawn, torch.tensor(1.0), torch.tensor(0.5))
    assert float(loss) == pytest.approx((0.5**2 + 0) / 2 + (1.0**2 + 0) / 2)


def test_the_adaptive_weight_is_the_ratio_of_gradients() -> None:
    found = adaptive_weight(torch.tensor([3.0, 3.0]), torch.tensor([0.0, 0.5]))
    assert float(found) == pytest.approx(math.hypot(3, 3) / 0.5, rel=1e-3)
    assert float(adaptive_weight(torch.full((2,), 1e9), torch.zeros(2))) == 1e4


def test_the_discriminator_has_an_opinion_of_each_patch() -> None:
    discriminator = PatchDiscriminator(4, 2)
    discriminator.norms = torch.nn.ModuleList([torch.nn.Identity()] * 2)  # they look at the whole picture
    pictures = images(2, 3, 32, 48).requires_grad_()
    opinions = discriminator(pictures)
    assert opinions.shape == (2, 1, 6, 10)
    # One opinion sees 34×34 pixels and no other: here those around its place.
    torch.autograd.backward(opinions[0, 0, 3, 5])
    assert pictures.grad is not None
    seen = pictures.grad[0].abs().sum(0).nonzero()
    assert not pictures.grad[1].any()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [31, 34]  # the lower end cuts the first


class Edges:
    """A network of somebody's own."""

    def features(self, images: Tensor) -> list[Tensor]:
        return [images[..., 1:] - images[..., :-1]]


def test_any_feature_network_will_do() -> None:
    network = Edges()
    assert isinstance(network, FeatureNetwork)
    real, drawn = images(2, 3, 8, 8), images(2, 3, 8, 8, seed=1).requires_grad_()
    assert perceptual_loss(network, real, real).tolist() == [0, 0]
    loss = perceptual_loss(network, drawn, real).mean()
    ours, theirs = (F.normalize(network.features(x)[0].detach(), dim=1) for x in (drawn, real))
    assert float(loss.detach()) == pytest.approx(float((ours - theirs).square().sum(1).mean()), rel=1e-5)
    torch.autograd.backward(loss)
    assert drawn.grad is not None


def vgg_weights() -> dict[str, Tensor]:
    """As torchvision names them: the numbers count activations and poolings too."""
    generator, tensors, number, before = torch.Generator().manual_seed(0), {}, 0, 3
    for widths in VGG_WIDTHS:
        for width in widths:
            tensors[f"features.{number}.weight"] = 0.05 * torch.randn(width, before, 3, 3, generator=generator)
            tensors[f"features.{number}.bias"] = torch.zeros(width)
            number, before = number + 2, width
        number += 1
    return tensors


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_vgg_is_read_from_a_local_file(kind: str, tmp_path: Path) -> None:
    tensors = vgg_weights()
    path = tmp_path / f"vgg16.{kind}"
    whole = {**tensors, "classifier.0.weight": torch.zeros(2, 2)}
    save_file(whole, path) if kind == "safetensors" else torch.save(whole, path)
    network = feature_network(str(path), torch.device("cpu"))
    assert isinstance(network, VGG16)
    x = images(1, 3, 32, 32)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    y = (x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    for number in (0, 2):
        y = F.relu(F.conv2d(y, tensors[f"features.{number}.weight"], tensors[f"features.{number}.bias"], padding=1))
    features = network.features(x)
    torch.testing.assert_close(features[0], y, atol=1e-4, rtol=1e-4)
    assert [feature.shape[1] for feature in features] == [64, 128, 256, 512, 512]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_files_that_are_no_vgg(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text.pth", "other.pth", "list.pth", "other.safetensors"):
        with pytest.raises(ModelError):
            feature_network(str(tmp_path / name), torch.device("cpu"))
    with pytest.raises(ModelError):
        feature_network(str(tmp_path / "absent"), torch.device("cpu"))


def test_clip_sees_pictures_too(tmp_path: Path) -> None:
    tower = TowerConfig(num_layers=2, num_heads=2, head_dim=8)
    torch.manual_seed(0)
    config = CLIPConfig(
        image_size=(16, 16), patch_size=8, text_len=8, text_vocab_size=30, embed_dim=16, text=tower, image=tower
    )
    clip = CLIP(config)
    clip.save_pretrained(tmp_path / "model" / "ranker")
    for name in (tmp_path / "model", tmp_path / "model" / "ranker"):
        network = feature_network(str(name), torch.device("cpu"))
        assert isinstance(network, FeatureNetwork)
        features = network.features(images(2, 3, 32, 32))
        assert [tuple(feature.shape) for feature in features] == [(2, 16, 4)] * 2
        assert float(perceptual_loss(network, images(1, 3, 16, 16), images(1, 3, 16, 16, seed=1))) > 0
    # The first block's features are those that the second works on, towards what CLIP says of the picture.
    seen: list[Tensor] = []
    clip.image.tower.blocks[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    clip.image(images(2, 3, 32, 32))
    torch.testing.assert_close(seen[0][:, 1:].transpose(1, 2), features[0])
