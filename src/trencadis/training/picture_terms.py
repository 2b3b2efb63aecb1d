"""The terms of the loss of reconstructed pictures, for the image tokenizer and for its decoder alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.config import ImageLossConfig, OptimizerConfig
from trencadis.config.losses import LOSS_TERMS
from trencadis.image import psnr, ssim
from trencadis.image.efficientnet_lite import EfficientNetLite
from trencadis.image.loss_terms import TERMS, TermInputs, adaptive_weight
from trencadis.image.metrics import WINDOW_SIZE
from trencadis.image.perceptual import VGG16, FeatureNetwork
from trencadis.model_directory import find_model
from trencadis.ranking import CLIP
from trencadis.training.adversarial import Adversary
from trencadis.training.stage import Term, Totals

MOST_PSNR = 100.0  # dB; an exact reconstruction has no finite one
Images = Float[Tensor, "batch 3 height width"]
RealAndShown = tuple[Tensor, Tensor]
"""A microbatch's images as the terms saw them, and their clamped reconstructions, without a graph."""


class PictureTerms:
    """The terms that have a weight, with the perceptual network and the discriminator that they need.

    Args:
        optimizer: Of the stage; the discriminator's AdamW has its settings.
        seed: Of the discriminator's weights.

    Raises:
        ModelError: The perceptual network cannot be loaded.
    """

    def __init__(self, losses: ImageLossConfig, optimizer: OptimizerConfig, *, seed: int, device: torch.device) -> None:
        self._losses = losses
        self.network = feature_network(losses.perceptual_network, device) if losses.perceptual else None
        self.adversary = Adversary(losses, optimizer, seed=seed, device=device) if losses.adversarial else None

    def is_adversarial(self, step: int, steps: int) -> bool:
        """Return whether the discriminator takes part in update `step` of `steps`."""
        return self.adversary is not None and step >= self._losses.adversarial_start * steps

    def with_networks(self, inputs: TermInputs, step: int, steps: int) -> TermInputs:
        """Return inputs with the perceptual network, and with the discriminator's logits where it takes part."""
        inputs = replace(inputs, network=self.network)
        if self.adversary is None or not self.is_adversarial(step, steps):
            return inputs
        return replace(inputs, logits=self.adversary.logits(inputs.shown))

    def terms(self, inputs: TermInputs, *, kl: float = 0.0) -> dict[str, Term]:
        """Return the terms; the adversarial one without its adaptive weight. `kl` is the weight of the term `kl`."""
        weights: dict[str, float] = {name: getattr(self._losses, name) for name in LOSS_TERMS}
        computed = {name: TERMS[name](inputs) for name, weight in weights.items() if weight}
        weights["kl"] = kl
        return {
            name: Term(values.sum(), "images", weights[name]) for name, values in computed.items() if values is not None
        }

    def balance(self, terms: dict[str, Term], totals: Totals, layer: Tensor) -> dict[str, float | Tensor]:
        """Multiply the adversarial term, if it is there, by its adaptive weight, and return that weight for the log.

        Args:
            totals: With the gradients of the whole update, where it has several parts.
            layer: The decoder's last weights.
        """
        if "adversarial" not in terms:
            return {}
        gradients = totals if "adversarial_gradient" in totals else self.last_gradients(terms, layer)
        count, term = totals["images"], terms["adversarial"]
        means = (gradients[name] / count for name in ("reconstruction_gradient", "adversarial_gradient"))
        weight = adaptive_weight(*means)
        terms["adversarial"] = term._replace(weight=term.weight * weight)
        return {"adaptive_weight": weight}

    def last_gradients(self, terms: Mapping[str, Term], layer: Tensor) -> dict[str, Tensor]:
        """Return the gradients at the decoder's last layer, of the other terms and of the adversarial one; sums."""
        others = torch.stack([term.weight * term.sum for name, term in terms.items() if name != "adversarial"]).sum()
        sums = {"reconstruction_gradient": others, "adversarial_gradient": terms["adversarial"].sum}
        return {name: torch.autograd.grad(total, layer, retain_graph=True)[0] for name, total in sums.items()}

    def learn(self, pairs: Sequence[RealAndShown | None], step: int, steps: int) -> dict[str, Tensor]:
        """Train the discriminator where it takes part, on what the terms of each microbatch saw."""
        if self.adversary is None or not self.is_adversarial(step, steps):
            return {}
        return self.adversary.learn([pair for pair in pairs if pair is not None], step, steps)


def psnr_term(shown: Images, images: Images) -> Term:
    """Return what is logged of reconstructions: their PSNR in dB."""
    return Term(psnr(shown, images).clamp(max=MOST_PSNR).sum(), "images", 0.0)


def fidelity(reconstructions: Images, images: Images) -> dict[str, float]:
    """Return the PSNR in dB and, of pictures that are large enough, the SSIM; means, named for the log."""
    measured = {"validation_psnr": float(psnr(reconstructions, images).mean())}
    if min(reconstructions.shape[-2:]) >= WINDOW_SIZE:
        measured["validation_ssim"] = float(ssim(reconstructions, images).mean())
    return measured


def feature_network(name: str | None, device: torch.device) -> FeatureNetwork | None:
    """Return the perceptual term's network: EfficientNet-Lite0, VGG-16 from a file, or a CLIP's image tower."""
    if name is None:
        return None
    if name == "efficientnet-lite0":
        return EfficientNetLite.from_package("lite0").to(device)
    if Path(name).is_file():
        return VGG16.from_file(Path(name)).to(device)
    directory = find_model(name)
    ranker = directory / "ranker"
    return CLIP.from_pretrained(ranker if ranker.is_dir() else directory).image.requires_grad_(False).to(device)
