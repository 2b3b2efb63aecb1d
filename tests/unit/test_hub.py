"""Publishing is the hub library's own; what it is given is what `save_pretrained` writes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.hub_mixin
import pytest

from trencadis import CLIP, DALLE, CaptionTokenizer, DiscreteVAE, Transformer


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
