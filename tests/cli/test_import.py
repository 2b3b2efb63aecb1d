import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.importers.published import mosaic, save, save_openai, save_taming, taming_state, taming_tokens
from trencadis.cli import main
from trencadis.image.loading import load_image_tokenizer


def test_an_imported_tokenizer_is_a_model_directory_with_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = taming_state()
    source = save_taming(tmp_path / "last.ckpt", state)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    out = tmp_path / "models" / "vqgan"
    assert main(["import", "taming-vqgan", str(source), "--out", str(out), "--image-size", "64"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    parameters = sum(tensor.numel() for tensor in state.values())
    assert [line.split() for line in printed.out.splitlines()] == [
        [str(out), "DiscreteVAE,", "from", "taming-vqgan"],
        ["pictures", "64×64", "pixels"],
        ["tokens", "16×16", "of", "30,", "euclidean"],
        ["parameters", f"{parameters:,}"],
        ["last.ckpt", "SHA-256", digest],
    ]
    card = (out / "README.md").read_text("utf-8")
    assert "trencadis import taming-vqgan" in card
    assert f"| `last.ckpt` | `{digest}` |" in card
    assert {path.name for path in out.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    images = mosaic(1, rows=2, columns=2)
    assert torch.equal(load_image_tokenizer(out).encode(images), taming_tokens(state, images))
    assert main(["inspect", str(out)]) == 0


def test_json_says_the_same_and_a_folder_stands_for_its_two_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_openai(tmp_path / "published", widths=(8, 16), blocks=1)
    out = tmp_path / "out"
    out.mkdir()
    assert main(["import", "openai-dvae", str(tmp_path / "published"), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [name for name, _ in found["files"]] == ["encoder.pkl", "decoder.pkl"]
    assert (found["out"], found["kind"], found["codes"]) == (str(out), "openai-dvae", "categorical")
    assert (found["image_size"], found["grid_size"], found["image_vocab_size"]) == ([256, 256], [128, 128], 40)


class Harmful:
    """Pickled, it is the call of a shell."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.sentinel}",)


def test_what_is_refused_is_one_line_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = taming_state(multipliers=(1, 1))
    good = save_taming(tmp_path / "good.ckpt", state)
    bad = save({"state_dict": state, "hook": Harmful(tmp_path / "sentinel")}, tmp_path / "bad.ckpt")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    out = tmp_path / "out"
    wrong = {
        ("taming-vqgan", bad, out): "names posix.system; expected tensors and the classes",
        ("taming-vqgan", tmp_path / "absent", out): "is not there; expected a checkpoint file; check the path",
        ("taming-vqgan", tmp_path, out): "is a folder; expected a checkpoint file; check the path",
        ("openai-dvae", good, out): "is 1 of 1 files; expected an encoder's file and a decoder's",
        ("openai-dvae", tmp_path, out): "encoder.pkl is not there; expected a checkpoint file",
        ("openai-vae", good, out): "KIND openai-vae; expected one of openai-dvae, taming-vqgan; choose one of these",
        ("taming-vqgan", good, taken): "taken holds something; expected an empty folder; choose another --out",
        ("taming-vqgan", good, good): "expected a folder, there already or not; check the path",
    }
    for (kind, path, folder), line in wrong.items():
        assert main(["import", kind, str(path), "--out", str(folder)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("trencadis: error: ")
        assert printed.err.count("\n") == 1
        assert line in printed.err
    assert main(["import", "taming-vqgan", str(good), "--out", str(out), "--image-size", "255"]) == 2
    assert "image_size [255, 255]; expected height and width in multiples of 2" in capsys.readouterr().err
    assert main(["import", "taming-vqgan", str(good), "--out", str(out), "--image-size", "0"]) == 2
    assert "--image-size 0; expected a whole number in 1..4096" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"good.ckpt", "bad.ckpt", "taken"}
    assert [path.name for path in taken.iterdir()] == ["notes.txt"]


def test_the_kinds_of_the_command_are_those_there_are() -> None:
    from trencadis.cli.import_ import KINDS
    from trencadis.importers import KINDS as IMPORTERS

    assert set(KINDS) == set(IMPORTERS)
