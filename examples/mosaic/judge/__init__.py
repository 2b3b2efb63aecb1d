"""The judge: a program without a network that reads a picture back into its scene graph."""

from mosaic.judge.read import read

__all__ = ["read"]
