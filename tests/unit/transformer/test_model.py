from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from trencadis.config import TransformerConfig
from trencadis.errors import ConfigError
from trencadis.recipes import dalle_v1
from trencadis.stream import Stream
from trencadis.transformer import Transformer

TINY = TransformerConfig(
    text_len=5, text_vocab_size=11, grid_size=(3, 4), image_vocab_size=7, num_layers=3, num_heads=2, head_dim=8
)


def test_dalle_v1_has_twelve_billion_parameters() -> None:
    config = dalle_v1().transformer_model()
    with torch.device("meta"):
        model = Transformer(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (config.num_layers, config.num_heads, config.dim) == (64, 62, 3968)
    assert 11.9e9 < count < 12.5e9


def test_every_position_has_its_own_padding() -> None:
    stream = Stream.of(TINY)
    padded = stream.pad_captions([[3, 4], []])
    assert padded.tolist() == [[3, 4, 13, 14, 15], [11, 12, 13, 14, 15]]
    assert stream.text_id_count == 16


def test_losses_are_sums_over_the_counted_tokens_of_their_kind() -> None:
    torch.manual_seed(0)
    model = Transformer(TINY)
    text = model.stream.pad_captions([[1, 2], [3, 4, 5, 6, 7], []])
    image = torch.randint(7, (3, 3, 4))
    losses, logits = model.losses(text, image), model.logits(text, image)
    # By hand: caption 0 predicts its second token and its end, caption 1 its other four tokens, the empty one nothing.
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    text_loss = torch.stack([F.cross_entropy(logits.text[b, p], text[b, p + 1]) for b, p in pairs]).sum()
    image_loss = F.cross_entropy(logits.image.reshape(-1, 7), image.reshape(-1), reduction="sum")
    assert torch.allclose(losses.text, text_loss)
    assert torch.allclose(losses.image, image_loss)
    assert (losses.text_count, losses.image_count) == (6, 36)
    first = model.losses(text, image, samples=1)
    assert torch.allclose(first.text, F.cross_entropy(logits.text[0, :2], text[0, 1:3], reduction="sum"))
    assert (first.text_count, first.image_count) == (2, 12)


def test_a_batch_of_empty_captions_has_no_text_loss() -> None:
    model = Transformer(TINY)
    losses = model.losses(model.stream.pad_captions([[], []]), torch.zeros(2, 3, 4, dtype=torch.long))
    assert losses.text == 0
    assert losses.text_count == 0


def test_the_first_image_token_has_a_gradient() -> None:
    model = Transformer(TINY)
    logits = model.logits(model.stream.pad_captions([[1, 2]]), torch.zeros(1, 3, 4, dtype=torch.long)).image
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits[:, 0], torch.tensor([5])), model.image_head.weight)
    assert gradient.abs().sum() > 0


def test_no_token_sees_what_comes_after_it() -> None:
    torch.manual_seed(0)
    model = Transformer(TINY).eval()
    text, image = model.stream.pad_captions([[1, 2, 3]]), torch.randint(7, (1, 3, 4))
    before = model.logits(text, image).image
    for position in range(12):
        changed = image.clone()
        changed.view(-1)[position] = (changed.view(-1)[position] + 1) % 7
        after = model.logits(text, changed).image
        assert torch.equal(after[:, : position + 1], before[:, : position + 1])


def test_one_batch_is_overfitted() -> None:
    torch.manual_seed(0)
    model = Transformer(TINY)
    text, image = model.stream.pad_captions([[1, 2], [3, 4]]), torch.randint(7, (2, 3, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        losses = model.losses(text, image)
        optimizer.zero_grad()
        torch.autograd.backward(losses.text / losses.text_count / 8 + losses.image / losses.image_count)
        optimizer.step()
    final = model.losses(text, image)
    assert final.image / final.image_count < 0.02
    # Two captions begin alike for the model at their first token's successor only through that token: all is learnt.
    assert final.text / final.text_count < 0.02


def test_a_saved_transformer_is_the_same_one(tmp_path: Path) -> None:
    model = Transformer(TINY).eval()
    model.save_pretrained(tmp_path / "transformer")
    loaded = Transformer.from_pretrained(tmp_path / "transformer")
    text, image = model.stream.pad_captions([[1]]), torch.zeros(1, 3, 4, dtype=torch.long)
    assert loaded.config == TINY
    assert torch.equal(model.logits(text, image).image, loaded.logits(text, image).image)


@pytest.mark.parametrize("size", [{"num_layers": 0}, {"kernel_size": 10}, {"grid_size": (0, 4)}])
def test_impossible_sizes_are_refused(size: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        TransformerConfig(**size)  # type: ignore[arg-type]


@pytest.mark.parametrize("checkpointed_blocks", [1, 2, 3])
def test_checkpointed_blocks_have_the_same_gradients_and_keep_less(checkpointed_blocks: int) -> None:
    torch.manual_seed(0)
    model = Transformer(TINY)
    text, image = model.stream.pad_captions([[1, 2], [3, 4]]), torch.randint(7, (2, 3, 4))

    def gradients_and_kept() -> tuple[list[torch.Tensor], int]:
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model.losses(text, image).image
        return list(torch.autograd.grad(loss, list(model.blocks.parameters()))), sum(kept.values())

    plain, kept = gradients_and_kept()
    model.checkpointed_blocks = checkpointed_blocks
    checkpointed, kept_with = gradients_and_kept()
    assert kept_with < kept
    for one, other in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, other)
