"""The second stage: the image tokenizer."""

import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from trencadis.config import DataConfig, ImageStage
from trencadis.config.losses import LOSS_TERMS
from trencadis.data import TOKENIZER_CROPS
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow
from trencadis.image import DiscreteVAE, Quantizer, psnr, ssim
from trencadis.image.efficientnet_lite import EfficientNetLite
from trencadis.image.loss_terms import TERMS, TermInputs, adaptive_weight, code_probabilities, divergence_weight
from trencadis.image.metrics import WINDOW_SIZE
from trencadis.image.perceptual import VGG16, FeatureNetwork
from trencadis.model_directory import find_model
from trencadis.randomness import derive_seed
from trencadis.ranking import CLIP
from trencadis.training.adversarial import Adversary
from trencadis.training.mixed_precision import autocast
from trencadis.training.optimizer_state import with_prefix, without_prefix
from trencadis.training.quantizers import REVIVED_UNTIL, CodeCounts, MovingCodebook, Relaxation, codebook_of, revive
from trencadis.training.run_pairs import RunPairs
from trencadis.training.schedules import cosine_schedule
from trencadis.training.stage import Criterion, Stage, StageLoss, Term, Totals, UpdateEffects

SHOWN = 8
MOST_PSNR = 100.0  # dB; an exact reconstruction has no finite one


class ImageBatch(NamedTuple):
    images: Float[Tensor, "batch 3 height width"]
    noise_seeds: tuple[int, ...]  # one an image


class Observed(NamedTuple):
    """What is learnt from after an update: the codes; latents for a moving codebook; images for the discriminator.

    Images are as the terms saw them, beside their clamped reconstructions. Nothing has a graph.
    """

    tokens: Int[Tensor, "batch rows columns"]
    latents: Float[Tensor, "batch rows columns _"] | None
    real_and_shown: tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 3 height width"]] | None


