"""The drawings of the tuning example: 60 captioned pictures, whole or none, without a network; and a run on them."""

import json
import tarfile
from pathlib import Path
from typing import Any

import drawings
import pytest
from packages import BuildError
from PIL import Image

from trencadis.pipeline import DALLE
from trencadis.training.forgetting import MOST_CAPTIONS, read_captions
from trencadis.training.run import train

EXAMPLE = Path(drawings.__file__).parent
SVG = '<path fill="currentColor" d="M4 4h{}v20H4z"/>'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a package that has drawings of all names, and some more."""
    names = [drawings.ICONS.get(name, name) for name in drawings.NAMES]
    icons = {name: {"body": SVG.format(2 + at % 20)} for at, name in enumerate([*names, "cat"])}
    (tmp_path / "icons.json").write_text(json.dumps({"icons": icons, "width": 32, "height": 32}))
    cache = tmp_path / "cache"
    cache.mkdir()
    with tarfile.open(cache / drawings.PACKAGE.tarball, "w:gz") as archive:
        archive.add(tmp_path / "icons.json", "package/icons.json")
    monkeypatch.setattr("packages.integrity", lambda path: drawings.PACKAGE.integrity)
    return cache


def test_sixty_captioned_drawings_in_black(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "data" / "ink"
    assert drawings.main(["--out", str(out), "--cache", str(package)]) == 0
    assert len({*drawings.NAMES}) == 60
    assert {path.name for path in out.iterdir()} == {
        f"{name}{end}" for name in drawings.NAMES for end in (".png", ".txt")
    }
    captions = (out / "envelope.txt").read_text().splitlines()
    assert captions == ["an envelope, ink style", "an envelope in ink style"]
    assert (out / "scissors.txt").read_text().startswith("scissors, ink style\n")
    with Image.open(out / "camel.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (128, 128))
        assert picture.getpixel((0, 0)) == (255, 255, 255)
        assert picture.getpixel((18, 40)) == (0, 0, 0)


def test_a_folder_that_holds_something_is_left_alone(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ink").mkdir()
    (tmp_path / "ink" / "mine.txt").write_text("mine")
    assert drawings.main(["--out", str(tmp_path / "ink"), "--cache", str(package)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "ink").iterdir()] == ["mine.txt"]


def test_a_missing_drawing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="has no drawing airplane"):
        drawings.write(tmp_path / "ink", {})
    assert list(tmp_path.iterdir()) == []


def test_old_captions_are_of_styles_that_the_model_knows() -> None:
    captions = read_captions(str(EXAMPLE / "old.txt"))
    assert 1 < len(captions) <= MOST_CAPTIONS
    assert all(caption.endswith(("3D style", "flat style", "Noto style", "Twemoji style")) for caption in captions)


@pytest.mark.filterwarnings("ignore::trencadis.text.tokenizer.CaptionCutWarning")  # a tiny model has no room for them
def test_the_example_in_two_steps(
    package: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of the README on a tiny model."""
    monkeypatch.setattr("trencadis.training.loop.VALIDATIONS", 1)
    drawings.main(["--out", str(tmp_path / "ink"), "--cache", str(package)])
    settings: dict[str, Any] = {
        "data": {"path": str(tmp_path / "ink")},
        "start": {"model": str(tiny_model), "old_captions": str(EXAMPLE / "old.txt")},
        "transformer": {"steps": 2, "batch_size": 4, "lora": {"rank": 1}},
        "threads": 1,
    }
    train(tmp_path / "run", settings)
    model = DALLE.from_pretrained(tiny_model)
    model.load_adapter(tmp_path / "run" / "adapter", 0.5)
    assert len(model.generate("a cat, ink style", candidates=2, keep=1, ranking="likelihood").images) == 1
    assert json.loads((tmp_path / "run" / "forgetting.json").read_text())["captions"] == 24
