"""Precision and memory of the transformer's training: the same update, computed in another way."""

import math

import pytest
import torch
from torch import Tensor

from benchmarks.contenders.ours import synthetic_training
from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.training.mixed_precision import autocast
from trencadis.training.trainer import Trainer, weighted_sum
from trencadis.training.transformer import StreamBatch, TransformerTraining
from trencadis.transformer.model import Block

CONFIG = TransformerConfig(
    text_len=6, text_vocab_size=300, grid_size=(4, 4), image_vocab_size=32, num_layers=4, num_heads=2, head_dim=16,
    kernel_size=3, design=MODERN_DESIGN,
)  # fmt: skip


def training(**settings: object) -> TransformerTraining:
    stage = synthetic_training(CONFIG, **settings)
    torch.manual_seed(1)
    for parameter in stage.model.parameters():  # not at the zeros that the design begins with
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.05)
    return stage


def batch() -> StreamBatch:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(300, (3, 6), generator=generator)
    return StreamBatch(text, torch.randint(32, (3, 4, 4), generator=generator))


def gradients(stage: TransformerTraining) -> dict[str, Tensor]:
    stage.model.train()
    totals = stage.totals(batch(), 0, 10, is_whole=True)
    torch.autograd.backward(weighted_sum(stage.loss(batch(), totals, 0, 10).terms, totals))
    stage.after_backward()
    return {name: p.grad for name, p in stage.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_checkpointed_blocks_do_not_change_the_gradient(blocks: int) -> None:
    plain, checkpointed = gradients(training()), gradients(training(checkpointed_blocks=blocks))
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        assert torch.equal(gradient, checkpointed[name]), name


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_sixteen_bits_give_about_the_same_gradient(precision: str) -> None:
    plain, narrow = gradients(training()), gradients(training(precision=precision))
    assert plain.keys() == narrow.keys()
    for name, gradient in plain.items():
        distance = (gradient - narrow[name]).norm() / gradient.norm()
        assert 0 < distance < 0.1, (name, float(distance))


def test_the_gradient_scales_are_part_of_a_float16_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    trainer = Trainer(training(precision="float16"), steps=4)
    trainer.stage.model.train()
    for _ in range(2):
        trainer.update([batch()])
    trainer.save(directory)
    resumed = Trainer(training(precision="float16"), steps=4)
    resumed.resume(directory)
    assert resumed.stage.extra_state()["scales"].tolist() == trainer.stage.extra_state()["scales"].tolist()
    fresh = training(precision="float16").extra_state()["scales"]
    assert (trainer.stage.extra_state()["scales"] > fresh).all()  # both updates were finite, and raised them
    assert len(fresh) == 2 * CONFIG.num_layers
    assert not training().extra_state()


def test_validation_is_computed_as_training_in_batches_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis.training.transformer.VALIDATION_BATCH", 4)
    stage = training(precision="bfloat16")
    generator = torch.Generator().manual_seed(0)
    captions = [torch.randint(300, (length,), generator=generator).tolist() for length in (0, 1, 2, 3, 4, 5)]
    held_out = StreamBatch(
        stage.model.stream.pad_captions(captions), torch.randint(32, (6, 4, 4), generator=generator).int()
    )
    stage._validation = held_out
    seen: list[tuple[torch.dtype, torch.Size]] = []
    block = stage.model.blocks[0]
    assert isinstance(block, Block)
    block.attention.qkv.register_forward_hook(lambda module, inputs, output: seen.append((output.dtype, output.shape)))
    stage.model.eval()
    with torch.no_grad():
        measured = stage.validate()
        assert len(seen) == 2
        assert len(set(seen)) == 1
        assert seen[0][0] == torch.bfloat16
        with autocast(torch.device("cpu"), "bfloat16"):
            exact = stage.model.losses(held_out.text_tokens, held_out.image_tokens.long())
    assert measured["validation_text_loss"] == pytest.approx(float(exact.text) / exact.text_count, rel=1e-3)
    bits = float(exact.image) / (6 * 16) / math.log(2)
    assert measured["validation_bits_per_image_token"] == pytest.approx(bits, rel=1e-3)


def noise_of(stage: TransformerTraining, step: int) -> StreamBatch:
    """A batch of pictures whose tokens are all 0, with the noise of a step."""
    pictures = len(stage._noise(step)[0])
    return StreamBatch(torch.zeros(pictures, 6).long(), torch.zeros(pictures, 4, 4).long(), *stage._noise(step))


def test_a_share_of_each_picture_is_noise_evenly_up_to_the_limit() -> None:
    stage = training(token_noise=0.5, batch_size=2048)
    shown = noise_of(stage, 3).inputs(0.5)
    assert shown is not None
    changed = (shown != 0).flatten(1).float().mean(1) * 32 / 31  # one random token in 32 is the token itself
    assert float(changed.mean()) == pytest.approx(0.25, abs=0.01)
    assert float((changed < 0.125).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert float((changed > 0.75).float().mean()) < 0.01
    assert not torch.equal(stage._noise(3)[0], stage._noise(4)[0])


def test_the_noise_falls_and_is_gone_after_three_quarters_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, shares = training(token_noise=0.8, batch_size=64), []
    losses = stage.model.losses

    def recorded(text: Tensor, image: Tensor, *, image_inputs: Tensor, samples: int | None) -> object:
        shares.append(float((image_inputs != 0).float().mean()))
        assert not image.any()  # the targets
        return losses(text, image, image_inputs=image_inputs, samples=samples)

    monkeypatch.setattr(stage.model, "losses", recorded)
    for step in (0, 25, 50, 75, 99):
        noisy = noise_of(stage, step)
        stage.loss(noisy, stage.totals(noisy, step, 100, is_whole=True), step, 100)
    assert shares == pytest.approx([0.4, 0.267, 0.133, 0, 0], abs=0.06)
    assert shares[3:] == [0, 0]


def test_noise_is_of_the_step_alone_and_is_cut_with_the_batch() -> None:
    whole, again = (training(token_noise=0.5, batch_size=6)._noise(7) for _ in range(2))
    assert all(map(torch.equal, whole, again))
    assert training()._noise(7) == []
    assert batch().inputs(0.5) is None
