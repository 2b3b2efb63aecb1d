from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trencadis.config import OptimizerConfig
from trencadis.errors import CheckpointError
from trencadis.training.checkpoints import load_latest, save_checkpoint
from trencadis.training.optimizer_state import EMA, optimizer_tensors, restore_optimizers
from trencadis.training.optimizers import adamw


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        ema.update(model, step)


def start() -> tuple[nn.Module, torch.optim.Optimizer, EMA]:
    model = build()
    return model, adamw(model, OptimizerConfig(learning_rate=1e-2)), EMA(model, 0.999)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_resumed_run_equals_a_straight_one_bit_for_bit(tmp_path: Path) -> None:
    straight = start()
    train(*straight, range(10))

    first = start()
    train(*first, range(5))
    model, optimizer, ema = first
    groups = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer_tensors([optimizer], model)}
    save_checkpoint(tmp_path, 5, groups, {})

    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None
    second = start()
    second[0].load_state_dict(checkpoint.tensors["model"])
    restore_optimizers([second[1]], second[0], checkpoint.tensors["optimizer"])
    second[2].load_state_dict(checkpoint.tensors["ema"])
    assert_equal(optimizer_tensors([second[1]], second[0]), optimizer_tensors([optimizer], model))
    train(*second, range(5, 10))

    assert_equal(second[0].state_dict(), straight[0].state_dict())
    assert_equal(second[2].state_dict(), straight[2].state_dict())
    assert_equal(optimizer_tensors([second[1]], second[0]), optimizer_tensors([straight[1]], straight[0]))
    assert not torch.equal(second[0].state_dict()["0.weight"], first[0].state_dict()["0.weight"])


def test_optimizer_state_is_named_by_parameter() -> None:
    model, optimizer, ema = start()
    assert optimizer_tensors([optimizer], model) == {}
    train(model, optimizer, ema, range(1))
    names = {name for name, _ in model.named_parameters()}
    quantities = {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer_tensors([optimizer], model).keys() == {f"{n}/{q}" for n in names for q in quantities}


def test_restoring_keeps_the_configured_hyper_parameters_and_leaves_the_tensors_alone() -> None:
    model, optimizer, ema = start()
    train(model, optimizer, ema, range(2))
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors([optimizer], model).items()}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    other = build()
    changed = adamw(other, OptimizerConfig(learning_rate=0.5, beta2=0.5))
    restore_optimizers([changed], other, tensors)
    assert {(group["lr"], group["betas"]) for group in changed.param_groups} == {(0.5, (0.9, 0.5))}
    train(other, changed, EMA(other, 0.9), range(2))
    assert_equal(tensors, before)


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [("9.weight/exp_avg", torch.zeros(7, 5), "9.weight"), ("0.weight/exp_avg", torch.zeros(5, 7), "another shape")],
)
def test_state_of_another_model_is_refused(name: str, tensor: Tensor, said: str) -> None:
    model, optimizer, _ = start()
    with pytest.raises(CheckpointError, match=said):
        restore_optimizers([optimizer], model, {name: tensor})


def test_ema_is_the_warmed_up_average() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    ema = EMA(model, 0.5)
    expected = 1.0
    for step in range(20):
        value = float(step)
        model.weight.data.fill_(value)
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert ema.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_ema_at_each_25th_update_is_that_of_these_updates_alone() -> None:
    model, twin = build(), build()
    rare, plain = EMA(model, 0.5, every=25), EMA(twin, 0.5)
    for step in range(80):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * (step + 1))
        rare.update(model, step)
        if step % 25 == 24:
            twin.load_state_dict(model.state_dict())
            plain.update(twin, step // 25)
    assert all(torch.equal(one, plain.state_dict()[name]) for name, one in rare.state_dict().items())
    assert not any(
        torch.equal(average, dict(build().named_parameters())[name]) for name, average in rare.state_dict().items()
    )


def test_ema_of_half_precision_weights_is_kept_in_32_bits() -> None:
    model = nn.Linear(1, 1, bias=False).bfloat16()
    model.weight.data.fill_(1.0)
    ema = EMA(model, 0.9999)
    model.weight.data.fill_(1.0078125)
    for step in range(100_000, 100_010):
        ema.update(model, step)
    average = ema.state_dict()["weight"]
    assert average.dtype == torch.float32
    assert 1.0 < average.item() < 1.0001
    with ema.apply_to(model):
        assert model.weight.dtype == torch.bfloat16


def test_ema_stands_in_for_a_while_only() -> None:
    model, optimizer, ema = start()
    train(model, optimizer, ema, range(3))
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with ema.apply_to(model):
        assert_equal(dict(model.state_dict()), ema.state_dict())
        assert not torch.equal(model.state_dict()["0.weight"], own["0.weight"])
    assert_equal(dict(model.state_dict()), own)
    with pytest.raises(RuntimeError), ema.apply_to(model):
        model(torch.zeros(1))
    assert_equal(dict(model.state_dict()), own)
    train(model, optimizer, ema, range(3, 4))


@pytest.mark.parametrize("change", ["missing", "strange", "shape"])
def test_ema_of_another_model_is_refused(change: str) -> None:
    ema = EMA(build(), 0.9)
    tensors = ema.state_dict()
    if change == "missing":
        del tensors["0.bias"]
    elif change == "strange":
        tensors["extra"] = torch.zeros(1)
    else:
        tensors["0.bias"] = torch.zeros(1)
    before = {name: tensor.clone() for name, tensor in ema.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"0\.bias|extra"):
        ema.load_state_dict(tensors)
    assert_equal(ema.state_dict(), before)
