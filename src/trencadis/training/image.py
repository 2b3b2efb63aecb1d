"""The second stage: the image tokenizer."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from trencadis.config import DataConfig, ImageLossConfig, ImageStage
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow
from trencadis.image import DiscreteVAE, Quantizer, psnr, ssim
from trencadis.image.divergence import divergence_from_uniform, divergence_weight
from trencadis.image.loss_terms import adaptive_weight, entropy_loss, l1_loss, l2_loss, likelihood_loss, rmse_loss
from trencadis.image.metrics import WINDOW_SIZE
from trencadis.image.perceptual import VGG16, FeatureNetwork, perceptual_loss
from trencadis.model_directory import find_model
from trencadis.randomness import derive_seed
from trencadis.ranking import CLIP
from trencadis.training.adversarial import Adversary
from trencadis.training.mixed_precision import autocast
from trencadis.training.quantizers import REVIVED_UNTIL, CodeCounts, Relaxation, codebook_of, revive
from trencadis.training.run_pairs import RunPairs
from trencadis.training.schedules import cosine_schedule

SHOWN = 8


@dataclass(frozen=True)
class ImageBatch:
    """Pictures, and the seed of the noise that relaxes their codes."""

    images: Float[Tensor, "batch 3 height width"]
    noise_seed: int


@runtime_checkable
class StateKeeper(Protocol):
    """What has a state that a checkpoint keeps."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from it."""


