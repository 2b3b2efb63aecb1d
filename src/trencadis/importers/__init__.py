"""Imports published checkpoints without executing anything in them."""

from trencadis.importers.checkpoint_files import read_checkpoint
from trencadis.importers.import_checkpoint import KINDS, Imported, import_image_tokenizer
from trencadis.importers.openai_dvae import read_openai_dvae
from trencadis.importers.taming_vqgan import read_taming_vqgan

__all__ = [
    "KINDS",
    "Imported",
    "import_image_tokenizer",
    "read_checkpoint",
    "read_openai_dvae",
    "read_taming_vqgan",
]
