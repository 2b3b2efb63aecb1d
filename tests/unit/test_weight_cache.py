from itertools import count

import pytest
import torch
from torch import nn

from trencadis.weight_cache import WeightCache


@pytest.fixture
def module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_it_builds_once_for_each_key_while_weights_stay(module: nn.Module) -> None:
    cache, numbers = WeightCache(), count()
    found = [cache.get(module, key, lambda: next(numbers)) for key in "abab"]
    assert found == [0, 1, 0, 1]
    cache.clear()
    assert cache.get(module, "a", lambda: next(numbers)) == 2


def test_every_way_to_change_weights_is_seen(module: nn.Module) -> None:
    cache, numbers = WeightCache(), count()

    def built() -> int:
        return cache.get(module, "", lambda: next(numbers))

    layer = module.get_submodule("0")
    assert isinstance(layer, nn.Linear)
    assert built() == 0
    with torch.no_grad():
        layer.weight.add_(1)
    assert built() == 1
    module.load_state_dict(module.state_dict())
    assert built() == 2
    layer.weight = nn.Parameter(layer.weight.detach())
    layer.weight.data = layer.weight.detach().clone()
    assert built() == 3
    module.double()
    assert built() == 4
    module(torch.zeros(2, 2).double())  # the running mean, a buffer
    assert built() == built() == 5


def test_a_new_weight_never_has_the_address_of_the_old(module: nn.Module) -> None:
    cache, numbers = WeightCache(), count()
    for step in range(50):
        module.get_submodule("0").weight = nn.Parameter(torch.zeros(3, 2))
        assert cache.get(module, "", lambda: next(numbers)) == step


def test_weights_made_for_inference_alone_are_cached_too() -> None:
    with torch.inference_mode():
        module, numbers, cache = nn.Linear(2, 2), count(), WeightCache()
    assert [cache.get(module, "", lambda: next(numbers)) for _ in range(2)] == [0, 0]
