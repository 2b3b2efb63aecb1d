"""What a mask marks, whatever it is saved as, and what is said of one that marks nothing or all."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.shapes import draw_shape
from trencadis.data import read_picture
from trencadis.pipeline import DALLE
from trencadis.protocols import ImageTokenizer
from trencadis.sampling import ImagePrompt, ImagePromptWarning, image_prompt

SIDE = 32
RIGHT = torch.tensor([[True, True, False, False]]).expand(4, 4)  # kept tokens where the right half is marked


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ImageTokenizer:
    return DALLE.from_pretrained(tiny_model).image_tokenizer


def prompt_of(
    tokenizer: ImageTokenizer, mask: Image.Image | None, keep_rows: int | None = None, image: Image.Image | None = None
) -> ImagePrompt:
    image = draw_shape(3, SIDE)[0] if image is None else image
    prompt = image_prompt(tokenizer, image, mask=mask, keep_rows=keep_rows, device=torch.device("cpu"))
    assert prompt is not None
    return prompt


def white_on_black() -> Image.Image:
    mask = Image.new("RGB", (SIDE, SIDE), "black")
    mask.paste("white", (SIDE // 2, 0, SIDE, SIDE))
    return mask


def with_alpha(left: int, right: int) -> Image.Image:
    """Return a mask whose left half is white and whose right half is black, with an alpha for each."""
    mask = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, left))
    mask.paste((0, 0, 0, right), (SIDE // 2, 0, SIDE, SIDE))
    return mask


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")] + [("TIFF", "PA"), ("TIFF", "CMYK")],
)
def test_white_is_marked_in_every_opaque_mask(tokenizer: ImageTokenizer, tmp_path: Path, kind: str, mode: str) -> None:
    mask = white_on_black().convert("P").convert("PA") if mode == "PA" else white_on_black().convert(mode)
    mask.save(tmp_path / "mask", kind)
    read = read_picture(tmp_path / "mask", on_white=False)
    assert read.mode in ("L", "LA", "RGB", "RGBA")
    assert torch.equal(prompt_of(tokenizer, read).kept, RIGHT)
    assert torch.equal(prompt_of(tokenizer, mask).kept, RIGHT)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP", "AVIF", "JPEG"])
def test_white_is_marked_in_every_format(tokenizer: ImageTokenizer, tmp_path: Path, kind: str) -> None:
    white_on_black().save(tmp_path / "mask", kind)
    assert torch.equal(prompt_of(tokenizer, read_picture(tmp_path / "mask", on_white=False)).kept, RIGHT)


def test_white_is_marked_in_sixteen_bits(tokenizer: ImageTokenizer, tmp_path: Path) -> None:
    Image.frombytes("I;16", (2, 1), b"\xff\x7f\xff\xff").resize((SIDE, SIDE), Image.Resampling.NEAREST).save(
        tmp_path / "mask.png"
    )
    assert torch.equal(prompt_of(tokenizer, read_picture(tmp_path / "mask.png", on_white=False)).kept, RIGHT)


def test_what_is_transparent_is_marked_and_colours_do_not_count(tokenizer: ImageTokenizer) -> None:
    assert torch.equal(prompt_of(tokenizer, with_alpha(255, 0)).kept, RIGHT)
    assert torch.equal(prompt_of(tokenizer, with_alpha(200, 100)).kept, RIGHT)


def test_an_alpha_that_marks_nothing_does_not_count(tokenizer: ImageTokenizer) -> None:
    assert torch.equal(prompt_of(tokenizer, with_alpha(255, 254)).kept, ~RIGHT)


@pytest.mark.parametrize("mask", [Image.new("L", (SIDE, SIDE), 0), Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))])
def test_a_mask_that_keeps_all_says_so(tokenizer: ImageTokenizer, mask: Image.Image) -> None:
    with pytest.warns(ImagePromptWarning, match="the mask keeps all of the image, so nothing is drawn"):
        assert prompt_of(tokenizer, mask).kept.all()


@pytest.mark.parametrize("mask", [Image.new("L", (SIDE, SIDE), 255), Image.new("RGBA", (SIDE, SIDE))])
def test_a_mask_that_keeps_nothing_says_so(tokenizer: ImageTokenizer, mask: Image.Image) -> None:
    with pytest.warns(ImagePromptWarning, match="the mask keeps nothing of the image, so only the prompt counts"):
        assert not prompt_of(tokenizer, mask).kept.any()


@pytest.mark.parametrize(("rows", "said"), [(0, "keep_rows 0 keeps nothing"), (4, "keep_rows 4 keeps all")])
def test_keep_rows_that_keeps_all_or_nothing_says_so(tokenizer: ImageTokenizer, rows: int, said: str) -> None:
    with pytest.warns(ImagePromptWarning, match=said):
        prompt_of(tokenizer, None, rows)


def test_an_image_is_seen_on_white(tokenizer: ImageTokenizer) -> None:
    clear = Image.new("RGBA", (SIDE, SIDE), (200, 0, 0, 0))
    white = Image.new("RGB", (SIDE, SIDE), "white")
    tokens = [prompt_of(tokenizer, None, 2, image).image_tokens for image in (clear, white)]
    assert torch.equal(*tokens)
