"""The discriminator that an image tokenizer is trained against, with its own optimizer."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from trencadis.config import ImageLossConfig, OptimizerConfig
from trencadis.image.discriminator import PatchDiscriminator
from trencadis.image.loss_terms import hinge_discriminator_loss, lecam_loss
from trencadis.training import processes
from trencadis.training.optimizer_state import optimizer_tensors, restore_optimizers, with_prefix, without_prefix
from trencadis.training.optimizers import adamw, clip_gradients, learning_rate

LOGIT_DECAY = 0.999  # of the averages that LeCam compares with


class Adversary:
    """Learns to tell reconstructions from real images, with an AdamW of the tokenizer's settings."""

    def __init__(self, losses: ImageLossConfig, optimizer: OptimizerConfig, *, seed: int, device: torch.device) -> None:
        self._losses, self._config = losses, optimizer
        torch.manual_seed(seed)
        self.discriminator = PatchDiscriminator(losses.discriminator_dim, losses.discriminator_layers).to(device)
        self.optimizer = adamw(self.discriminator, optimizer)
        self._averages = torch.zeros(2, device=device)  # of the mean logits of real and of reconstructed patches

    def logits(self, shown: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1 rows columns"]:
        """Return the logits of reconstructions' patches; they give the discriminator itself no gradient."""
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, frozen, (shown,))  # type: ignore[no-any-return]

    def learn(self, parts: Sequence[tuple[Tensor, Tensor]], step: int, steps: int) -> dict[str, Tensor]:
        """Make the discriminator's update number `step`, unless its gradient is not finite, and return its loss.

        Args:
            parts: Real images and their reconstructions, of each microbatch of this process.
            step: Number of the update, 0..steps-1.
            steps: Updates in all.
        """
        counted = processes.summed({"images": torch.tensor(sum(len(images) for images, _ in parts))})
        count = int(counted["images"])
        loss, means = torch.zeros_like(self._averages[0]), torch.zeros_like(self._averages)
        self.optimizer.zero_grad(set_to_none=True)
        for images, shown in parts:
            real, reconstructed = self.discriminator(torch.cat([images, shown])).chunk(2)
            losses = hinge_discriminator_loss(real, reconstructed)
            if self._losses.lecam:
                losses = losses + self._losses.lecam * lecam_loss(real, reconstructed, *self._averages)
            share = losses.sum() / count
            torch.autograd.backward(share)
            loss += share.detach()
            means += len(images) / count * torch.stack([real.detach().mean(), reconstructed.detach().mean()])
        processes.sum_gradients(self.discriminator.parameters())
        loss, means = processes.summed({"loss": loss, "means": means}).values()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, self._config)
        if math.isfinite(clip_gradients(self.discriminator, self._config.max_grad_norm)):
            self.optimizer.step()
            self._averages = LOGIT_DECAY * self._averages + (1 - LOGIT_DECAY) * means
        return {"discriminator": loss}

    def state_dict(self) -> dict[str, Tensor]:
        moments = optimizer_tensors([self.optimizer], self.discriminator)
        return {
            **with_prefix("model/", self.discriminator.state_dict()),
            **with_prefix("optimizer/", moments),
            "averages": self._averages,
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.discriminator.load_state_dict(without_prefix("model/", state))
        restore_optimizers([self.optimizer], self.discriminator, without_prefix("optimizer/", state))
        self._averages = state["averages"].clone().to(self._averages.device)
