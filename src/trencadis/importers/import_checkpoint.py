"""Writes published weights as a model directory, with a model card that names the source files."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trencadis.errors import StorageError
from trencadis.image import DiscreteVAE
from trencadis.importers.openai_dvae import published_files, read_openai_dvae
from trencadis.importers.taming_vqgan import read_taming_vqgan
from trencadis.progress import progress
from trencadis.storage import sha256, whole_directory

KINDS: dict[str, Callable[[Sequence[Path], tuple[int, int]], DiscreteVAE]] = {
    "openai-dvae": read_openai_dvae,
    "taming-vqgan": read_taming_vqgan,
}
_PUBLISHED = {
    "openai-dvae": "the discrete VAE of OpenAI's DALL·E (Ramesh et al. 2021)",
    "taming-vqgan": "a VQ-GAN of taming-transformers (Esser et al. 2021)",
}


@dataclass(frozen=True)
class Imported:
    """What was imported: `files` are name and SHA-256 of each source file, `codes` the kind of `DiscreteVAEConfig`."""

    out: Path
    kind: str
    files: tuple[tuple[str, str], ...]
    image_size: tuple[int, int]
    grid_size: tuple[int, int]
    image_vocab_size: int
    codes: str
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "out": str(self.out)}

    def card(self) -> str:
        """Return Markdown with the hub's metadata."""
        (height, width), (rows, columns) = self.image_size, self.grid_size
        sources = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in self.files)
        return f"""---
library_name: trencadis
---

# An image tokenizer

Imported by `trencadis import {self.kind}`: {_PUBLISHED[self.kind]}. Images of {height}×{width} pixels become
grids of {rows}×{columns} tokens out of {self.image_vocab_size}; {self.parameters / 1e6:.1f} M parameters.
The licence is that of the source files.

| file | SHA-256 |
|---|---|
{sources}
"""


def import_image_tokenizer(kind: str, paths: Sequence[Path], out: Path, image_size: tuple[int, int]) -> Imported:
    """Write published weights as a directory that `load_image_tokenizer` reads, whole or not at all.

    Args:
        kind: One of `KINDS`.
        paths: The published files, or their folder.
        out: Empty, or not there yet.
        image_size: Height and width in pixels of the images that it is meant for.

    Raises:
        ModelError: A file is unsafe, damaged, or of another kind.
        ConfigError: No model has these sizes.
        StorageError: `out` is not empty, or cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise StorageError(f"{out} holds something", expected="an empty folder", remedy="choose another --out")
    with progress("importing", total=3) as advance:
        model = KINDS[kind](paths, image_size)
        advance()
        imported = Imported(
            out=out,
            kind=kind,
            files=tuple((file.name, sha256(file)) for file in published_files(paths)),
            image_size=model.image_size,
            grid_size=model.grid_size,
            image_vocab_size=model.image_vocab_size,
            codes=model.config.codes.kind,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
        )
        advance()
        with whole_directory(out) as directory:
            model.save_pretrained(directory)
            (directory / "README.md").write_text(imported.card(), "utf-8")
        advance()
    return imported
