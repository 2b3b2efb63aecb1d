"""Mosaic: a world of captioned pictures in which a program can tell right from wrong."""
