from typing import Any

import pytest

from trencadis.config import DataConfig, FilterConfig
from trencadis.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({"min_caption_chars": -1}, "min_caption_chars -1"),
        ({"min_aspect_ratio": 0.0}, "min_aspect_ratio 0"),
        ({"max_aspect_ratio": float("nan")}, "max_aspect_ratio nan"),
        ({"min_image_side": 0}, "min_image_side 0"),
        ({"max_image_pixels": 0}, "max_image_pixels 0"),
        ({"min_aspect_ratio": 3.0}, "min_aspect_ratio 3.0 and max_aspect_ratio 2.0"),
    ],
)
def test_a_filter_out_of_its_range_is_refused(settings: dict[str, Any], given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FilterConfig(**settings)
    assert caught.value.given.startswith(given)


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.5])
def test_a_share_that_cannot_be_held_out_is_refused(held_out: float) -> None:
    with pytest.raises(ConfigError, match="held_out"):
        DataConfig(held_out=held_out)
