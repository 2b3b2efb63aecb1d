"""The third stage, on request: the image tokenizer's decoder alone. The codes stay as they are."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from trencadis.config import DataConfig, DecoderStage
from trencadis.data import TOKENIZER_CROPS
from trencadis.data.contact_sheet import TILE_SIZE, contact_sheet
from trencadis.data.pixels import to_pillow
from trencadis.image import DiscreteVAE, Quantized
from trencadis.image.loss_terms import TermInputs
from trencadis.image.perceptual import perceptual_loss
from trencadis.randomness import derive_seed
from trencadis.training import processes
from trencadis.training.mixed_precision import autocast
from trencadis.training.picture_terms import PictureTerms, RealAndShown, fidelity, psnr_term
from trencadis.training.run_pairs import RunPairs
from trencadis.training.stage import Stage, StageLoss, Totals, UpdateEffects

Images = Float[Tensor, "batch 3 height width"]
SHOWN = 8
AT_ONCE = 16  # pictures of a validation


class DecoderTraining(Stage[Images]):
    """Trains a decoder on the codes of a finished image tokenizer, with a seed for weights, order and crops.

    Crops have the size of decoded pictures, and the encoder sees them shrunk.

    Args:
        tokenizer: It is not changed. `self.tokenizer` has its encoder and codes, and the decoder that is trained.

    Raises:
        ModelError: The perceptual network cannot be loaded.
    """

    name = "decoder"
    config: DecoderStage
    model: nn.Module  # the decoder

    def __init__(
        self,
        config: DecoderStage,
        tokenizer: DiscreteVAE,
        pairs: RunPairs,
        data: DataConfig,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        torch.manual_seed(derive_seed(seed, self.name, "weights"))
        self.config, self.device, self._before = config, device, tokenizer
        self.tokenizer = tokenizer.with_decoder(config.architecture)
        self.model = self.tokenizer.decoder
        size = self.tokenizer.drawn_size
        order, rule = derive_seed(seed, self.name), replace(TOKENIZER_CROPS, mirror=data.flip)
        self._batches = pairs.batches(size, data, batch_size=config.batch_size, seed=order, rule=rule)
        self._validation = pairs.middle_crops(pairs.validation, size, data)
        seed = derive_seed(seed, self.name, "discriminator")
        self._terms = PictureTerms(config.losses, config.optimizer, seed=seed, device=device)

    def batches(self, from_step: int, to_step: int) -> Generator[list[Images], None, None]:
        for batch in self._batches.iterate(from_step, to_step, pinned=self.device.type == "cuda"):
            yield list(batch.images.tensor_split(processes.microbatches(self.config.microbatches)))

    def totals(self, batch: Images, step: int, steps: int, *, is_whole: bool) -> dict[str, Tensor]:
        """Return the number of images, and for a part of an update the gradients at the last layer, where needed."""
        totals = {"images": torch.tensor(len(batch))}
        if is_whole or not self._terms.is_adversarial(step, steps):
            return totals
        with torch.enable_grad():
            terms = self._terms.terms(self._inputs(batch, step, steps))
            return totals | self._terms.last_gradients(terms, self.tokenizer.decoder.output.weight)

    def loss(self, batch: Images, totals: Totals, step: int, steps: int) -> StageLoss:
        """Return the terms that have a weight, by the names of `ImageLossConfig`, and `psnr` in dB."""
        inputs = self._inputs(batch, step, steps)
        shown, terms = inputs.shown.detach(), self._terms.terms(inputs)
        values = self._terms.balance(terms, totals, self.tokenizer.decoder.output.weight)
        terms["psnr"] = psnr_term(shown, inputs.images)
        return StageLoss(terms, values, (inputs.images, shown) if "adversarial" in terms else None)

    def _inputs(self, batch: Images, step: int, steps: int) -> TermInputs:
        images, tokenizer = batch.to(self.device, non_blocking=True), self.tokenizer
        with torch.no_grad():  # in full precision, as the transformer's tokens are made
            tokens = tokenizer.encode(tokenizer.shrunk(images))
            embedded = tokenizer.bottleneck.look_up(tokens)
        with autocast(self.device, self.config.precision):
            maps = tokenizer.draw(embedded)
        quantized = Quantized(embedded, tokens, embedded)
        return self._terms.with_networks(TermInputs(images, maps, tokenizer.picture(maps), quantized), step, steps)

    def after_update(self, observed: Sequence[RealAndShown | None], step: int, steps: int) -> UpdateEffects:
        """Train the discriminator."""
        return UpdateEffects(self._terms.learn(observed, step, steps))

    def extra_state(self) -> dict[str, Tensor]:
        return {} if self._terms.adversary is None else self._terms.adversary.state_dict()

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        if self._terms.adversary is not None:
            self._terms.adversary.load_state_dict(state)

    def validate(self) -> dict[str, float]:
        """Measure reconstructions of held-out images: PSNR in dB, SSIM, and the perceptual distance."""
        reconstructions = self._reconstruct(self.tokenizer, self._validation)
        measured = fidelity(reconstructions, self._validation)
        if (network := self._terms.network) is not None:
            parts = zip(*(torch.split(rows, AT_ONCE) for rows in (reconstructions, self._validation)), strict=True)
            distances = [
                perceptual_loss(network, drawn.to(self.device), images.to(self.device)).cpu() for drawn, images in parts
            ]
            measured["validation_perceptual"] = float(torch.cat(distances).mean())
        return measured

    def sample(self) -> Image.Image:
        """Return held-out pictures, their reconstructions before this stage, and those of today."""
        originals = self._validation[:SHOWN]
        before = self._reconstruct(self._before, originals)
        now = self._reconstruct(self.tokenizer, originals)
        images = [image for row in (originals, before, now) for image in to_pillow(row)]
        labels = [label for label in ("original", "before", "reconstruction") for _ in originals]
        tile_size = max(TILE_SIZE, *self.tokenizer.drawn_size)
        return contact_sheet(images, labels, len(originals), tile_size=tile_size, label_lines=1)

    def _reconstruct(self, tokenizer: DiscreteVAE, images: Images) -> Float[Tensor, "batch 3 _ _"]:
        """Return reconstructions of images of the trained decoder's size, on the CPU, of the tokenizer's own size."""
        parts = (self.tokenizer.shrunk(part.to(self.device)) for part in torch.split(images, AT_ONCE))
        encoded = [tokenizer.encode(part) for part in parts]
        with autocast(self.device, self.config.precision):
            return torch.cat([tokenizer.decode(tokens).cpu() for tokens in encoded])
