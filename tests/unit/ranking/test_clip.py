import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trencadis.config import CLIPConfig, TowerConfig
from trencadis.errors import ConfigError, ModelError
from trencadis.image import DiscreteVAE
from trencadis.ranking import CLIP
from trencadis.ranking.clip import contrastive_loss

TOWER = TowerConfig(num_layers=2, num_heads=2, head_dim=8)
TINY = CLIPConfig(
    image_size=(16, 24), patch_size=8, text_len=6, text_vocab_size=20, embed_dim=12, text=TOWER, image=TOWER
)
END = TINY.text_vocab_size


@pytest.fixture
def clip() -> CLIP:
    torch.manual_seed(0)
    return CLIP(TINY)


def _images(batch: int, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_captions_are_padded_with_the_end_token_and_cut_before_it(clip: CLIP) -> None:
    padded = clip.pad([[1, 2], [], [3] * 5, [4] * 9])
    assert padded.tolist() == [
        [1, 2, END, END, END, END],
        [END] * 6,
        [3, 3, 3, 3, 3, END],
        [4, 4, 4, 4, 4, END],
    ]
    assert clip.pad([]).shape == (0, 6)


def test_the_caption_is_read_at_its_first_end(clip: CLIP) -> None:
    tokens = clip.pad([[1, 2, 3]])
    after, at, before = tokens.clone(), tokens.clone(), tokens.clone()
    after[0, 4], at[0, 3], before[0, 0] = 7, 7, 7
    features = clip.encode_text(tokens)
    torch.testing.assert_close(clip.encode_text(after), features)
    assert not torch.allclose(clip.encode_text(at), features, atol=1e-3)
    assert not torch.allclose(clip.encode_text(before), features, atol=1e-3)


def test_a_picture_is_seen_everywhere(clip: CLIP) -> None:
    image = _images(1).requires_grad_()
    (gradient,) = torch.autograd.grad(clip.encode_image(image)[0, 0], image)
    assert (gradient != 0).all()


def test_features_have_length_one(clip: CLIP) -> None:
    for features in (clip.encode_image(_images(3)), clip.encode_text(clip.pad([[1], [2, 3]]))):
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))


def test_pictures_are_resized_and_normalized(clip: CLIP) -> None:
    larger = _images(2, 40, 36)
    resized = F.interpolate(larger, (16, 24), mode="bilinear", antialias=True)
    torch.testing.assert_close(clip.encode_image(larger), clip.encode_image(resized))
    seen: list[Tensor] = []
    clip.image.patches.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    clip.encode_image(_images(2))
    torch.testing.assert_close(seen[0], 2 * _images(2) - 1)


def test_logits_are_scaled_similarities(clip: CLIP) -> None:
    images, tokens = _images(3), clip.pad([[1, 2], [3]])
    logits = clip(images, tokens)
    expected = clip.logit_scale * clip.encode_image(images) @ clip.encode_text(tokens).T
    assert logits.shape == (3, 2)
    torch.testing.assert_close(logits, expected)


def test_the_loss_of_different_captions_is_the_published_one(clip: CLIP) -> None:
    tokens = clip.pad([[1, 2], [3], [1, 2, 3], []])
    logits, places = clip(_images(4), tokens), torch.arange(4)
    expected = (F.cross_entropy(logits, places) + F.cross_entropy(logits.T, places)) / 2
    torch.testing.assert_close(clip(_images(4), tokens, return_loss=True), expected)


def test_equal_captions_share_the_target() -> None:
    tokens = torch.tensor([[1, 9], [2, 9], [1, 9]])
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    rows = -(targets * logits.log_softmax(1)).sum(1).mean()
    columns = -(targets * logits.log_softmax(0)).sum(0).mean()
    torch.testing.assert_close(contrastive_loss(logits, tokens), (rows + columns) / 2)
    # Perfect similarities then leave nothing to be gained: no gradient pulls equal captions apart.
    perfect = torch.tensor([[50.0, 0, 50], [0, 50, 0], [50, 0, 50]]).requires_grad_()
    (gradient,) = torch.autograd.grad(contrastive_loss(perfect, tokens), perfect)
    torch.testing.assert_close(gradient, torch.zeros(3, 3))


