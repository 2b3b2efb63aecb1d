"""What a resumed run needs besides the weights: the optimizer's state and the averaged weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Int
from torch import Tensor, nn

from trencadis.errors import CheckpointError
from trencadis.training.muon import Muon


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer], model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizers' state as plain tensors, named `parameter/quantity`, such as `proj.weight/exp_avg`.

    Hyper-parameters are left out: they come from the config, so that a changed config takes effect.
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
    """Restore the state that `optimizer_tensors` returned, bit for bit; hyper-parameters stay.

    Raises:
        CheckpointError: The state is of another model or of other optimizers.
    """
    parameters = dict(model.named_parameters())
    keeper = {id(parameter): optimizer for optimizer in optimizers for parameter in _parameters(optimizer)}
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
        # A copy: the optimizer writes into its state, and the tensors belong to the caller.
        state.setdefault(id(parameter), {})[quantity] = tensor.clone()
    for optimizer in optimizers:
        own = enumerate(_parameters(optimizer))
        by_index = {index: state[id(parameter)] for index, parameter in own if id(parameter) in state}
        optimizer.load_state_dict({"state": by_index, "param_groups": optimizer.state_dict()["param_groups"]})


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def reset_rows(
    optimizers: Sequence[torch.optim.Optimizer], parameter: nn.Parameter, rows: Int[Tensor, " rows"]
) -> None:
    """Set the moments of some rows of a parameter to 0, as those of a new parameter are."""
    for optimizer in optimizers:
        for moment in optimizer.state.get(parameter, {}).values():
            if moment.shape == parameter.shape:
                moment[rows] = 0


class EMA:
    """An exponential moving average of a model's weights, in at least 32 bits.

    The decay warms up to `decay`, 0..1, so that the first, random weights are soon forgotten. Buffers are not averaged.
    Weights are averaged in after every `every` updates.
    """

    def __init__(self, model: nn.Module, decay: float, every: int = 1) -> None:
        self.decay, self.every = decay, every
        self._average = {
            name: parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32), copy=True)
            for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average in the weights after update number `step`, counted from 0."""
        averaged, rest = divmod(step + 1, self.every)
        if rest:
            return
        decay = min(self.decay, averaged / (9 + averaged))
        averages = list(self._average.values())
        weights = [p.detach().to(a.dtype) for p, a in zip(model.parameters(), averages, strict=True)]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    @torch.no_grad()
    def replace_rows(self, name: str, parameter: Tensor, rows: Int[Tensor, " rows"]) -> None:
        """Take some rows of a parameter as they are, and forget their past."""
        average = self._average[name]
        average[rows] = parameter[rows].to(average.dtype)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name; they are the live tensors, not copies."""
        return dict(self._average)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise a `CheckpointError` if the averages are of another model."""
        strange = tensors.keys() ^ self._average.keys()
        strange |= {name for name in tensors.keys() - strange if tensors[name].shape != self._average[name].shape}
        if strange:
            raise CheckpointError(f"the averaged weights are of another model: {', '.join(sorted(strange)[:5])}")
        for name, average in self._average.items():
            average.copy_(tensors[name])

    @contextmanager
    def apply_to(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged weights for a while, without a copy where the types agree."""
        parameters = list(model.parameters())
        own = [parameter.data for parameter in parameters]
        try:
            for parameter, average in zip(parameters, self._average.values(), strict=True):
                parameter.data = average.to(parameter.dtype)
            yield
        finally:
            for parameter, weights in zip(parameters, own, strict=True):
                parameter.data = weights
