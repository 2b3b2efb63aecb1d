from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trencadis.config import DiscreteVAEConfig, PublishedConfig
from trencadis.config.plain import overlay
from trencadis.errors import ConfigError, ModelError, PictureError
from trencadis.image import Categorical, DiscreteVAE
from trencadis.image.likelihood import map_pixels
from trencadis.protocols import ImageTokenizer

TINY = DiscreteVAEConfig(
    image_size=(16, 24),
    image_vocab_size=24,
    latent_dim=6,
    architecture=PublishedConfig(hidden_dim=8, width_multipliers=(1, 2, 2)),
)


@pytest.fixture
def dvae() -> DiscreteVAE:
    torch.manual_seed(0)
    dvae = DiscreteVAE(TINY)
    with torch.no_grad():  # biases start at zero, where a forgotten one would not be noticed
        for parameter in dvae.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return dvae


def _images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def _stack(x: Tensor, weights: dict[str, Tensor], group: int, gain: float) -> Tensor:
    """The two blocks of a group, as the publisher's code computes them."""
    for block in range(2):
        name = f"groups.{group}.{block}"
        y = x
        for index in range(4):
            kernel = weights[f"{name}.convolutions.{index}.weight"]
            bias = weights[f"{name}.convolutions.{index}.bias"]
            y = F.conv2d(F.relu(y), kernel, bias, padding=(kernel.shape[-1] - 1) // 2)
        if f"{name}.identity.weight" in weights:
            x = F.conv2d(x, weights[f"{name}.identity.weight"], weights[f"{name}.identity.bias"])
        x = x + gain * y
    return x


def test_it_is_an_image_tokenizer(dvae: DiscreteVAE) -> None:
    assert isinstance(dvae, ImageTokenizer)
    assert dvae.image_size == (16, 24)
    assert dvae.grid_size == (4, 6)
    assert dvae.image_vocab_size == 24
    assert dvae.down_factor == 4


def test_the_published_size_has_the_published_parameters() -> None:
    with torch.device("meta"):
        dvae = DiscreteVAE(DiscreteVAEConfig())
    assert isinstance(dvae.bottleneck, Categorical)
    of_logits = sum(p.numel() for p in dvae.bottleneck.to_logits.parameters())
    assert round((sum(p.numel() for p in dvae.encoder.parameters()) + of_logits) / 1e6, 1) == 53.8
    of_codes = dvae.bottleneck.codebook.numel()
    assert round((sum(p.numel() for p in dvae.decoder.parameters()) + of_codes) / 1e6, 1) == 43.8
    # As many tensors as the publisher's own files hold; the codebook has its bias in its rows.
    assert len(dvae.encoder.state_dict()) + 2 == 74
    assert len(dvae.decoder.state_dict()) + 2 == 76


def test_kernels_are_the_published_ones(dvae: DiscreteVAE) -> None:
    def kernels(half: str) -> list[int]:
        return [v.shape[-1] for k, v in dvae.state_dict().items() if k.startswith(half) and v.ndim == 4]

    assert kernels("encoder") == [7, *[3, 3, 3, 1] * 2, *[3, 3, 3, 1, 1], *[3, 3, 3, 1] * 3]
    assert kernels("decoder") == [*[1, 3, 3, 3, 1], *[1, 3, 3, 3] * 3, *[1, 3, 3, 3, 1], *[1, 3, 3, 3], 1]


def test_the_encoder_is_the_published_one(dvae: DiscreteVAE) -> None:
    weights = dvae.encoder.state_dict()
    images = _images(2, 3, 16, 24)
    x = F.conv2d(0.8 * images + 0.1, weights["input.weight"], weights["input.bias"], padding=3)
    for group in range(3):
        x = _stack(x, weights, group, gain=1 / 36)
        x = F.max_pool2d(x, 2) if group < 2 else x
    weights = dvae.bottleneck.state_dict()
    x = F.conv2d(F.relu(x), weights["to_logits.weight"], weights["to_logits.bias"])
    torch.testing.assert_close(dvae.latents(images), x.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


def test_the_decoder_is_the_published_one(dvae: DiscreteVAE) -> None:
    weights = dvae.decoder.state_dict()
    codes = torch.randn(2, 4, 6, 24, generator=torch.Generator().manual_seed(2)).softmax(-1)
    x = F.conv2d(codes.permute(0, 3, 1, 2), dvae.bottleneck.codebook.T[:, :, None, None])
    for group in range(3):
        x = _stack(x, weights, group, gain=1 / 36)
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3) if group < 2 else x
    x = F.conv2d(F.relu(x), weights["output.weight"], weights["output.bias"])
    assert isinstance(dvae.bottleneck, Categorical)
    torch.testing.assert_close(dvae.draw(dvae.bottleneck.mix(codes)), x, atol=1e-5, rtol=1e-5)


def test_decoding_gathers_what_one_hots_would_multiply(dvae: DiscreteVAE) -> None:
    tokens = torch.randint(24, (3, 5, 2), generator=torch.Generator().manual_seed(3))
    assert isinstance(dvae.bottleneck, Categorical)
    maps = dvae.draw(dvae.bottleneck.mix(F.one_hot(tokens, 24).float()))
    torch.testing.assert_close(dvae.draw(dvae.bottleneck.look_up(tokens)), maps)
    expected = ((maps[:, :3].sigmoid() - 0.1) / 0.8).clamp(0, 1)
    torch.testing.assert_close(dvae.decode(tokens), expected)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 32), (36, 12)])
