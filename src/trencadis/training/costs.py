"""What training costs: operations, bytes and memory, counted on the real models with tensors that hold no numbers."""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from trencadis.config import RunConfig
from trencadis.image import DiscreteVAE, Quantized
from trencadis.ranking import CLIP
from trencadis.transformer import Transformer
from trencadis.transformer.kernels.cpu import counted_products

BACKWARD = 3.0  # times the operations of a forward pass are those of both passes
STATE_BYTES = 20  # of a parameter in training: itself, its gradient, two moments and its average in float32
STATE_MOVED = 48  # bytes of a parameter that both passes and an update read and write, once a batch


@dataclass(frozen=True)
class StageCost:
    """Training on one pair; float32 throughout.

    Args:
        flops: Operations of products, forward and backward.
        moved_bytes: What each operation reads and writes besides parameters, forward and backward, as if nothing stayed
            in a cache.
        kernels: Operations, forward and backward; a batch has as many.
        saved_bytes: What the forward pass keeps for the backward pass.
        parameters: Of the models that are trained.
    """

    flops: float
    moved_bytes: float
    kernels: int
    saved_bytes: int
    parameters: int

    def memory_bytes(self, batch_size: int, *, narrow: bool) -> float:
        """Return what an update of `batch_size` pairs at once takes, about.

        Args:
            narrow: Products are in 16 bits, and so is what is kept.
        """
        return self.parameters * STATE_BYTES + self.saved_bytes * batch_size * (0.5 if narrow else 1.0)


@cache
def stage_costs(config: RunConfig) -> dict[str, StageCost]:
    """Return what training on one pair costs, by stage; that of the image tokenizer even where none is trained."""
    costs = {}
    with FakeTensorMode():  # tensors without numbers
        for stage, model, run in _passes(config):
            own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
            counting = FlopCounterMode(display=False, custom_mapping=counted_products())
            traffic, saved = _Traffic(own), dict[int, int]()
            with _kept(saved, own), counting, traffic:
                run()
            costs[stage] = StageCost(
                flops=BACKWARD * counting.get_total_flops(),
                moved_bytes=BACKWARD * traffic.moved_bytes,
                kernels=round(BACKWARD * traffic.kernels),
                saved_bytes=sum(saved.values()),
                parameters=sum(p.numel() for p in model.parameters()),
            )
    return costs


def training_flops(config: RunConfig) -> dict[str, float]:
    """Return the FLOPs of training on one pair, by stage, forward and backward; 0 for a given image tokenizer."""
    flops = {stage: cost.flops for stage, cost in stage_costs(config).items()}
    return flops if config.image.pretrained is None else flops | {"image": 0.0}


def _passes(config: RunConfig) -> Iterator[tuple[str, nn.Module, Callable[[], object]]]:
    """Yield each stage with its model and a forward pass over one pair."""
    text = torch.zeros(1, config.text.text_len, dtype=torch.long)
    images = torch.zeros(1, 3, *config.image.model.image_size)
    vae = DiscreteVAE(config.image.model)
    yield "image", vae, lambda: vae(images, partial(_quantized, vae))
    transformer = Transformer(config.transformer_model())
    tokens = torch.zeros(1, *config.image.model.grid_size, dtype=torch.long)
    yield "transformer", transformer, lambda: transformer.logits(text, tokens)
    clip = CLIP(config.ranker_model())
    crops = torch.zeros(1, 3, *config.ranker_model().image_size)
    yield "ranker", clip, lambda: (clip.image(crops), clip.text(text))


def _quantized(vae: DiscreteVAE, latents: Tensor) -> Quantized:
    """Return codes of the right shape, at about the cost of training."""
    bottleneck = vae.bottleneck
    embedded = bottleneck.mix(bottleneck.logits(latents))
    return Quantized(embedded, latents.new_zeros(latents.shape[:-1], dtype=torch.long), latents)


def _kept(saved: dict[int, int], own: Container[int]) -> torch.autograd.graph.saved_tensors_hooks:
    """Note the bytes of what is kept for the backward pass, once for each storage; parameters are there anyway."""

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    return torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, and the bytes of the tensors that go into them and come out, but for a model's own storages.

    Views are no operations.
    """

    def __init__(self, own: Container[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own, self.moved_bytes, self.kernels = own, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            moved = [tensor for tensor in tensors if tensor.untyped_storage()._cdata not in self._own]
            self.moved_bytes += sum(tensor.numel() * tensor.element_size() for tensor in moved)
            self.kernels += 1
        return out
