"""The second stage: the image tokenizer."""

import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from trencadis.config import DataConfig, ImageStage
from trencadis.data import TOKENIZER_CROPS
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow
from trencadis.image import DiscreteVAE, Quantizer
from trencadis.image.loss_terms import TermInputs, code_probabilities, divergence_weight
from trencadis.randomness import derive_seed
from trencadis.training import processes
from trencadis.training.adversarial import Adversary
from trencadis.training.mixed_precision import autocast
from trencadis.training.optimizer_state import with_prefix, without_prefix
from trencadis.training.picture_terms import PictureTerms, RealAndShown, fidelity, psnr_term
from trencadis.training.quantizers import REVIVED_UNTIL, CodeCounts, MovingCodebook, Relaxation, codebook_of, revive
from trencadis.training.run_pairs import RunPairs
from trencadis.training.schedules import cosine_schedule
from trencadis.training.stage import Criterion, Stage, StageLoss, Totals, UpdateEffects

SHOWN = 8


class ImageBatch(NamedTuple):
    images: Float[Tensor, "batch 3 height width"]
    noise_seeds: tuple[int, ...]  # one an image


class Observed(NamedTuple):
    """What is learnt from after an update: the codes; latents for a moving codebook; images for the discriminator.

    Nothing has a graph.
    """

    tokens: Int[Tensor, "batch rows columns"]
    latents: Float[Tensor, "batch rows columns _"] | None
    real_and_shown: RealAndShown | None


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
        size = config.model.drawn_size
        order = derive_seed(seed, self.name)
        rule = replace(TOKENIZER_CROPS, mirror=data.flip)
        self._batches = pairs.batches(size, data, batch_size=config.batch_size, seed=order, rule=rule)
        self._validation = pairs.middle_crops(pairs.validation, size, data)
        self._counts = CodeCounts(config.model.image_vocab_size, len(pairs.train) * config.model.image_len, device)
        self._codebook = codebook_of(self.model.bottleneck, config)
        seed = derive_seed(seed, self.name, "discriminator")
        self._terms = PictureTerms(config.losses, config.optimizer, seed=seed, device=device)

    @property
    def criterion(self) -> Criterion | None:
        """Return PSNR; None where a perceptual or an adversarial term gives some of it up for sharper pictures."""
        losses = self.config.losses
        return None if losses.perceptual or losses.adversarial else Criterion("validation_psnr", is_higher_better=True)

    def batches(self, from_step: int, to_step: int) -> Generator[list[ImageBatch], None, None]:
        pinned, share = self.device.type == "cuda", processes.share(self.config.batch_size)
        own = range(share.start, share.stop)
        for step, batch in enumerate(self._batches.iterate(from_step, to_step, pinned=pinned), from_step):
            seeds = (derive_seed(self._seed, self.name, "noise", step, index) for index in own)
            parts = batch.images.tensor_split(processes.microbatches(self.config.microbatches))
            yield [ImageBatch(images, tuple(itertools.islice(seeds, len(images)))) for images in parts]

    def totals(self, batch: ImageBatch, step: int, steps: int, *, is_whole: bool) -> dict[str, Tensor]:
        """Return the number of images, and for a part of an update what its terms need to know of the other parts.

        That is the sum of the codes' probabilities, for the entropy term, and the sums of the gradients at the
        decoder's last layer, for the weight of the adversarial term. They take a forward pass of their own.
        """
        totals = {"images": torch.tensor(len(batch.images))}
        has_entropy = bool(self.config.losses.entropy) and self._codebook is None
        is_adversarial = self._terms.is_adversarial(step, steps)
        if is_whole or not (has_entropy or is_adversarial):
            return totals
        with torch.set_grad_enabled(is_adversarial):
            inputs = self._inputs(batch, totals, step, steps)
            if has_entropy:
                logits, temperature = inputs.quantized.logits, inputs.entropy_temperature
                assert logits is not None
                totals["codes"] = code_probabilities(logits.detach(), entropy_temperature=temperature)
            if is_adversarial:
                terms = self._terms.terms(inputs, kl=self._kl_weight(step, steps))
                totals |= self._terms.last_gradients(terms, self.model.decoder.output.weight)
        return totals

    def loss(self, batch: ImageBatch, totals: Totals, step: int, steps: int) -> StageLoss:
        """Return the terms that have a weight, by the names of `ImageLossConfig`, and `psnr` in dB."""
        inputs = self._inputs(batch, totals, step, steps)
        shown = inputs.shown.detach()
        terms, values = self._terms.terms(inputs, kl=self._kl_weight(step, steps)), self._scheduled(step, steps)
        values |= self._terms.balance(terms, totals, self.model.decoder.output.weight)
        # Against the images without noise, as on held-out pairs.
        terms["psnr"] = psnr_term(shown, batch.images.to(self.device))
        quantized = inputs.quantized
        latents = None if self._codebook is None else quantized.latents.detach()
        real_and_shown = (inputs.images, shown) if "adversarial" in terms else None
        return StageLoss(terms, values, Observed(quantized.tokens, latents, real_and_shown))

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
        )
        return self._terms.with_networks(inputs, step, steps)

    def _noisy(self, batch: ImageBatch) -> Float[Tensor, "batch 3 height width"]:
        images, noise = batch.images.to(self.device, non_blocking=True), self.config.pixel_noise
        if not noise:
            return images
        generator, added = torch.Generator(self.device), torch.empty_like(images)
        for own, seed in zip(added, batch.noise_seeds, strict=True):
            own.uniform_(-noise, noise, generator=generator.manual_seed(derive_seed(seed, "pixels")))
        return images + added

    def _kl(self, step: int, steps: int) -> float:
        """Return β, in the paper's unit."""
        losses = self.config.losses
        return cosine_schedule(step, start=0.0, end=losses.kl, steps=round(losses.kl_steps * steps))

    def _kl_weight(self, step: int, steps: int) -> float:
        return divergence_weight(self._kl(step, steps), down_factor=self.model.down_factor)

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
        """Count the codes, move the codebook or replace dead codes, and train the discriminator.

        Every process has the codes of all, and so the same codebook.
        """
        config, replaced = self.config, dict[str, Tensor]()
        tokens = processes.gathered(torch.cat([part.tokens for part in observed]))
        self._counts.add(tokens)
        if self._codebook is not None:
            latents = processes.gathered(torch.cat([part.latents for part in observed if part.latents is not None]))
            seed = derive_seed(self._seed, self.name, "codes", step)
            replaced["codebook"] = self._codebook.learn(latents, tokens, seed=seed)
        elif config.revive_below and step < REVIVED_UNTIL * steps and (counts := self._counts.window()) is not None:
            seed = derive_seed(self._seed, self.name, step)
            replaced = revive(self.model.bottleneck, counts, below=config.revive_below, seed=seed)
        metrics = self._terms.learn([part.real_and_shown for part in observed], step, steps)
        return UpdateEffects(metrics, {f"bottleneck.{name}": rows for name, rows in replaced.items()})

    def extra_state(self) -> dict[str, Tensor]:
        states = [with_prefix(f"{part}.", owner.state_dict()) for part, owner in self._owners().items()]
        return {name: tensor for state in states for name, tensor in state.items()}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        for part, owner in self._owners().items():
            owner.load_state_dict(without_prefix(f"{part}.", state))

    def _owners(self) -> dict[str, CodeCounts | MovingCodebook | Adversary]:
        """Return what has a state that a checkpoint holds."""
        owners = {"counts": self._counts, "codebook": self._codebook, "adversary": self._terms.adversary}
        return {part: owner for part, owner in owners.items() if owner is not None}

    def validate(self) -> dict[str, float]:
        """Measure reconstructions of held-out images, PSNR in dB and SSIM, and the use of codes in an epoch."""
        reconstructions = self._reconstruct(self._validation)
        return {**fidelity(reconstructions, self._validation), **self._counts.measured()}

    def sample(self) -> Image.Image:
        originals = self._validation[:SHOWN]
        labels = ["original"] * len(originals) + ["reconstruction"] * len(originals)
        images = to_pillow(torch.cat([originals, self._reconstruct(originals)]))
        return contact_sheet(images, labels, len(originals), label_lines=1)

    def _reconstruct(self, images: Tensor) -> Tensor:
        """Return reconstructions on the CPU, computed as in training."""
        with autocast(self.device, self.config.precision):
            return torch.cat([self.model.reconstruct(part.to(self.device)).cpu() for part in torch.split(images, 64)])
