"""The architectures and bottlenecks beside the published ones: shapes, sizes of pictures, and the nearest code."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from trencadis.config import AttentiveConfig, DiscreteVAEConfig, LeanConfig, PublishedConfig, StridedConfig
from trencadis.config.plain import from_plain
from trencadis.errors import ConfigError
from trencadis.image import DiscreteVAE, Nearest
from trencadis.image.architectures.attentive import AttentiveEncoder
from trencadis.image.architectures.lean import LeanDecoder, LeanEncoder
from trencadis.image.architectures.strided import StridedDecoder, StridedEncoder
from trencadis.image.layers import CHANNEL_NORM_EPS, ChannelNorm, ResidualBlock, SpatialAttention

ARCHITECTURES = ("published", "strided", "attentive", "lean")
CODES = ("categorical", "euclidean", "cosine")


def config(architecture: str, codes: str, pixels: str = "signed") -> DiscreteVAEConfig:
    sizes = {"hidden_dim": 8, "width_multipliers": (1, 2, 2), "blocks_per_group": 1}
    settings = {
        "image_size": (16, 24),
        "image_vocab_size": 24,
        "latent_dim": 6,
        "pixels": pixels,
        "architecture": {"kind": architecture, **({"widths": (16, 16)} if architecture == "lean" else sizes)},
        "codes": {"kind": codes, **({} if codes == "categorical" else {"codebook_dim": 4})},
    }
    return from_plain(DiscreteVAEConfig, settings)


@pytest.mark.parametrize(("architecture", "codes"), list(itertools.product(ARCHITECTURES, CODES)))
def test_every_kind_is_a_tokenizer_of_pictures_of_any_multiple(architecture: str, codes: str) -> None:
    torch.manual_seed(0)
    for pixels in ("signed", "logit_laplace"):
        tokenizer = DiscreteVAE(config(architecture, codes, pixels))
        for height, width in ((16, 24), (8, 36)):
            images = torch.rand(2, 3, height, width)
            tokens = tokenizer.encode(images)
            assert tokens.shape == (2, height // 4, width // 4)
            assert 0 <= tokens.min() <= tokens.max() < 24
            drawn = tokenizer.decode(tokens)
            assert drawn.shape == images.shape
            assert 0 <= drawn.min() <= drawn.max() <= 1
            assert torch.equal(drawn, tokenizer.reconstruct(images))
            # What training gives the decoder for these codes is what decoding looks up.
            maps = tokenizer.draw(tokenizer.bottleneck.look_up(tokens))
            torch.testing.assert_close(tokenizer.picture(maps).clamp(0, 1), drawn)


def test_the_explained_architecture_has_the_shapes_of_its_drawing() -> None:
    """A 128-channel stem, 32×32×512 features of 256×256 pixels, a pointwise convolution to 8192 logits."""
    architecture = StridedConfig(hidden_dim=128, width_multipliers=(1, 2, 4, 4))
    sizes = DiscreteVAEConfig(architecture=architecture, latent_dim=512)
    with FakeTensorMode():  # tensors without numbers
        tokenizer = DiscreteVAE(sizes)
        assert isinstance(tokenizer.encoder, StridedEncoder)
        assert tokenizer.encoder.input.out_channels == 128
        for layer in tokenizer.encoder.resizes:
            assert isinstance(layer, nn.Conv2d)
            assert (layer.kernel_size, layer.stride) == ((4, 4), (2, 2))
        assert tokenizer.encoder(torch.zeros(1, 3, 256, 256)).shape == (1, 512, 32, 32)
        assert tokenizer.latents(torch.zeros(1, 3, 256, 256)).shape == (1, 32, 32, 8192)
        assert tokenizer.bottleneck.codebook.shape == (8192, 512)
        assert tokenizer.draw(torch.zeros(1, 32, 32, 512)).shape == (1, 6, 256, 256)
        assert isinstance(tokenizer.decoder, StridedDecoder)
        mirrored = [type(layer).__name__ for layer in tokenizer.decoder.resizes]
    assert mirrored == ["ConvTranspose2d"] * 3


@pytest.mark.parametrize("codes", ["euclidean", "cosine"])
def test_the_nearest_code_is_the_nearest(codes: str) -> None:
    torch.manual_seed(0)
    bottleneck = Nearest(7, config("strided", codes))
    vectors = bottleneck.latents(torch.randn(3, 7, 40, 50))  # more places than are compared at once
    tokens = bottleneck.tokens(vectors)
    codebook = bottleneck.codebook.detach()
    if codes == "cosine":
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3, 40, 50))
        codebook = F.normalize(codebook, dim=-1)
    distances = torch.cdist(vectors.flatten(0, 2).double(), codebook.double())
    assert torch.equal(tokens.flatten(), distances.argmin(1))
    expected = F.conv2d(codebook[tokens].permute(0, 3, 1, 2), bottleneck.from_codes.weight, bottleneck.from_codes.bias)
    torch.testing.assert_close(bottleneck.look_up(tokens), expected.permute(0, 2, 3, 1))


def test_logits_of_nearness_are_squared_distances() -> None:
    torch.manual_seed(0)
    bottleneck = Nearest(7, config("lean", "euclidean"))
    vectors = bottleneck.latents(torch.randn(3, 7, 4, 5))
    distances = torch.cdist(vectors.flatten(0, 2).double(), bottleneck.codebook.detach().double())
    logits = bottleneck.logits(vectors)
    expected = (-distances.square() / 2).softmax(dim=-1).view(3, 4, 5, -1)
    torch.testing.assert_close(logits.softmax(dim=-1).double(), expected)
    assert torch.equal(logits.argmax(dim=-1), bottleneck.tokens(vectors))


def test_the_lean_architecture_has_its_blocks_on_the_grid() -> None:
    architecture = LeanConfig(widths=(48, 96, 192), attention_after="first")
    tokenizer = DiscreteVAE(DiscreteVAEConfig(image_size=(64, 64), architecture=architecture))
    assert isinstance(tokenizer.encoder, LeanEncoder)
    assert isinstance(tokenizer.decoder, LeanDecoder)
    sides = []
    layers = (*tokenizer.encoder.blocks, *tokenizer.decoder.blocks)
    kinds = [type(layer) for layer in layers]
    assert kinds == [ResidualBlock, SpatialAttention, ResidualBlock, SpatialAttention, ResidualBlock]
    for block in layers:
        # Its paths begin as the identity.
        block.register_forward_hook(lambda _, inputs, output: sides.append((output.shape, inputs[0].equal(output))))
    tokenizer.reconstruct(torch.rand(1, 3, 64, 64))
    assert sides == [((1, 192, 8, 8), True)] * 5
    with pytest.raises(ConfigError, match="widths"):
        LeanConfig(widths=())


def test_the_norm_over_channels_is_rms_norm() -> None:
    torch.manual_seed(0)
    norm = ChannelNorm(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 3, 4)
    expected = F.rms_norm(x.permute(0, 2, 3, 1), (6,), norm.weight, eps=CHANNEL_NORM_EPS) + norm.bias
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(norm(x.to(memory_format=layout)), expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize(("attention", "blocks"), [("none", 0), ("middle", 1), ("last", 3)])
def test_attention_is_where_it_is_asked_for(attention: str, blocks: int) -> None:
    sizes = AttentiveConfig(hidden_dim=8, width_multipliers=(1, 2), attention=attention)  # type: ignore[arg-type]
    encoder = AttentiveEncoder(sizes, latent_dim=4)
    names = {name.rpartition(".")[0] for name, _ in encoder.named_modules() if name.endswith(".query")}
    assert len(names) == blocks
    assert all(name.startswith(("middle", "groups.1")) for name in names)


def test_widths_of_the_published_blocks_have_quarters() -> None:
    with pytest.raises(ConfigError, match="multiples of 4"):
        PublishedConfig(hidden_dim=6, width_multipliers=(1, 2))
    StridedConfig(hidden_dim=6, width_multipliers=(1, 2))
