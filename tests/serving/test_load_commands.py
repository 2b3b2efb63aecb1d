"""The commands of `benchmarks.serving`, in forms that are shorter still."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import MEASUREMENTS
from tests.serving.conftest import save_model

pytestmark = pytest.mark.slow
OF_TIME = ("/health took", "went on for more")  # what a busy machine may cause


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose pictures take some tenths of a second under load."""
    return save_model(tmp_path_factory.mktemp("models") / "middle", grid=8, layers=2)


@pytest.mark.parametrize(
    ("what", "numbers", "figure"),
    [
        ("crowd", (80, 2.0), "80 clients"),
        ("malformed", (60,), "60 malformed requests"),
        ("disconnects", (3,), "3 clients left"),
        ("stops", (1,), "1 times SIGTERM"),
    ],
)
def test_a_short_form_finds_no_fault(model: Path, what: str, numbers: tuple[Any, ...], figure: str) -> None:
    figures, faults = MEASUREMENTS[what].measure(["--model", str(model), "--threads", "1"], *numbers)
    assert figure in figures
    assert not [fault for fault in faults if not any(part in fault for part in OF_TIME)]