def test_pictures_of_any_multiple(dvae: DiscreteVAE, height: int, width: int) -> None:
    images = _images(2, 3, height, width)
    tokens = dvae.encode(images)
    assert tokens.shape == (2, height // 4, width // 4)
    pictures = dvae.reconstruct(images)
    assert pictures.shape == images.shape
    assert 0 <= pictures.min() <= pictures.max() <= 1
    assert torch.equal(pictures, dvae.decode(tokens))


@pytest.mark.parametrize(("height", "width"), [(15, 16), (16, 18), (0, 16)])
def test_pictures_of_no_multiple(dvae: DiscreteVAE, height: int, width: int) -> None:
    with pytest.raises(PictureError, match=rf"{height}×{width} pixels; expected height and width in multiples of 4"):
        dvae.encode(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": (16, 18)},
        {"image_size": (0, 16)},
        {"architecture": {"hidden_dim": 6}},
        {"architecture": {"width_multipliers": ()}},
    ],
)
def test_sizes_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        overlay(TINY, changes)


def test_weights_start_as_published() -> None:
    torch.manual_seed(0)
    dvae = DiscreteVAE(overlay(TINY, {"architecture": {"hidden_dim": 64}}))
    for name, parameter in dvae.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        else:
            fan_in = len(parameter) if name == "bottleneck.codebook" else parameter[0].numel()
            spread = 5 / (2 * parameter.numel()) ** 0.5  # five standard errors of a standard deviation
            assert parameter.std().item() * fan_in**0.5 == pytest.approx(1, abs=spread), name


def test_saving_and_loading(dvae: DiscreteVAE, tmp_path: Path) -> None:
    dvae.train().save_pretrained(tmp_path / "image")
    loaded = DiscreteVAE.from_pretrained(tmp_path / "image")
    images = _images(2, 3, 16, 24)
    assert loaded.config == TINY
    assert not loaded.training
    assert torch.equal(loaded.latents(images), dvae.latents(images))


def test_loading_weights_of_another_size(dvae: DiscreteVAE, tmp_path: Path) -> None:
    dvae.save_pretrained(tmp_path / "image")
    config = tmp_path / "image" / "config.json"
    config.write_text(config.read_text().replace('"image_vocab_size": 24', '"image_vocab_size": 25'))
    with pytest.raises(ModelError, match="expected the weights"):
        DiscreteVAE.from_pretrained(tmp_path / "image")


def test_half_precision_weights(dvae: DiscreteVAE) -> None:
    images = _images(2, 3, 16, 24)
    expected = dvae.reconstruct(images)
    dvae.bfloat16()
    assert (dvae.reconstruct(images) - expected).abs().mean() < 0.05


def test_arguments_stay_as_they_are(dvae: DiscreteVAE) -> None:
    images = _images(2, 3, 16, 24)
    kept = images.clone()
    tokens = dvae.encode(images)
    kept_tokens = tokens.clone()
    torch.autograd.backward(dvae.draw(dvae.bottleneck.look_up(tokens)).sum())
    dvae.reconstruct(images)
    assert torch.equal(images, kept)
    assert torch.equal(tokens, kept_tokens)


def test_encoding_leaves_no_graph(dvae: DiscreteVAE) -> None:
    assert not dvae.reconstruct(_images(1, 3, 8, 8)).requires_grad


def test_pixels_are_mapped_before_the_first_convolution(dvae: DiscreteVAE) -> None:
    images = _images(1, 3, 8, 8)
    features = dvae.encoder(map_pixels(images))
    torch.testing.assert_close(dvae.latents(images), dvae.bottleneck.latents(features))
