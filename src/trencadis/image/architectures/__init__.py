"""Encoders and decoders of image tokenizers, one file an architecture."""
