"""Publishing is the hub library's own; what it is given is what `save_pretrained` writes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.hub_mixin
import pytest
import torch
from PIL import Image

from trencadis import CLIP, DALLE, CaptionTokenizer, DiscreteVAE, Transformer, pretrained
from trencadis.cli import main
from trencadis.drawn import Drawn, Record
from trencadis.errors import ModelError
from trencadis.sampling import Sampling


class Hub:
    """Stands in for the hub: keeps what is uploaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, **_: object) -> "Hub":
        return self

    def create_repo(self, repo_id: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, folder_path: Path, **_: object) -> str:
        folder_path.rename(self.folder)
        return "address"


@pytest.mark.parametrize(
    ("kind", "part", "files"),
    [
        (DiscreteVAE, "image", {"config.json", "model.safetensors"}),
        (Transformer, "transformer", {"config.json", "model.safetensors"}),
        (CLIP, "ranker", {"config.json", "model.safetensors"}),
        (CaptionTokenizer, "text", {"tokenizer.json"}),
        (DALLE, ".", {"config.json", "README.md", "text", "image", "transformer", "ranker"}),
    ],
)
def test_what_is_pushed_can_be_loaded_again(
    kind: Any, part: str, files: set[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub(tmp_path / "pushed"))
    assert kind.from_pretrained(tiny_model / part).push_to_hub("somebody/something") == "address"
    assert {path.name for path in (tmp_path / "pushed").iterdir()} == files
    kind.from_pretrained(tmp_path / "pushed")


@pytest.mark.parametrize(("kind", "part"), [(Transformer, "transformer"), (CaptionTokenizer, "text"), (DALLE, ".")])
def test_how_to_read_the_hub_reaches_it_and_nothing_else_is_taken(
    kind: Any, part: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(repo_id: str, **options: Any) -> str:
        asked.update(options, repo_id=repo_id)
        return str(tiny_model / part)

    monkeypatch.setattr(pretrained, "snapshot_download", download)
    hub = {"revision": "v1", "token": "secret", "cache_dir": tmp_path, "local_files_only": True}
    loaded = kind.from_pretrained("owner/name", **hub)
    assert asked.items() >= {"repo_id": "owner/name", **hub}.items()
    assert kind is not DALLE or loaded.name == "owner/name"
    with pytest.raises(TypeError, match="revison"):
        kind.from_pretrained(tiny_model / part, revison="v1")
    with pytest.raises(ModelError, match="leave the revision out"):
        kind.from_pretrained(tiny_model / part, revision="v1")
    for unknown in ("safe_serialization", "config"):
        with pytest.raises(TypeError):
            loaded.save_pretrained(tmp_path / "saved", **{unknown: {}})
    assert not (tmp_path / "saved").exists()


def test_a_revision_of_a_shipped_model_is_refused() -> None:
    with pytest.raises(ModelError, match="leave the revision out"):
        DALLE.from_pretrained("emoji", revision="v1")


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "a ring"],
        ["rank", "a ring", "IMAGE"],
        ["label", "IMAGE", "a ring"],
        ["reconstruct", "IMAGE"],
        ["verify", "IMAGE"],
    ],
)
def test_commands_hand_the_revision_on(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def download(repo_id: str, *, revision: str | None, **_: object) -> str:
        asked.append((repo_id, revision))
        raise OSError("no network")

    monkeypatch.setattr(pretrained, "snapshot_download", download)
    record = Record(prompt="a ring", seed=1, sampling=Sampling())
    (path,) = Drawn([Image.new("RGB", (16, 16))], [record], torch.zeros(1, 4, 4, dtype=torch.long)).save(tmp_path)
    arguments = [str(path) if argument == "IMAGE" else argument for argument in command]
    assert main([*arguments, "--model", "owner/name", "--revision", "v1"]) == 2
    assert asked == [("owner/name", "v1")]
