"""What tuning makes a model forget: nothing where nothing is trained, and more the more is."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.training.runs import Start, start_and_kill
from tests.training.test_starting import FEW, others, settings
from trencadis.errors import ConfigError, DataError
from trencadis.pipeline import DALLE
from trencadis.run_directory import RunDirectory
from trencadis.training.forgetting import bits_of, padded
from trencadis.training.run import train

__all__ = ["others"]
pytestmark = pytest.mark.usefixtures("without_type_checks", "one_validation")
CAPTIONS = ("a red circle", "a blue square", "a green triangle")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.txt"
    path.write_text("a red circle\n\na blue square\n a green triangle \na red circle\n")
    return path


def tuned(out: Path, data: Path, model: Path, old: Path, **transformer: Any) -> dict[str, Any]:
    """Return what a run has found out about forgetting."""
    own = settings(data, model, FEW, {"start": {"model": str(model), "old_captions": str(old)}})
    own |= {"ranker": {"steps": 0}, "transformer": {**FEW["transformer"], **transformer}}
    train(out, own)
    found: dict[str, Any] = json.loads((out / "forgetting.json").read_text())
    assert (found["captions"], found["drawings"]) == (3, 12)
    assert tuple(found["gained_by_caption"]) == CAPTIONS
    return found


def test_updates_of_no_length_forget_nothing(tmp_path: Path, others: Path, tiny_model: Path, old: Path) -> None:
    still = {"learning_rate": 0.0, "muon_learning_rate": 0.0}
    found = tuned(tmp_path / "run", others, tiny_model, old, optimizer=still)
    assert found["bits_after"] == found["bits_before"]
    run = RunDirectory(tmp_path / "run")
    with Image.open(run.old_before) as before, Image.open(run.old_after) as after:
        assert before.tobytes() == after.tobytes()


def test_more_training_forgets_more_and_the_report_shows_it(
    tmp_path: Path, others: Path, tiny_model: Path, old: Path
) -> None:
    little = tuned(tmp_path / "little", others, tiny_model, old, lora={"rank": 2})
    much = tuned(tmp_path / "much", others, tiny_model, old, steps=12, optimizer={"learning_rate": 0.05})
    lost = [found["bits_after"] - found["bits_before"] for found in (little, much)]
    assert lost[1] > max(lost[0], 0.05)
    for found in (little, much):
        gained = torch.tensor(list(found["gained_by_caption"].values()))
        assert math.isclose(float(gained.mean()), found["bits_after"] - found["bits_before"], abs_tol=1e-5)
    page = (tmp_path / "much" / "report.html").read_text()
    assert "<h2>Forgetting</h2>" in page
    assert f"{lost[1]:.3f} ±" in page
    assert page.count("a green triangle") >= 1


def test_bits_are_those_of_the_drawings_own_tokens(tiny_model: Path) -> None:
    """Against the logits, token by token."""
    model = DALLE.from_pretrained(tiny_model)
    torch.manual_seed(1)
    grids = torch.randint(model.transformer.config.image_vocab_size, (1, 2, *model.transformer.config.grid_size))
    text = padded(model, CAPTIONS[0]).repeat(2, 1)
    with torch.no_grad():
        logits = model.transformer.logits(text, grids[0]).image.log_softmax(-1)
    expected = -logits.gather(-1, grids[0].flatten(1)[..., None]).mean() / math.log(2)
    torch.testing.assert_close(bits_of(model, CAPTIONS[:1], grids)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_killed_run_finds_the_same(tmp_path: Path, others: Path, tiny_model: Path, old: Path) -> None:
    own = settings(others, tiny_model, FEW, {"start": {"model": str(tiny_model), "old_captions": str(old)}})
    own |= {"ranker": {"steps": 0}}
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    moments = [("plan", "", 1), ("part", "", 1), ("report", "", 1)]
    start_and_kill([Start(unbroken, own), *(Start(killed, own, {}, moment) for moment in moments)])
    old.unlink()
    start_and_kill([Start(killed, own)])
    assert (killed / "forgetting.json").read_bytes() == (unbroken / "forgetting.json").read_bytes()


def test_old_captions_must_be_a_file_with_some(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    path = tmp_path / "old.txt"
    own = settings(others, tiny_model, FEW, {"start": {"model": str(tiny_model), "old_captions": str(path)}})
    with pytest.raises(DataError, match=r"old\.txt cannot be read"):
        train(tmp_path / "run", own)
    path.write_text("\n \n")
    with pytest.raises(DataError, match=r"with 0 different captions; expected a text file with 1\.\.64"):
        train(tmp_path / "run", own)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"start\.old_captions .*expected a start\.model"):
        train(tmp_path / "run", {"data": {"path": str(others)}, "start": {"old_captions": str(path)}}, recipe="tiny")
