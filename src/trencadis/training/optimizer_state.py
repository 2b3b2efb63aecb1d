"""What a resumed run needs besides the weights: the optimizer's state and the averaged weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trencadis.errors import CheckpointError
from trencadis.training.muon import Muon


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer], model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizers' state as plain tensors, named `parameter/quantity`, such as `proj.weight/exp_avg`.

    Hyper-parameters are left out: they come from the config, and a changed config is to take effect.
    """
    return {
        f"{name}/{quantity}": value
        for name, parameter in model.named_parameters()
        for optimizer in optimizers
        for quantity, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Give optimizers the state that `optimizer_tensors` returned, bit for bit; their hyper-parameters stay.

    Raises:
        CheckpointError: The state is of another model or of other optimizers.
    """
    parameters = dict(model.named_parameters())
    keeper = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, quantity = key.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or id(parameter) not in keeper:
            raise CheckpointError(f"the optimizer's state holds {key}, which this model does not train")
        if (quantity == Muon.quantity) != isinstance(keeper[id(parameter)], Muon):
            raise CheckpointError(f"the optimizer's state holds {key}, which is another optimizer's: muon was changed")
        if tensor.ndim and tensor.shape != parameter.shape:
            shapes = f"{tuple(tensor.shape)} in the state, {tuple(parameter.shape)} in the model"
            raise CheckpointError(f"the optimizer's state of {name} has another shape: {shapes}")
        # A copy, because the optimizer writes into its state and the checkpoint is somebody else's.
        state.setdefault(id(parameter), {})[quantity] = tensor.clone()
    for optimizer in optimizers:
        order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        by_index = {index: state[id(parameter)] for index, parameter in enumerate(order) if id(parameter) in state}
        optimizer.load_state_dict({"state": by_index, "param_groups": optimizer.state_dict()["param_groups"]})


class EMA:
    """An exponential moving average of a model's weights, in at least 32 bits.

    The decay warms up, so that the first, random weights are soon forgotten.

    Args:
        model: Whose parameters are averaged; buffers are not.
        decay: Share of the average that an update keeps once it is warm, 0..1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._average = {
            name: parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32), copy=True)
            for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after update number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = list(self._average.values())
        weights = [p.detach().to(a.dtype) for p, a in zip(model.parameters(), averages, strict=True)]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name; they are the live tensors, not copies."""
        return dict(self._average)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take averages that `state_dict` returned.

        Raises:
            CheckpointError: They are of another model.
        """
        strange = tensors.keys() ^ self._average.keys()
        strange |= {name for name in tensors.keys() - strange if tensors[name].shape != self._average[name].shape}
        if strange:
            raise CheckpointError(f"the averaged weights are of another model: {', '.join(sorted(strange)[:5])}")
        for name, average in self._average.items():
            average.copy_(tensors[name])

    @contextmanager
    def apply_to(self, model: nn.Module) -> Iterator[None]:
        """Put the averages in the model's place for a while; its own weights come back, whatever happens."""
        parameters = [parameter.detach() for parameter in model.parameters()]
        own = [parameter.clone() for parameter in parameters]
        try:
            torch._foreach_copy_(parameters, list(self._average.values()))
            yield
        finally:
            torch._foreach_copy_(parameters, own)
