"""One training on several processes: which one this is, its share of the work, and what they tell each other.

torchrun starts the processes. Each has the whole model and the same random numbers, and computes its share of every
update. Losses are sums and counts, so that adding both up over the processes gives the update of one process. The first
process alone plans, draws and writes; all of them see the run's directory. Without torchrun there is one process, and
nothing here does anything.
"""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel

from trencadis.config import RunConfig, StageConfig
from trencadis.errors import CheckpointError, ConfigError, LostProcessError
from trencadis.progress import hidden

PATIENCE = timedelta(days=1)  # of those that wait while the first process plans, draws or writes
_LOST = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL", "ProcessGroup")

_apart: ContextVar[bool] = ContextVar("apart", default=False)
_patient: dist.ProcessGroup | None = None  # over the CPU


def count() -> int:
    """Return how many processes share each update; 1 inside `apart`."""
    return dist.get_world_size() if _is_together() else 1


def number() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Return whether this process is the one that plans, draws and writes."""
    return number() == 0


def share(samples: int) -> slice:
    """Return which samples of an update are this process's. `check` has made sure that the parts are even."""
    return slice(samples * number() // _all(), samples * (number() + 1) // _all())


def microbatches(parts: int) -> int:
    """Return in how many parts this process computes its share, each at most as large as one of `parts` in all."""
    return -(-parts // _all())


def threads(available: int) -> int:
    """Return how many of the machine's threads this process may use."""
    return max(1, available // int(os.environ.get("LOCAL_WORLD_SIZE", "1") if dist.is_initialized() else 1))


def summed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sums of tensors, by name, over the processes; each has tensors of the same names and shapes."""
    if count() == 1:
        return dict(tensors)
    sums = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    for tensor in sums.values():
        dist.all_reduce(tensor)
    return sums


def gathered(tensor: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of the update's samples, without a gradient."""
    if count() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(count())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gathered_with_gradient(tensor: Tensor) -> Tensor:
    """Return what `gathered` does. The gradient of a row is the sum of its gradients in all processes."""
    if count() == 1:
        return tensor
    return _Gathered.apply(tensor)  # type: ignore[no-any-return, no-untyped-call]


class _Gathered(torch.autograd.Function):
    """`gathered`, and its gradient. Torch renames its own function for it from release to release."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return gathered(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return summed({"grad": grad})["grad"][share(len(grad))]


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their sums over the processes, at once; for small models."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if count() > 1:
        whole = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(whole)
        for gradient, part in zip(gradients, torch.split(whole, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def agreed(value: int) -> int:
    """Return the value that the first process has; the others wait for it as long as it takes."""
    if count() == 1:
        return value
    told = torch.tensor(value, dtype=torch.int64)
    dist.broadcast(told, src=0, group=_patient)
    return int(told)


def wait() -> None:
    """Wait until every process is here."""
    if count() > 1:
        dist.barrier(group=_patient)


def require_same_step(step: int) -> None:
    """Raise a `CheckpointError` where this process goes on from another checkpoint than the first one."""
    if (first := agreed(step)) != step:
        raise CheckpointError(f"process 1 goes on from step {first}, and process {number() + 1} from step {step}")


@contextmanager
def apart() -> Iterator[None]:
    """Let this process compute its share alone inside, and add nothing up, such as to time it."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Let the first process do what is inside, apart, and then the others. If it fails, they end without a word.

    Raises:
        SystemExit: The first process failed, and says why.
    """
    if count() == 1:
        yield
        return
    if not is_first():
        if not agreed(0):
            raise SystemExit(1)
        with apart():
            yield
        return
    try:
        with apart():
            yield
    except BaseException:
        agreed(0)
        raise
    agreed(1)


class SharedLoss:
    """A loss whose backward pass leaves the sum of all processes' gradients in a model, by `DistributedDataParallel`.

    That takes means. Each process therefore multiplies its part of the loss by `factor`.
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Any]) -> None:
        self.factor, self._loss = count(), loss
        self._parallel: DistributedDataParallel | None = None
        if count() > 1:
            self._parallel = DistributedDataParallel(_Lossy(model, loss))

    def __call__(self, *arguments: Any) -> Any:
        """Return the loss of these arguments."""
        return self._loss(*arguments) if self._parallel is None else self._parallel(*arguments)

    def of_part(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Return the context of a microbatch's two passes; the gradients are added up in that of the last one."""
        if self._parallel is None or is_last:
            return nullcontext()
        context: AbstractContextManager[None] = self._parallel.no_sync()
        return context


class _Lossy(nn.Module):
    """A model's loss as a module, as `DistributedDataParallel` wants it. Buffers are constants, and left out."""

    def __init__(self, model: nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.trained, self._loss = nn.ParameterList(model.parameters()), loss

    def forward(self, *arguments: Any) -> Any:
        return self._loss(*arguments)


def check(config: RunConfig) -> None:
    """Raise a `ConfigError` where the processes cannot share the updates of a run, or lack a GPU each."""
    if _all() == 1:
        return
    for name in ("image", "decoder", "transformer", "ranker"):
        stage: StageConfig = getattr(config, name)
        if stage.steps != 0 and stage.batch_size % _all():
            raise ConfigError(
                f"{name}.batch_size {stage.batch_size} on {_all()} processes",
                expected="a number of processes that divides it",
                remedy="start torchrun with another --nproc-per-node or --nnodes",
            )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if config.device == "cuda" and here > torch.cuda.device_count():
        given = f"{here} processes and {torch.cuda.device_count()} GPUs on this machine"
        raise ConfigError(given, expected="a GPU for each process", remedy="start torchrun with fewer, or --device cpu")


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, if it did; those that have joined another way are left as they are.

    Raises:
        LostProcessError: Another process of this training has ended, or torchrun ends this one for that reason.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield
        return
    global _patient
    if (has_gpus := torch.cuda.is_available()) and (own := int(os.environ["LOCAL_RANK"])) < torch.cuda.device_count():
        torch.cuda.set_device(own)
    with _told_to_stop():
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpus else "gloo")
            _patient = dist.new_group(backend="gloo", timeout=PATIENCE)
            for group in (None, _patient):
                # Connects the processes. One notices the end of another by the connection.
                dist.all_reduce(torch.zeros(1), group=group)
            with warnings.catch_warnings(), nullcontext() if is_first() else hidden():
                # Of 1×1 convolutions, whose strides have two equal spellings.
                warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
                yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or any(sign in str(error) for sign in _LOST):
                raise LostProcessError(_lost()) from error
            raise
        finally:
            _patient = None
            if dist.is_initialized():
                dist.destroy_process_group()


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Turn the signal by which torchrun ends the processes that are left into an exception."""

    def stop(_: int, frame: FrameType | None) -> None:
        raise LostProcessError(_lost())

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _lost() -> str:
    own, every = int(os.environ["RANK"]) + 1, os.environ["WORLD_SIZE"]
    return (
        f"process {own} of {every} ends because another one of this training did, or because it was told to; "
        f"run the same command again to go on from the last checkpoint"
    )


def _all() -> int:
    """Return how many processes there are, inside `apart` too."""
    return dist.get_world_size() if dist.is_initialized() else 1


def _is_together() -> bool:
    return dist.is_initialized() and not _apart.get()
