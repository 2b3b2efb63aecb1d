"""`trencadis reconstruct`, with a tokenizer whose pictures can be told beforehand, and with a trained one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from einops import reduce, repeat
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from tests.shapes import draw_shape
from trencadis.cli import main
from trencadis.data.files import PICTURE_SUFFIXES

NAMES = ("b.png", "a.jpg", "c.webp")


class Greys:
    """A token is the mean grey of four by four pixels, at 256 levels."""

    image_size = drawn_size = (16, 24)
    grid_size = (4, 6)
    image_vocab_size = 256
    down_factor = 4

    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Int[Tensor, "batch rows columns"]:
        greys = reduce(images, "batch 3 (rows h) (columns w) -> batch rows columns", "mean", h=4, w=4)
        return (255 * greys).round().long()

    def decode(self, image_tokens: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        return repeat(image_tokens / 255, "batch rows columns -> batch 3 (rows h) (columns w)", h=4, w=4)


@pytest.fixture
def greys(monkeypatch: pytest.MonkeyPatch) -> None:
    # What takes the loader's name when it is imported must have done so before: it would keep the one of this test.
    import trencadis.model_directory  # noqa: F401

    monkeypatch.setattr("trencadis.image.loading.load_image_tokenizer", lambda directory: Greys())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder of three pictures, each of one colour, and what is none of its pictures."""
    folder = tmp_path / "pictures"
    (folder / "deeper.png").mkdir(parents=True)
    for name, colour in zip(NAMES, ("red", "#808080", "white"), strict=True):
        Image.new("RGB", (24, 16), colour).save(folder / name)
    for name in (".hidden.png", "notes.txt", "deeper.png/.hidden.png"):
        (folder / name).write_bytes((folder / "b.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["reconstruct", *arguments, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    return answer


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["reconstruct", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert not Path("reconstructed.png").exists()
    return printed.err


@pytest.mark.usefixtures("desk", "greys")
def test_the_sheet_has_originals_reconstructions_and_differences(capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "pictures/b.png")
    with Image.open("reconstructed.png") as sheet:
        middles = [sheet.getpixel((8 + 64, 8 + 42 + row * (85 + 2 * 15 + 8))) for row in range(3)]
    # Red's mean is a grey of 85, which is 170 from red and 85 from green; four times that is beyond what can be shown.
    assert middles == [(255, 0, 0), (85, 85, 85), (255, 255, 255)]
    Image.new("RGB", (24, 16), (100, 90, 80)).save("near.png")
    told(capsys, "near.png")
    with Image.open("reconstructed.png") as sheet:
        assert sheet.getpixel((8 + 64, 8 + 42 + 2 * (85 + 2 * 15 + 8))) == (40, 0, 40)


@pytest.mark.usefixtures("desk", "greys")
def test_figures_are_those_of_the_pictures_and_their_means(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)
    for name, picture in zip("xy", pixels, strict=True):
        Image.fromarray(picture).save(f"{name}.png")
    answer = told(capsys, "x.png", "y.png", "pictures/c.webp")
    means = pixels.reshape(2, 4, 4, 6, 4, 3).mean((2, 4, 5)).round()
    assert [row["tokens"] for row in answer["pictures"][:2]] == means.tolist()
    errors = (pixels - means.repeat(4, 1).repeat(4, 2)[..., None]) / 255
    expected = [-10 * np.log10((error**2).mean()) for error in errors]
    assert [row["psnr"] for row in answer["pictures"]] == [*map(pytest.approx, expected), None]
    assert [row["exact"] for row in answer["pictures"]] == [False, False, True]
    assert answer["pictures"][2]["ssim"] == pytest.approx(1)
    assert answer["mean"]["psnr"] == pytest.approx(np.mean(expected))
    assert answer["mean"]["ssim"] == pytest.approx(np.mean([row["ssim"] for row in answer["pictures"]]))


@pytest.mark.usefixtures("desk", "greys")
def test_what_is_printed_tells_exact_ones_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", "pictures/b.png", "pictures/c.webp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pictures/b.png   PSNR 6.53 dB   SSIM ")
    assert lines[1] == "pictures/c.webp   PSNR exact   SSIM 1.000"
    assert lines[2].startswith("mean of 2 (PSNR without the 1 that are exact)   PSNR 6.53 dB   SSIM ")
    assert lines[3:] == ["reconstructed.png   from the top: originals, reconstructions, and differences times 4"]
    assert main(["reconstruct", "pictures/c.webp", "pictures/c.webp"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "mean of 2   PSNR exact   SSIM 1.000"


@pytest.mark.usefixtures("desk", "greys")
def test_a_folder_is_its_pictures_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [row["path"] for row in told(capsys, "pictures", "pictures/b.png")["pictures"]]
    assert paths == [*(f"pictures/{name}" for name in sorted(NAMES)), "pictures/b.png"]


@pytest.mark.usefixtures("greys")
def test_many_pictures_go_on_in_bands_of_eight(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "many").mkdir()
    for number in range(11):
        Image.new("L", (24, 16), 20 * number).save(desk / "many" / f"{number:02d}.png")
    assert len(told(capsys, "many")["pictures"]) == 11
    with Image.open("reconstructed.png") as sheet:
        assert sheet.size == (8 * 136 + 8, 2 * (3 * 123 + 8) + 12)
        second = 3 * 123 + 8 + 12 + 8 + 42
        # Beside the eleventh the band is empty.
        assert [sheet.getpixel((72 + 136 * column, second)) for column in (0, 2, 3)] == [
            (160,) * 3, (200,) * 3, (255,) * 3,
        ]  # fmt: skip


@pytest.mark.usefixtures("desk", "greys")
def test_another_size_is_encoded_at_that_size(capsys: pytest.CaptureFixture[str]) -> None:
    answer = told(capsys, "pictures/b.png", "--image-size", "40", "8")
    assert answer["image_size"] == [40, 8]
    assert np.shape(answer["pictures"][0]["tokens"]) == (10, 2)
    assert answer["pictures"][0]["ssim"] is None, "the window of 11 pixels does not fit into 8"
    assert answer["mean"]["ssim"] is None


@pytest.mark.usefixtures("desk", "greys")
def test_faults_say_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "pictures/b.png", "--image-size", "17", "24")
    assert "--image-size 17 24; expected multiples of 4" in said
    assert said.endswith("give 16 24\n")
    assert "a whole number in 1..4096" in refused(capsys, "pictures/b.png", "--image-size", "0", "24")
    assert f"no picture ({', '.join(PICTURE_SUFFIXES)}) in pictures/deeper.png" in refused(
        capsys, "pictures/deeper.png"
    )
    assert "IMAGE absent; expected a picture or a folder" in refused(capsys, "pictures", "absent")
    assert "not a picture in a format that is read" in refused(capsys, "pictures/b.png", __file__)


def test_a_model_and_its_tokenizer_alone_do_the_same(
    desk: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_shape(3, 32)[0].save("shape.png")
    whole, part = (told(capsys, "shape.png", "--model", str(path)) for path in (tiny_model, tiny_model / "image"))
    assert whole == part
    tokens = torch.tensor(
        told(capsys, "shape.png", "--model", str(tiny_model), "--image-size", "24", "32")["pictures"][0]["tokens"]
    )
    assert tokens.shape == (6, 8)
