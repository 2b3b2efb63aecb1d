"""Which optimizer trains which parameters, their learning rate, and the clipping of gradients."""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from trencadis.config import OptimizerConfig
from trencadis.errors import ConfigError
from trencadis.training.mixed_precision import Precision
from trencadis.training.muon import HasHiddenMatrices, Muon
from trencadis.training.schedules import constant_schedule, cosine_schedule, linear_schedule

_WAYS = {"cosine": cosine_schedule, "linear": linear_schedule, "plateaus": constant_schedule}
_DECAYED = (nn.Linear, _ConvNd, nn.Bilinear, nn.MultiheadAttention)


def optimizers(
    model: nn.Module, config: OptimizerConfig, precision: Precision | None = None
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a model: AdamW, and Muon for the hidden matrices if the config asks for it.

    Each group of parameters has the peak of its learning rate under `peak`. Where the model computes in 16 bits, so do
    Muon's products; all else is in the parameters' type.

    Raises:
        ConfigError: Muon is asked for, but the model does not name its hidden matrices.
    """
    if not config.muon:
        return [adamw(model, config)]
    if not isinstance(model, HasHiddenMatrices):
        raise ConfigError(
            f"optimizer.muon true for {type(model).__name__}, which has no hidden matrices",
            expected="a model with a method hidden_matrices, such as the transformer",
            remedy="set muon to false for this stage",
        )
    matrices = [matrix for matrix in model.hidden_matrices() if matrix[0].requires_grad]
    peak = config.muon_learning_rate
    muon = Muon(
        matrices,
        lr=peak,
        momentum=config.muon_momentum,
        weight_decay=config.muon_weight_decay,
        dtype=torch.float32 if precision in (None, "float32") else torch.bfloat16,
    )
    for group in muon.param_groups:
        group["peak"] = peak
    return [adamw(model, config, leave_out={id(parameter) for parameter, _ in matrices}), muon]


def adamw(model: nn.Module, config: OptimizerConfig, *, leave_out: Collection[int] = ()) -> torch.optim.AdamW:
    """Return AdamW over a model's trainable parameters, with weight decay for matrices and kernels only.

    Decayed are parameters with two or more dimensions of a linear layer, a convolution or an attention. Embeddings are
    not, even where a linear layer shares them; nor are gains, biases and tables of positions.

    The fused kernel is used on CPUs and CUDA: on a CPU it is three times as fast as the others, deterministic, and
    independent of the number of threads. `leave_out` has the ids of parameters that another optimizer trains.
    """
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in leave_out]
    decayed = _decayed(model)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if id(p) in decayed], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if id(p) not in decayed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [group | {"peak": config.learning_rate} for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(0.9, config.beta2),
        eps=1e-8,
        fused=all(p.device.type in ("cpu", "cuda") for p in trained),
    )
    # The fused kernel does not count its changes, by which copies of weights are known to be stale.
    optimizer.register_step_post_hook(lambda *_: torch.autograd.graph.increment_version(trained))
    return optimizer


def _decayed(model: nn.Module) -> set[int]:
    matrices: set[int] = set()
    tables: set[int] = set()
    for module in model.modules():
        own = {id(p) for p in module.parameters(recurse=False) if p.ndim >= 2}
        if isinstance(module, _DECAYED):
            matrices |= own
        elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            tables |= own
    return matrices - tables


def learning_rate(step: int, steps: int, config: OptimizerConfig, *, peak: float | None = None) -> float:
    """Return the learning rate of update number `step` of 0..steps-1; `peak` is AdamW's unless given.

    Linear warm-up from 0 (exclusive) to the peak at update `warmup_steps`; then half a cosine or a straight line
    (`decay`) to the final value at the last update, or earlier (`decay_end`). Under `plateaus` it stays at the peak,
    which `schedules.Plateaus` then halves.
    """
    peak = config.learning_rate if peak is None else peak
    warmup_steps = warmup(steps, config)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return _WAYS[config.decay](
        step - warmup_steps,
        start=peak,
        end=peak * config.final_learning_rate,
        steps=max(1, round(config.decay_end * (steps - 1)) - warmup_steps),
    )


def warmup(steps: int, config: OptimizerConfig) -> int:
    """Return how many of the steps the warm-up takes."""
    return max(1, round(0.02 * steps)) if config.warmup_steps is None else config.warmup_steps


def clip_gradients(model: nn.Module, max_norm: float | None) -> float:
    """Clip the norm of the whole model's gradient to `max_norm`; None leaves it as it is.

    Returns:
        The gradient's Euclidean norm before. If it is not finite, the update must be skipped.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm.item()
