"""What updates cost, counted against real passes, and how long they take on a machine that is not here."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.unit.training.test_plan import pairs
from trencadis.config import RunConfig
from trencadis.recipes import LADDER, RECIPES
from trencadis.training.accelerators import ACCELERATORS, BANDWIDTH_SHARE, KERNEL_S, UTILISATION, Accelerator
from trencadis.training.costs import STATE_BYTES, STATE_MOVED, StageCost, stage_costs
from trencadis.training.elsewhere import Elsewhere
from trencadis.training.plan import Plan, choose_sizes
from trencadis.transformer import Transformer

pytestmark = pytest.mark.usefixtures("without_type_checks")
FAST = Accelerator(peak_flops=1e15, bandwidth=1e12, memory_bytes=1e11, link=1e11)


def narrow(config: RunConfig) -> RunConfig:
    return replace(config, transformer=replace(config.transformer, precision="bfloat16"))


def test_what_is_kept_for_the_backward_pass_is_what_a_real_pass_keeps() -> None:
    config = RECIPES["tiny"]()
    model = Transformer(config.transformer_model())
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor
        return tensor

    text = torch.zeros(1, config.text.text_len, dtype=torch.long)
    tokens = torch.zeros(1, *config.image.model.grid_size, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.logits(text, tokens)
    cost = stage_costs(config)["transformer"]
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert cost.saved_bytes == pytest.approx(real, rel=0.1)
    assert cost.parameters == sum(p.numel() for p in model.parameters())


def test_memory_is_state_and_what_each_sample_keeps() -> None:
    cost = StageCost(flops=0.0, moved_bytes=0.0, kernels=0, saved_bytes=1000, parameters=10)
    assert cost.memory_bytes(4, narrow=False) == 10 * STATE_BYTES + 4000
    assert cost.memory_bytes(4, narrow=True) == 10 * STATE_BYTES + 2000


def test_an_update_takes_as_long_as_what_is_slowest() -> None:
    config = narrow(LADDER[0]())
    cost, batch = stage_costs(config)["transformer"], config.transformer.batch_size
    slow_products = replace(FAST, peak_flops=1e9)
    expected = cost.flops * batch / (1e9 * UTILISATION)
    assert Elsewhere("x", slow_products, 1).update_s(config, "transformer") == pytest.approx(expected)
    slow_memory = replace(FAST, bandwidth=1e9)
    moved = 0.5 * cost.moved_bytes * batch + STATE_MOVED * cost.parameters
    expected = moved / (1e9 * BANDWIDTH_SHARE)
    assert Elsewhere("x", slow_memory, 1).update_s(config, "transformer") == pytest.approx(expected)
    endless = replace(FAST, peak_flops=1e20, bandwidth=1e20)
    assert Elsewhere("x", endless, 1).update_s(config, "transformer") == pytest.approx(cost.kernels * KERNEL_S)


def test_several_devices_share_the_samples_and_sum_their_gradients() -> None:
    config = narrow(LADDER[0]())
    slow = replace(FAST, peak_flops=1e9)
    one, four = (Elsewhere("x", slow, count).update_s(config, "transformer") for count in (1, 4))
    summing = 2 * 3 / 4 * 4 * stage_costs(config)["transformer"].parameters / slow.link
    assert four == pytest.approx(one / 4 + summing)


def test_a_device_without_bfloat16_has_float16_for_the_transformer_alone() -> None:
    old = Elsewhere("v100", ACCELERATORS["v100"], 1)
    plan = Plan()
    config = choose_sizes({}, "pocket", 1.0, pairs(), plan, old)
    assert (config.image.precision, config.transformer.precision, config.ranker.precision) == (
        "float32",
        "float16",
        "float32",
    )
    assert config.device == "cuda"
    assert "threads" not in {choice["what"] for choice in plan.choices}


def test_a_faster_machine_gets_a_larger_recipe_without_being_here() -> None:
    plan = Plan()
    config = choose_sizes({}, None, 2.0, pairs(side=300), plan, Elsewhere("h100", ACCELERATORS["h100"], 8))
    assert config.recipe in ("medium", "large")
    assert any("computed for 8 × h100" in choice["why"] for choice in plan.choices)


def test_all_stages_have_times_and_validations() -> None:
    config = narrow(RECIPES["tiny"]())
    elsewhere = Elsewhere("h100", ACCELERATORS["h100"], 1)
    timing = elsewhere.timing(config, pairs())
    assert timing.step_s.keys() == timing.look_s.keys() == {"image", "transformer", "ranker"}
    assert all(seconds > 0 for seconds in (*timing.step_s.values(), *timing.look_s.values(), timing.encoding_s))
    assert timing.where == "on one h100, computed"
    given = replace(config, image=replace(config.image, pretrained="emoji"))
    assert elsewhere.sample_s(given).keys() == {"transformer"}