def test_the_logit_scale_starts_as_published_and_stops_at_100(clip: CLIP) -> None:
    assert clip.logit_scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        clip.log_logit_scale.fill_(math.log(5000))
    assert clip.logit_scale.item() == pytest.approx(100)
    clip.clip_logit_scale()
    loss = clip.train()(_images(2), clip.pad([[1], [2]]), return_loss=True)
    loss.backward()
    assert clip.log_logit_scale.item() == pytest.approx(math.log(100))
    assert clip.log_logit_scale.grad is not None
    assert float(clip.log_logit_scale.grad) != 0  # so that it can come down again


def test_the_gradient_reaches_every_parameter(clip: CLIP) -> None:
    # All 20 ids and the end token, so that every row of the embedding is used.
    tokens = clip.pad([list(range(i, i + 5)) for i in range(0, 20, 5)])
    clip(_images(4), tokens, return_loss=True).backward()
    for name, parameter in clip.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    used = clip.text.tokens.weight.grad
    assert used is not None
    assert used.any(dim=1).all()


def test_weights_start_as_published() -> None:
    torch.manual_seed(0)
    tower = TowerConfig(num_layers=3, num_heads=4, head_dim=16)
    clip = CLIP(dataclasses.replace(TINY, text=tower, image=tower, text_vocab_size=500))
    block = clip.text.tower.blocks[0]
    added = 64**-0.5 * 6**-0.5
    deviations = {
        clip.text.tokens.weight: 0.02,
        clip.text.positions.weight: 0.01,
        clip.text.projection.weight: 64**-0.5,
        clip.image.positions.weight: 64**-0.5,
        clip.image.projection.weight: 64**-0.5,
        block.get_parameter("query_key_value.weight"): 64**-0.5,
        block.get_parameter("attention_output.weight"): added,
        block.get_parameter("mlp_input.weight"): 128**-0.5,
        block.get_parameter("mlp_output.weight"): added,
    }
    for parameter, deviation in deviations.items():
        spread = 5 / (2 * parameter.numel()) ** 0.5
        assert parameter.std().item() / deviation == pytest.approx(1, abs=spread)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": (16, 20)},
        {"image_size": (0, 16)},
        {"patch_size": 0},
        {"text_len": 1},
        {"embed_dim": 0},
    ],
)
def test_sizes_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(TINY, **changes)  # type: ignore[arg-type]


def test_saving_and_loading(clip: CLIP, tmp_path: Path) -> None:
    clip.save_pretrained(tmp_path / "ranker")
    loaded = CLIP.from_pretrained(tmp_path / "ranker")
    assert loaded.config == TINY
    tokens = clip.pad([[1, 2]])
    assert torch.equal(loaded(_images(2), tokens), clip(_images(2), tokens))
    with pytest.raises(ModelError, match="holds a CLIP; expected a DiscreteVAE"):
        DiscreteVAE.from_pretrained(tmp_path / "ranker")


def test_arguments_stay_as_they_are(clip: CLIP) -> None:
    images, tokens = _images(2, 20, 20), clip.pad([[1], [2]])
    clip(images, tokens, return_loss=True).backward()
    assert torch.equal(images, _images(2, 20, 20))
    assert torch.equal(tokens, clip.pad([[1], [2]]))


def test_eight_pairs_are_learned_by_heart(clip: CLIP) -> None:
    images, tokens = _images(8), clip.pad([[i, (3 * i) % 20, 7] for i in range(8)])
    optimizer = torch.optim.Adam(clip.parameters(), lr=3e-3)
    for _ in range(60):
        loss = clip(images, tokens, return_loss=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = clip.eval()(images, tokens)
    assert logits.argmax(dim=0).tolist() == list(range(8))
    assert logits.argmax(dim=1).tolist() == list(range(8))