class ImageTraining(Stage[ImageBatch]):
    """Trains an image tokenizer on images alone, with a seed for weights, order, crops and noise.

    Raises:
        ModelError: The perceptual network cannot be loaded.
    """

    name = "image"
    config: ImageStage
    model: DiscreteVAE

    def __init__(
        self, config: ImageStage, pairs: RunPairs, data: DataConfig, *, seed: int, device: torch.device
    ) -> None:
        torch.manual_seed(derive_seed(seed, self.name, "weights"))
        self.config, self.device, self._seed = config, device, seed
        self.model = DiscreteVAE(config.model).to(device)
        size = config.model.image_size
        order = derive_seed(seed, self.name)
        rule = replace(TOKENIZER_CROPS, mirror=data.flip)
        self._batches = pairs.batches(size, data, batch_size=config.batch_size, seed=order, rule=rule)
        self._validation = pairs.middle_crops(pairs.validation, size, data)
        self._counts = CodeCounts(config.model.image_vocab_size, len(pairs.train) * config.model.image_len, device)
        self._codebook = codebook_of(self.model.bottleneck, config)
        self._network = feature_network(config.losses.perceptual_network, device) if config.losses.perceptual else None
        self._adversary = None
        if config.losses.adversarial:
            seed = derive_seed(seed, self.name, "discriminator")
            self._adversary = Adversary(config.losses, config.optimizer, seed=seed, device=device)

    @property
    def criterion(self) -> Criterion | None:
        """Return PSNR; None where a perceptual or an adversarial term gives some of it up for sharper pictures."""
        losses = self.config.losses
        return None if losses.perceptual or losses.adversarial else Criterion("validation_psnr", is_higher_better=True)

    def batches(self, from_step: int, to_step: int) -> Generator[list[ImageBatch], None, None]:
        pinned = self.device.type == "cuda"
        for step, batch in enumerate(self._batches.iterate(from_step, to_step, pinned=pinned), from_step):
            seeds = (derive_seed(self._seed, self.name, "noise", step, index) for index in range(len(batch.images)))
            parts = batch.images.tensor_split(self.config.microbatches)
            yield [ImageBatch(images, tuple(itertools.islice(seeds, len(images)))) for images in parts]

    def totals(self, batch: ImageBatch, step: int, steps: int, *, is_whole: bool) -> dict[str, Tensor]:
        """Return the number of images, and for a part of an update what its terms need to know of the other parts.

        That is the sum of the codes' probabilities, for the entropy term, and the sums of the gradients at the
        decoder's last layer, for the weight of the adversarial term. They take a forward pass of their own.
        """
        totals = {"images": torch.tensor(len(batch.images))}
        has_entropy = bool(self.config.losses.entropy) and self._codebook is None
        is_adversarial = self._is_adversarial(step, steps)
        if is_whole or not (has_entropy or is_adversarial):
            return totals
        with torch.set_grad_enabled(is_adversarial):
            inputs = self._inputs(batch, totals, step, steps)
            if has_entropy:
                logits, temperature = inputs.quantized.logits, inputs.entropy_temperature
                assert logits is not None
                totals["codes"] = code_probabilities(logits.detach(), entropy_temperature=temperature)
            if is_adversarial:
                totals |= self._last_gradients(self._terms(inputs, step, steps))
        return totals

    def loss(self, batch: ImageBatch, totals: Totals, step: int, steps: int) -> StageLoss:
        """Return the terms that have a weight, by the names of `ImageLossConfig`, and `psnr` in dB."""
        inputs = self._inputs(batch, totals, step, steps)
        shown = inputs.shown.detach()
        terms, values = self._terms(inputs, step, steps), self._scheduled(step, steps)
        is_adversarial = "adversarial" in terms
        if is_adversarial:
            gradients = totals if "adversarial_gradient" in totals else self._last_gradients(terms)
            count, term = totals["images"], terms["adversarial"]
            means = (gradients[name] / count for name in ("reconstruction_gradient", "adversarial_gradient"))
            weight = adaptive_weight(*means)
            terms["adversarial"] = term._replace(weight=term.weight * weight)
            values["adaptive_weight"] = weight
        # Against the images without noise, as on held-out pairs.
        terms["psnr"] = Term(psnr(shown, batch.images.to(self.device)).clamp(max=MOST_PSNR).sum(), "images", 0.0)
        quantized = inputs.quantized
        latents = None if self._codebook is None else quantized.latents.detach()
        real_and_shown = (inputs.images, shown) if is_adversarial else None
        return StageLoss(terms, values, Observed(quantized.tokens, latents, real_and_shown))

    def _is_adversarial(self, step: int, steps: int) -> bool:
        return self._adversary is not None and step >= self.config.losses.adversarial_start * steps

    def _inputs(self, batch: ImageBatch, totals: Totals, step: int, steps: int) -> TermInputs:
        images = self._noisy(batch)
        quantizer: Quantizer | None = self._codebook
        if quantizer is None:
            config, temperature = self.config, self._relaxation_temperature(step, steps)
            quantizer = Relaxation(self.model.bottleneck, batch.noise_seeds, config.relaxation, temperature)
        with autocast(self.device, self.config.precision):
            quantized, maps = self.model(images, quantizer)
        reconstructions = self.model.picture(maps)
        inputs = TermInputs(
            images,
            maps,
            reconstructions,
            quantized,
            entropy_temperature=self.config.losses.entropy_temperature,
            code_probabilities=totals["codes"] / totals["images"] if "codes" in totals else None,
            network=self._network,
        )
        if self._adversary is None or not self._is_adversarial(step, steps):
            return inputs
        return replace(inputs, logits=self._adversary.logits(inputs.shown))

    def _noisy(self, batch: ImageBatch) -> Float[Tensor, "batch 3 height width"]:
        images, noise = batch.images.to(self.device, non_blocking=True), self.config.pixel_noise
        if not noise:
            return images
        generator, added = torch.Generator(self.device), torch.empty_like(images)
        for own, seed in zip(added, batch.noise_seeds, strict=True):
            own.uniform_(-noise, noise, generator=generator.manual_seed(derive_seed(seed, "pixels")))
        return images + added

    def _terms(self, inputs: TermInputs, step: int, steps: int) -> dict[str, Term]:
        """Return the terms; the adversarial one without its adaptive weight."""
        losses = self.config.losses
        weights: dict[str, float] = {name: getattr(losses, name) for name in LOSS_TERMS}
        computed = {name: TERMS[name](inputs) for name, weight in weights.items() if weight}
        weights["kl"] = divergence_weight(self._kl(step, steps), down_factor=self.model.down_factor)
        return {
            name: Term(values.sum(), "images", weights[name]) for name, values in computed.items() if values is not None
        }

    def _last_gradients(self, terms: Mapping[str, Term]) -> dict[str, Tensor]:
        """Return the gradients at the decoder's last layer, of the other terms and of the adversarial one; sums."""
        others = torch.stack([term.weight * term.sum for name, term in terms.items() if name != "adversarial"]).sum()
        sums = {"reconstruction_gradient": others, "adversarial_gradient": terms["adversarial"].sum}
        layer = self.model.decoder.output.weight
        return {name: torch.autograd.grad(total, layer, retain_graph=True)[0] for name, total in sums.items()}

    def _kl(self, step: int, steps: int) -> float:
        """Return β, in the paper's unit."""
        losses = self.config.losses
        return cosine_schedule(step, start=0.0, end=losses.kl, steps=round(losses.kl_steps * steps))

    def _relaxation_temperature(self, step: int, steps: int) -> float:
        until = round(self.config.relaxation_steps * steps)
        return cosine_schedule(step, start=1.0, end=self.config.final_relaxation_temperature, steps=until)

    def _scheduled(self, step: int, steps: int) -> dict[str, float | Tensor]:
        values: dict[str, float | Tensor] = {}
        if self.config.relaxation in ("gumbel", "straight_through"):
            values["relaxation_temperature"] = self._relaxation_temperature(step, steps)
        if self.config.losses.kl and self._codebook is None:
            values["kl_weight"] = self._kl(step, steps)
        return values

    def after_update(self, observed: Sequence[Observed], step: int, steps: int) -> UpdateEffects:
        """Count the codes, move the codebook or replace dead codes, and train the discriminator."""
        config, metrics, replaced = self.config, dict[str, Tensor](), dict[str, Tensor]()
        tokens = torch.cat([part.tokens for part in observed])
        self._counts.add(tokens)
        if self._codebook is not None:
            latents = torch.cat([part.latents for part in observed if part.latents is not None])
            seed = derive_seed(self._seed, self.name, "codes", step)
            replaced["codebook"] = self._codebook.learn(latents, tokens, seed=seed)
        elif config.revive_below and step < REVIVED_UNTIL * steps and (counts := self._counts.window()) is not None:
            seed = derive_seed(self._seed, self.name, step)
            replaced = revive(self.model.bottleneck, counts, below=config.revive_below, seed=seed)
        if self._adversary is not None and self._is_adversarial(step, steps):
            pairs = [part.real_and_shown for part in observed if part.real_and_shown is not None]
            metrics = self._adversary.learn(pairs, step, steps)
        return UpdateEffects(metrics, {f"bottleneck.{name}": rows for name, rows in replaced.items()})

    def extra_state(self) -> dict[str, Tensor]:
        states = [with_prefix(f"{part}.", owner.state_dict()) for part, owner in self._owners().items()]
        return {name: tensor for state in states for name, tensor in state.items()}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        for part, owner in self._owners().items():
            owner.load_state_dict(without_prefix(f"{part}.", state))

    def _owners(self) -> dict[str, CodeCounts | MovingCodebook | Adversary]:
        """Return what has a state that a checkpoint holds."""
        owners = {"counts": self._counts, "codebook": self._codebook, "adversary": self._adversary}
        return {part: owner for part, owner in owners.items() if owner is not None}

    def validate(self) -> dict[str, float]:
        """Measure reconstructions of held-out images, PSNR in dB and SSIM, and the use of codes in an epoch."""
        reconstructions = self._reconstruct(self._validation)
        measured = {"validation_psnr": float(psnr(reconstructions, self._validation).mean()), **self._counts.measured()}
        if min(reconstructions.shape[-2:]) >= WINDOW_SIZE:
            measured["validation_ssim"] = float(ssim(reconstructions, self._validation).mean())
        return measured

    def sample(self) -> Image.Image:
        originals = self._validation[:SHOWN]
        labels = ["original"] * len(originals) + ["reconstruction"] * len(originals)
        images = to_pillow(torch.cat([originals, self._reconstruct(originals)]))
        return contact_sheet(images, labels, len(originals), label_lines=1)

    def _reconstruct(self, images: Tensor) -> Tensor:
        """Return reconstructions on the CPU, computed as in training."""
        with autocast(self.device, self.config.precision):
            return torch.cat([self.model.reconstruct(part.to(self.device)).cpu() for part in torch.split(images, 64)])


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
