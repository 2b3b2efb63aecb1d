"""Pictures to a grid of image tokens and back."""

from trencadis.image.dvae import DiscreteVAE, DVAELoss

__all__ = ["DVAELoss", "DiscreteVAE"]
