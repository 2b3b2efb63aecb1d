"""Shapes and types of every public signature are checked while the tests run."""

import os

# As `trencadis.cli.main` does, for the same reason.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook

# Imported before anything of trencadis, so that every module passes through the hook.
install_import_hook("trencadis", "beartype.beartype")
torch.set_num_threads(1)  # `make test` has a process on each core, and small steps wait for a second thread
settings.register_profile("tests", max_examples=50, deadline=None)
settings.load_profile("tests")

from tests.shapes import write_shapes  # noqa: E402

# A whole run at the sizes of the recipe `tiny`, long enough to leave chance behind and no longer.
TINY_STEPS = {"image": {"steps": 60}, "transformer": {"steps": 24}, "ranker": {"steps": 20, "batch_size": 32}}
TINY_VALIDATIONS = 4


@pytest.fixture(scope="session", autouse=True)
def without_waiting_for_the_disk() -> Iterator[None]:
    """Let `os.fsync` check its descriptor and return: no test can see what a disk keeps after a power cut.

    Tests that count these calls, or make one fail, patch it again. Commands in processes of their own do wait.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture
def without_type_checks() -> Iterator[None]:
    """Leave out the checks of shapes and types, in a test that calls the same functions thousands of times."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Go back to one thread after a test that chose another number."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def one_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate and draw once a stage, in its end."""
    monkeypatch.setattr("trencadis.training.loop.VALIDATIONS", 1)
    monkeypatch.setattr("trencadis.training.timing.VALIDATIONS", 1)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 captioned drawings."""
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", 60, side=32)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Path:
    """The directory of a run that was trained on `shapes` without interruption."""
    from trencadis.training import loop
    from trencadis.training.run import train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    settings = {"data": {"path": str(shapes), "held_out": 0.1}, "threads": 1, **TINY_STEPS}
    config.update("jaxtyping_disable", True)  # shorter runs are checked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "VALIDATIONS", TINY_VALIDATIONS)
        train(out, settings, recipe="tiny")
    config.update("jaxtyping_disable", False)
    return out


@pytest.fixture(scope="session")
def tiny_model(tiny_run: Path) -> Path:
    """The model directory of `tiny_run`."""
    return tiny_run / "model"
