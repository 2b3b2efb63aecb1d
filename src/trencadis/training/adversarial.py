"""The discriminator that an image tokenizer is trained against, with its own optimizer."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from trencadis.config import ImageLossConfig, OptimizerConfig
from trencadis.image.discriminator import PatchDiscriminator
from trencadis.image.loss_terms import generator_loss, hinge_discriminator_loss, lecam_loss
from trencadis.training.optimizer_state import optimizer_tensors, restore_optimizers
from trencadis.training.optimizers import adamw, clip_gradients, learning_rate

OPINION_DECAY = 0.999  # of the averages that LeCam compares with


class Adversary:
    """Learns to tell drawn pictures from real ones, and says how it tells.

    Args:
        losses: Its sizes and weights.
        optimizer: How it is optimized: as the tokenizer is.
        seed: Of its weights.
        device: Where it is.
    """

    def __init__(self, losses: ImageLossConfig, optimizer: OptimizerConfig, *, seed: int, device: torch.device) -> None:
        self._losses, self._config = losses, optimizer
        torch.manual_seed(seed)
        self.discriminator = PatchDiscriminator(losses.discriminator_dim, losses.discriminator_layers).to(device)
        self.optimizer = adamw(self.discriminator, optimizer)
        self._averages = torch.zeros(2, device=device)  # of opinions of real and of drawn patches

    def opinion(self, drawn: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, ""]:
        """Return the term that drawn pictures make small; it gives the discriminator itself no gradient."""
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        opinions: Tensor = functional_call(self.discriminator, frozen, (drawn,))
        return generator_loss(opinions)

    def learn(
        self,
        images: Float[Tensor, "batch 3 height width"],
        drawn: Float[Tensor, "batch 3 height width"],
        *,
        microbatches: int,
    ) -> dict[str, Tensor]:
        """Add a microbatch's gradient to the discriminator's, and return what is logged of it."""
        real_opinions, drawn_opinions = self.discriminator(torch.cat([images, drawn.detach()])).chunk(2)
        loss = hinge_discriminator_loss(real_opinions, drawn_opinions)
        if self._losses.lecam:
            means = torch.stack([real_opinions.detach().mean(), drawn_opinions.detach().mean()])
            self._averages = OPINION_DECAY * self._averages + (1 - OPINION_DECAY) * means
            loss = loss + self._losses.lecam * lecam_loss(real_opinions, drawn_opinions, *self._averages)
        torch.autograd.backward(loss / microbatches)
        return {"discriminator": loss.detach()}

    def update(self, step: int, steps: int) -> None:
        """Make the discriminator's update number `step`, where a gradient is there and finite."""
        if any(parameter.grad is not None for parameter in self.discriminator.parameters()):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, self._config)
            if math.isfinite(clip_gradients(self.discriminator, self._config.max_grad_norm)):
                self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Tensor]:
        """Return weights, optimizer and averages."""
        moments = optimizer_tensors([self.optimizer], self.discriminator)
        return {
            **{f"model/{name}": tensor for name, tensor in self.discriminator.state_dict().items()},
            **{f"optimizer/{name}": tensor for name, tensor in moments.items()},
            "averages": self._averages,
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            CheckpointError: The optimizer's state is of another discriminator.
        """
        parts = _parts(state)
        self.discriminator.load_state_dict(parts["model"])
        restore_optimizers([self.optimizer], self.discriminator, parts.get("optimizer", {}))
        self._averages = state["averages"].clone().to(self._averages.device)


def _parts(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return tensors by what stands before the first slash of their names."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    return parts
