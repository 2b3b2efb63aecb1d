"""A picture is drawn again from what its PNG says."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.shapes import draw_shape
from trencadis.cli import main
from trencadis.drawn import Drawn
from trencadis.errors import ConfigError
from trencadis.pipeline import DALLE


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> DALLE:
    return DALLE.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def drawn(model: DALLE) -> Drawn:
    return model.generate("a red circle", candidates=1, seed=3)


@pytest.fixture
def picture(drawn: Drawn, tmp_path: Path) -> Path:
    (path,) = drawn.save(tmp_path / "drawn")
    return path


@pytest.fixture
def loaded_once(model: DALLE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DALLE, "from_pretrained", lambda *_, **__: model)


def verify(capsys: pytest.CaptureFixture[str], code: int, model: Path | str, *paths: Path) -> list[dict[str, Any]]:
    assert main(["verify", *map(str, paths), "--model", str(model), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["verified"] == (code == 0)
    pictures: list[dict[str, Any]] = found["pictures"]
    return pictures


def rewrite(path: Path, picture: Image.Image, **changes: Any) -> None:
    """Write a picture with its record changed."""
    with Image.open(path) as original:
        record = json.loads(original.info["trencadis"])
    chunks = PngInfo()
    chunks.add_itxt("trencadis", json.dumps(record | changes))
    picture.save(path, pnginfo=chunks)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights": "bfloat16"},
        {"weights": "int8"},
        {"guidance_scale": 4.0, "guidance_schedule": "cosine", "negative_prompt": "a blue square"},
        {"decoder": "jacobi", "jacobi_window": 5, "temperature": 1.7, "top_k": 9, "top_p": 0.95},
        {"keep_rows": 1},
        {"mask": True},
        {"kept_tokens": 6},
        {"kept_tokens": 7, "decoder": "jacobi"},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_picture_drawn_among_others_is_verified(
    options: dict[str, Any], model: DALLE, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = draw_shape(3, 32)[0], Image.new("L", (32, 32), 0)
    mask.paste(255, (8, 8, 24, 32))
    image_prompt = {"image": image} if options.keys() & {"keep_rows", "mask"} else {}
    options = {**options, **image_prompt, **({"mask": mask} if "mask" in options else {})}
    if "kept_tokens" in options:
        options["image_tokens"] = [[1, 2, 3, 4]] * 4
    try:
        drawn = model.generate("a red circle", candidates=5, keep=2, seed=11, **options)
    except (ConfigError, RuntimeError) as error:
        if "weights" not in options:
            raise
        pytest.skip(f"this processor has no products for them: {error}")
    found = verify(capsys, 0, tiny_model, *drawn.save(tmp_path))
    assert [(row["verified"], row["different_pixels"], row["same_model"]) for row in found] == [(True, 0, True)] * 2


def test_changed_pixels_are_counted(picture: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(picture) as original:
        changed = original.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    changed.putpixel((9, 9), (3, 2, 1))
    rewrite(picture, changed)
    (row,) = verify(capsys, 1, tiny_model, picture)
    assert (row["different_pixels"], row["pixels"], row["same_model"]) == (2, 256, True)
    assert main(["verify", str(picture), "--model", str(tiny_model)]) == 1
    assert "differs in 2 of 256 pixels; the model is the same" in capsys.readouterr().out
    rewrite(picture, changed.resize((8, 8)))
    assert verify(capsys, 1, tiny_model, picture)[0]["different_pixels"] == 256


@pytest.mark.parametrize("change", [{"prompt": "a blue square"}, {"seed": 4}, {"temperature": 5.0}])
def test_a_changed_record_is_found_out(
    change: dict[str, Any], picture: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(picture) as original:
        rewrite(picture, original.copy(), **change)
    verify(capsys, 1, tiny_model, picture)


def test_another_model_is_found_out(
    picture: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = DALLE.from_pretrained(tiny_model)
    with torch.no_grad():
        other.transformer.image_head.weight.mul_(-1)
    other.save_pretrained(tmp_path / "other")
    (row,) = verify(capsys, 1, tmp_path / "other", picture)
    assert row["same_model"] is False
    assert main(["verify", str(picture), "--model", str(tmp_path / "other")]) == 1
    assert "the model is another" in capsys.readouterr().out


@pytest.mark.usefixtures("without_type_checks")
def test_a_picture_of_a_shipped_model_needs_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = DALLE.from_pretrained("emoji")
    shipped.ranker = None
    (path,) = shipped.generate("a red heart", candidates=1, seed=1).save(tmp_path)
    assert main(["verify", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}   verified: drawn again, every pixel is the same\n"


DAMAGED = [
    {"prompt": 3},
    {"prompt": "a" * 5000},
    {"seed": -1},
    {"seed": 10**30},
    {"temperature": "hot"},
    {"temperature": 0},
    {"top_k": [1]},
    {"weights": "float4"},
    {"decoder": "parallel"},
    {"image": 5},
    {"image": {"sha256": "", "kept_tokens": [[0, [10**9]]]}},
    {"image": {"sha256": "", "kept_tokens": [[10**12, [1]]]}},
    {"image": {"sha256": "", "kept_tokens": [[-1, [1]]]}},
    {"image": {"sha256": "", "kept_tokens": [[0, [-1]]]}},
    {"image": {"sha256": "", "kept_tokens": "all"}},
    {"image": {"sha256": "", "kept_tokens": [[0]]}},
    {"image": {"sha256": "", "kept_tokens": [[0, 1]]}},
    {"image": {"sha256": 5, "kept_tokens": [[0, [1]]]}},
    {"image": {"sha256": ""}},
    {"image": {"class_path": "antigravity.Anything"}},
    {"temperature": {"class_path": "antigravity.Anything"}},
    {"negative_prompt": "a ring", "guidance_scale": 1.0},
]


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("change", DAMAGED, ids=str)
def test_a_damaged_record_is_one_line(
    change: dict[str, Any], picture: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(picture) as original:
        rewrite(picture, original.copy(), **change)
    assert main(["verify", str(picture), "--model", str(tiny_model)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert "bug" not in printed.err
    assert "antigravity" not in sys.modules


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize(
    "text", [None, "", "no json", "[]", "{}", "[" * 100_000, '{"seed": 1}'], ids=lambda t: str(t)[:9]
)
def test_a_picture_without_a_record_is_one_line(
    text: str | None, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chunks = PngInfo()
    if text is not None:
        chunks.add_itxt("trencadis", text)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", pnginfo=chunks)
    assert main(["verify", str(tmp_path / "a.png"), "--model", str(tiny_model)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert "a.png" in printed.err
    assert "bug" not in printed.err


def test_a_picture_names_a_model_and_causes_no_download(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trencadis import pretrained

    def download(repo_id: str, *, local_files_only: bool, **_: object) -> str:
        assert local_files_only
        raise OSError("not in the cache")

    monkeypatch.setattr(pretrained, "snapshot_download", download)
    for name in ("nosuch", "owner/name"):
        with Image.open(picture) as original:
            rewrite(picture, original.copy(), model=name)
        assert main(["verify", str(picture)]) == 2
        assert f"a picture names the model '{name}'" in capsys.readouterr().err
