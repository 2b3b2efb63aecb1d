import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trencadis.errors import PictureError
from trencadis.image.metrics import code_perplexity, code_use, count_codes, psnr, ssim


def _pair(seed: int, noise: float, size: tuple[int, int] = (17, 14)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    original = torch.rand(2, 3, *size, generator=generator)
    original = torch.nn.functional.avg_pool2d(original, 3, 1, 1)
    image = (original + noise * torch.randn(original.shape, generator=generator)).clamp(0, 1)
    return image, original


def _reference_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, one window at a time, with weighted moments about the mean."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            above = (2 * mean_a * mean_b + 0.0001) * (2 * covariance + 0.0009)
            values.append(above / ((mean_a**2 + mean_b**2 + 0.0001) * (var_a + var_b + 0.0009)))
    return float(np.mean(values))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.5])
def test_ssim_is_the_published_formula(noise: float) -> None:
    image, original = _pair(0, noise)
    planes = image.double().numpy(), original.double().numpy()
    for index, value in enumerate(ssim(image, original)):
        expected = np.mean([_reference_ssim(planes[0][index, c], planes[1][index, c]) for c in range(3)])
        assert float(value) == pytest.approx(float(expected), abs=1e-6)


def test_ssim_at_its_ends() -> None:
    _, original = _pair(1, 0.0)
    torch.testing.assert_close(ssim(original, original), torch.ones(2))
    flat = torch.full((1, 3, 11, 11), 0.25)
    torch.testing.assert_close(ssim(flat, flat), torch.ones(1))
    assert (ssim(1 - original, original) < 0).all()


def test_ssim_needs_a_whole_window() -> None:
    with pytest.raises(PictureError, match="10×20 pixels; expected 11 pixels or more"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))


def test_psnr() -> None:
    originals = torch.full((3, 3, 4, 4), 0.5)
    images = originals + torch.tensor([0.1, 0.01, 0.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(psnr(images, originals), torch.tensor([20.0, 40.0, math.inf]), atol=1e-3, rtol=0)


def test_each_picture_is_measured_alone() -> None:
    image, original = _pair(2, 0.1)
    for measure in (psnr, ssim):
        alone = torch.cat([measure(image[i : i + 1], original[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(measure(image, original), alone)


def test_codes_are_counted() -> None:
    tokens = torch.tensor([[[0, 2], [2, 5]]])
    counts = count_codes(tokens, image_vocab_size=8)
    assert counts.tolist() == [1, 0, 2, 0, 0, 1, 0, 0]
    assert code_use(counts) == 3 / 8
    assert code_perplexity(counts) == pytest.approx(2 ** (0.5 * 1 + 0.25 * 2 * 2))


def test_perplexity_at_its_ends() -> None:
    assert code_perplexity(torch.tensor([0, 7, 0])) == pytest.approx(1)
    assert code_perplexity(torch.full((8192,), 3)) == pytest.approx(8192)
    assert code_perplexity(torch.zeros(4, dtype=torch.long)) == 0
