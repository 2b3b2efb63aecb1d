"""Precision and memory of the transformer's training: the same update, computed in another way."""

import pytest
import torch
from torch import Tensor

from benchmarks.contenders.ours import synthetic_training
from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.training.trainer import Trainer
from trencadis.training.transformer import StreamBatch, TransformerTraining

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
    loss, _ = stage.loss(batch(), 0, 10)
    torch.autograd.backward(loss)
    stage.after_backward(0, 1)
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
