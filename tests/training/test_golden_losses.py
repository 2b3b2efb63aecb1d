"""The first ten losses of each recipe: a change that is meant to keep the arithmetic keeps these.

A change that moves them on purpose writes them again, by `python -m tests.training.test_golden_losses`, and says why.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.shapes import draw_shape, write_shapes
from trencadis.config import DataConfig
from trencadis.data.pixels import to_tensor
from trencadis.image import DiscreteVAE
from trencadis.recipes import RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.text import CaptionTokenizer
from trencadis.training.clip import RankerBatch, RankerTraining
from trencadis.training.image import ImageBatch, ImageTraining
from trencadis.training.known_pairs import read_pairs
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import CaptionDraws
from trencadis.training.trainer import Trainer
from trencadis.training.transformer import StreamBatch, TransformerTraining

TABLE = Path(__file__).with_name("golden_losses.json")
STEPS, BATCH = 10, 32
CPU = torch.device("cpu")
CASES = (
    *(("image", recipe) for recipe in ("tiny", "tiny-strided", "tiny-ibq", "tiny-vqvae", "tiny-vqgan")),
    *(("transformer", recipe) for recipe in ("tiny", "tiny-paper")),
    ("ranker", "tiny"),
)


@pytest.fixture(scope="module")
def pairs(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPairs:
    return read_pairs(DataConfig(path=str(shapes)), 0, RunDirectory(tmp_path_factory.mktemp("pairs")))


def drawings(step: int) -> tuple[Tensor, list[list[int]]]:
    """Return a step's pictures, and their captions' bytes for tokens; neither depends on crops or tokenizers."""
    drawn = [draw_shape(step * BATCH + index, 16) for index in range(BATCH)]
    return torch.stack([to_tensor(image) for image, _ in drawn]), [list(caption.encode()) for _, caption in drawn]


def captions() -> CaptionDraws:
    tokenizer = CaptionTokenizer.train(["a pair"], vocab_size=256)
    return CaptionDraws(tokenizer, text_len=16, dropout=0.0, caption_dropout=0.0, seed=0)


def image_losses(recipe: str, pairs: RunPairs) -> Iterator[float]:
    stage = ImageTraining(RECIPES[recipe]().image, pairs, DataConfig(), seed=0, device=CPU)
    trainer = Trainer(stage, STEPS)
    for step in range(STEPS):
        seeds = tuple(range(step * BATCH, step * BATCH + BATCH))
        yield float(trainer.update([ImageBatch(drawings(step)[0], seeds)])["loss"])


def transformer_losses(recipe: str, pairs: RunPairs) -> Iterator[float]:
    config = RECIPES[recipe]()
    model = config.transformer_model()
    grid = model.grid_size
    tokens = torch.zeros(1, len(pairs.train), *grid, dtype=torch.int32)
    held_out = torch.zeros(len(pairs.validation), *grid, dtype=torch.int32)
    vae = DiscreteVAE(config.image.model)
    stage = TransformerTraining(config.transformer, model, pairs, captions(), tokens, held_out, vae, seed=0, device=CPU)
    trainer = Trainer(stage, STEPS)
    for step in range(STEPS):
        images, texts = drawings(step)
        codes = (images[:, 0, ::4, ::4] * 31).round().long()
        # Captions of 0..16 tokens.
        text_tokens = stage.model.stream.pad_captions([text[: index % 17] for index, text in enumerate(texts)])
        yield float(trainer.update([StreamBatch(text_tokens, codes)])["loss"])


def ranker_losses(recipe: str, pairs: RunPairs) -> Iterator[float]:
    config = RECIPES[recipe]()
    stage = RankerTraining(config.ranker, config.ranker_model(), pairs, DataConfig(), captions(), seed=0, device=CPU)
    trainer = Trainer(stage, STEPS)
    for step in range(STEPS):
        images, texts = drawings(step)
        yield float(trainer.update([RankerBatch(images, stage.model.pad(texts).cpu())])["loss"])


LOSSES = {"image": image_losses, "transformer": transformer_losses, "ranker": ranker_losses}


@pytest.mark.parametrize(("stage", "recipe"), CASES)
def test_the_first_losses_are_those_of_the_table(stage: str, recipe: str, pairs: RunPairs) -> None:
    expected = json.loads(TABLE.read_text())[f"{stage} {recipe}"]
    assert list(LOSSES[stage](recipe, pairs)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = write_shapes(Path(folder) / "shapes", 60, side=32)
        of_run = read_pairs(DataConfig(path=str(source)), 0, RunDirectory(Path(folder)))
        table = {f"{stage} {recipe}": list(LOSSES[stage](recipe, of_run)) for stage, recipe in CASES}
    rows = [f'  "{name}": {json.dumps([float(f"{loss:.7g}") for loss in losses])}' for name, losses in table.items()]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