class ImageTraining:
    """Trains an image tokenizer on pictures alone. A `Stage`.

    Args:
        config: Kind, sizes and schedules.
        pairs: The run's pairs.
        data: How pictures are cut.
        seed: Of weights, order, crops and noise.
        device: Where the model is trained.

    Raises:
        ModelError: The perceptual network cannot be loaded.
    """

    name = "image"

    def __init__(
        self, config: ImageStage, pairs: RunPairs, data: DataConfig, *, seed: int, device: torch.device
    ) -> None:
        torch.manual_seed(derive_seed(seed, self.name, "weights"))
        self.config, self.device, self._seed = config, device, seed
        self.model = DiscreteVAE(config.model).to(device)
        size = config.model.image_size
        order = derive_seed(seed, self.name)
        self._batches = pairs.batches(size, data, batch_size=config.batch_size, seed=order, flip=data.flip)
        self._validation = pairs.middle_crops(pairs.validation, size, data)
        self._counts = CodeCounts(config.model.image_vocab_size, len(pairs.train) * config.model.image_len)
        self._codebook = codebook_of(self.model.bottleneck, config)
        self._network = feature_network(config.losses.perceptual_network, device) if config.losses.perceptual else None
        self._adversary = None
        if config.losses.adversarial:
            seed = derive_seed(seed, self.name, "discriminator")
            self._adversary = Adversary(config.losses, config.optimizer, seed=seed, device=device)

    def batches(self, from_step: int, to_step: int) -> Generator[list[ImageBatch], None, None]:
        """Yield the microbatches of each step."""
        for step, batch in enumerate(self._batches.iterate(from_step, to_step), from_step):
            parts = batch.images.tensor_split(self.config.microbatches)
            yield [
                ImageBatch(images, derive_seed(self._seed, self.name, "noise", step, part))
                for part, images in enumerate(parts)
            ]

    def loss(self, batch: ImageBatch, step: int, steps: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the weighted sum of a microbatch's terms; those of its discriminator are learnt from on the way."""
        config = self.config.losses
        images = batch.images.to(self.device, non_blocking=True)
        generator = torch.Generator(self.device).manual_seed(batch.noise_seed)
        if self.config.pixel_noise:
            noise = self.config.pixel_noise
            images = images + torch.empty_like(images).uniform_(-noise, noise, generator=generator)
        quantizer, scheduled = self._quantizer(batch.noise_seed, generator, step, steps)
        with autocast(self.device, self.config.precision):
            quantized, maps = self.model(images, quantizer)
        drawn = self.model.picture(maps)
        shown = drawn.clamp(0, 1)  # what looks at pictures is to see no whites that real ones cannot have
        self._counts.add(quantized.tokens)
        terms = quantized.terms | self._terms(quantized.logits, maps, drawn, shown, images)
        kl = cosine_schedule(step, start=0.0, end=config.kl, steps=round(config.kl_steps * steps))
        total = _weighted(terms, config, divergence_weight(kl, down_factor=self.model.down_factor))
        logged: dict[str, Tensor | float] = {name: term.detach() for name, term in terms.items()}
        if "kl" in terms:
            scheduled["kl_weight"] = kl
        if self._adversary is not None and step >= config.adversarial_start * steps:
            total, said = self._oppose(self._adversary, total, shown, images)
            logged |= said
        mse = l2_loss(shown.detach(), images)
        return total, {**logged, "psnr": -10 * mse.log10(), **scheduled}

    def _quantizer(
        self, noise_seed: int, generator: torch.Generator, step: int, steps: int
    ) -> tuple[Quantizer, dict[str, float]]:
        """Return what makes a microbatch's latents codes, and what its schedule says."""
        if self._codebook is not None:
            self._codebook.seed = noise_seed
            return self._codebook, {}
        config, bottleneck = self.config, self.model.bottleneck
        end, until = config.final_relaxation_temperature, round(config.relaxation_steps * steps)
        temperature = cosine_schedule(step, start=1.0, end=end, steps=until)
        scheduled = {} if config.relaxation == "ibq" else {"relaxation_temperature": temperature}
        return Relaxation(bottleneck, generator, config.relaxation, temperature), scheduled

    def _terms(
        self, logits: Tensor | None, maps: Tensor, drawn: Tensor, shown: Tensor, images: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms that have a weight, unweighted, by the names of `ImageLossConfig`."""
        config, network = self.config.losses, self._network
        temperature = config.entropy_temperature
        terms: dict[str, Callable[[], Tensor | None]] = {
            "likelihood": lambda: likelihood_loss(maps, images),
            "l1": lambda: l1_loss(drawn, images),
            "l2": lambda: l2_loss(drawn, images),
            "rmse": lambda: rmse_loss(drawn, images),
            "kl": lambda: None if logits is None else divergence_from_uniform(logits),
            "entropy": lambda: None if logits is None else entropy_loss(logits, entropy_temperature=temperature),
            "perceptual": lambda: None if network is None else perceptual_loss(network, shown, images),
        }
        computed = {name: term() for name, term in terms.items() if getattr(config, name)}
        return {name: term for name, term in computed.items() if term is not None}

    def _oppose(
        self, adversary: Adversary, total: Tensor, shown: Tensor, images: Tensor
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss with the discriminator's term in it, and what is logged of the two."""
        opinion = adversary.opinion(shown)
        weight = adaptive_weight(total, opinion, self.model.decoder.output.weight)
        said = adversary.learn(images, shown, microbatches=self.config.microbatches)
        total = total + self.config.losses.adversarial * weight * opinion
        return total, {"adversarial": opinion.detach(), "adaptive_weight": weight, **said}

    def after_backward(self, step: int, steps: int) -> None:
        """Move the codebook and the discriminator, and give up codes that are hardly used."""
        if self._adversary is not None:
            self._adversary.update(step, steps)
        if self._codebook is not None:
            self._codebook.publish()
        elif self.config.revive_below and step < REVIVED_UNTIL * steps:
            counts = self._counts.window()
            if counts is not None:
                seed = derive_seed(self._seed, self.name, step)
                revive(self.model.bottleneck, counts, below=self.config.revive_below, seed=seed)

    def extra_state(self) -> dict[str, Tensor]:
        """Return the counts of codes, the codebook's averages and the discriminator, which a checkpoint keeps."""
        return {
            f"{part}.{name}": tensor
            for part, owner in self._owners().items()
            for name, tensor in owner.state_dict().items()
        }

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `extra_state` returned."""
        for part, owner in self._owners().items():
            prefix = f"{part}."
            owner.load_state_dict(
                {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            )

    def _owners(self) -> dict[str, StateKeeper]:
        owners: dict[str, StateKeeper | None] = {
            "counts": self._counts,
            "codebook": self._codebook,
            "adversary": self._adversary,
        }
        return {part: owner for part, owner in owners.items() if owner is not None}

    def validate(self) -> dict[str, float]:
        """Measure hard reconstructions of held-out pictures, and how many codes an epoch's pictures took."""
        drawn = self._reconstruct(self._validation)
        measured = {"validation_psnr": float(psnr(drawn, self._validation).mean()), **self._counts.measured()}
        if min(drawn.shape[-2:]) >= WINDOW_SIZE:
            measured["validation_ssim"] = float(ssim(drawn, self._validation).mean())
        return measured

    def sample(self) -> Image.Image:
        """Return held-out pictures above their reconstructions."""
        originals = self._validation[:SHOWN]
        drawn = self._reconstruct(originals)
        labels = ["original"] * len(originals) + ["reconstruction"] * len(drawn)
        return contact_sheet(to_pillow(torch.cat([originals, drawn])), labels, len(originals), label_lines=1)

    def _reconstruct(self, images: Tensor) -> Tensor:
        """Return reconstructions, on the CPU."""
        return torch.cat([self.model.reconstruct(part.to(self.device)).cpu() for part in torch.split(images, 64)])


def _weighted(terms: Mapping[str, Tensor], config: ImageLossConfig, kl_weight: float) -> Tensor:
    """Return the sum of the terms by their weights; that of the divergence is scheduled."""
    weights = {name: kl_weight if name == "kl" else getattr(config, name) for name in terms}
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def feature_network(name: str | None, device: torch.device) -> FeatureNetwork | None:
    """Return the network of the perceptual term: CLIP's image tower from a directory, or VGG-16 from a file.

    Raises:
        ModelError: It is absent, damaged or something else.
    """
    if name is None:
        return None
    if Path(name).is_file():
        return VGG16.from_file(Path(name)).to(device)
    directory = find_model(name)
    ranker = directory / "ranker"
    return CLIP.from_pretrained(ranker if ranker.is_dir() else directory).image.requires_grad_(False).to(device)
