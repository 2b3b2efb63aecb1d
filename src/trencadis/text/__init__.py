"""Captions to text tokens and back, by byte-pair encoding."""

from trencadis.text.tokenizer import CaptionCutWarning, CaptionTokenizer, normalize

__all__ = ["CaptionCutWarning", "CaptionTokenizer", "normalize"]
