"""The commands that use a model, end to end on a tiny one."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.shapes import draw_shape
from trencadis.cli import main
from trencadis.data import read_picture
from trencadis.drawn import read_record


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        draw_shape(seed, 32)[0].save(path)
    return paths


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_generate_saves_what_it_says(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "drawn"
    command = ["generate", "a red circle", "a ring", "--model", str(tiny_model), "--out", str(out), "--seed", "3"]
    assert main([*command, "--candidates", "5", "--keep", "2"]) == 0
    printed, errors = lines(capsys)
    assert (len(printed), errors) == (4, [])
    assert {Path(line.split("   ")[0]) for line in printed} == set(out.glob("*.png"))
    assert main([*command, "--candidates", "5", "--keep", "2", "--json"]) == 0
    objects = [json.loads(line) for line in lines(capsys)[0]]
    assert [len(drawn["pictures"]) for drawn in objects] == [2, 2]
    first = objects[0]["pictures"][0]
    with Image.open(first["path"]) as image:
        record = read_record(image)
    assert record.seed == first["seed"]


def test_generate_goes_on_from_a_picture(
    tmp_path: Path, tiny_model: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mask = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 16, 32, 32))
    mask.save(tmp_path / "mask.png")
    base = ["generate", "a ring", "--model", str(tiny_model), "--out", str(tmp_path / "out"), "--seed", "1"]
    base += ["--candidates", "1", "--keep", "1", "--image", str(pictures[0]), "--json"]
    assert main([*base, "--keep-rows", "2"]) == 0
    assert main([*base, "--mask", str(tmp_path / "mask.png")]) == 0
    paths = [Path(json.loads(line)["pictures"][0]["path"]) for line in lines(capsys)[0]]
    assert [path.name for path in paths] == ["a-ring-1.png", "a-ring-1-2.png"], "their records differ"
    pixels = [read_picture(path).tobytes() for path in paths]
    assert pixels[0] == pixels[1], "two rows of four kept are the upper half kept"


def test_generate_hands_on_how_to_draw(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "a ring", "--model", str(tiny_model), "--out", str(tmp_path), "--seed", "1", "--json"]
    command += ["--candidates", "1", "--keep", "1", "--guidance-schedule", "cosine", "--negative-prompt", "a square"]
    assert main([*command, "--decoder", "jacobi", "--weights", "bfloat16"]) == 0
    (picture,) = json.loads(lines(capsys)[0][0])["pictures"]
    expected = {
        "guidance_schedule": "cosine",
        "negative_prompt": "a square",
        "decoder": "jacobi",
        "weights": "bfloat16",
    }
    assert {name: picture[name] for name in expected} == expected


def test_rank_orders_and_reconstruct_shows(
    tmp_path: Path, tiny_model: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(path) for path in pictures]
    assert main(["rank", "a ring", *names, "--model", str(tiny_model), "--json"]) == 0
    order = json.loads(lines(capsys)[0][0])["order"]
    assert {entry["path"] for entry in order} == set(names)
    assert [entry["score"] for entry in order] == sorted((entry["score"] for entry in order), reverse=True)
    sheet = tmp_path / "sheet.png"
    assert main(["reconstruct", *names, "--model", str(tiny_model), "--out", str(sheet), "--json"]) == 0
    shown = json.loads(lines(capsys)[0][0])
    assert [len(entry["tokens"]) for entry in shown["pictures"]] == [4, 4, 4]
    with Image.open(sheet) as image:
        assert image.width > 3 * 128


def test_inspect_tells_models_parts_checkpoints_and_runs_apart(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = next((tiny_run / "checkpoints" / "image").glob("step-*"))
    kinds = {}
    for path in (tiny_run, tiny_run / "model", tiny_run / "model" / "image", checkpoint):
        assert main(["inspect", str(path), "--json"]) == 0
        kinds[path] = json.loads(lines(capsys)[0][0])
    assert [kinds[path]["kind"].split(":")[0] for path in kinds] == ["run", "model", "part of a model", "checkpoint"]
    assert kinds[tiny_run]["facts"]["transformer"] == "step 24 of 24"
    parameters = {part["name"]: part["parameters"] for part in kinds[tiny_run / "model"]["parts"]}
    assert parameters["image"] == 21422
    assert main(["inspect", str(tiny_run / "model")]) == 0
    assert "21,422 parameters" in capsys.readouterr().out


def test_each_fault_is_one_line_and_exit_2_and_leaves_nothing(
    tmp_path: Path, tiny_model: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (tmp_path / "small.png").write_bytes(pictures[0].read_bytes())
    Image.new("L", (5, 5)).save(tmp_path / "mask.png")
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model, damaged)
    weights = damaged / "transformer" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    out = tmp_path / "out"
    draw = ["generate", "a ring", "--model", str(tiny_model), "--out", str(out)]
    faults = [
        [*draw, "--candidates", "2", "--keep", "4"],
        [*draw, "--top-p", "1.5"],
        [*draw, "--negative-prompt", "a square", "--guidance-scale", "1"],
        ["generate", "a" * 10_000, "--model", str(tiny_model), "--out", str(out)],
        ["generate", "--model", str(tiny_model), "--out", str(out)],
        [*draw, "--negative-prompt", " "],
        ["generate", "a ring", "--model", str(tiny_model), "--out", "/dev/null/out"],
        ["rank", " ", str(pictures[0]), "--model", str(tiny_model)],
        ["reconstruct", str(pictures[0]), "--model", str(tiny_model), "--out", str(pictures[0])],
        ["reconstruct", str(pictures[0]), "--model", str(tiny_model), "--out", str(pictures[1])],
        ["reconstruct", str(pictures[0]), "--model", str(tiny_model), "--out", str(tmp_path)],
        ["generate", "a ring", "--model", "nosuch", "--out", str(out)],
        ["generate", "a ring", "--model", str(damaged), "--out", str(out)],
        [*draw, "--image", str(tmp_path / "broken.jpg"), "--keep-rows", "1"],
        [*draw, "--image", str(pictures[0]), "--mask", str(tmp_path / "mask.png")],
        [*draw, "--image", str(pictures[0])],
        [*draw, "--keep-rows", "1"],
        [*draw, "--seed", "-1"],
        ["generate", "a ring", "--model", str(tiny_model), "--out", str(tmp_path / "small.png")],
        ["rank", "a ring", str(tmp_path / "broken.jpg"), "--model", str(tiny_model)],
        ["rank", "a ring", str(pictures[0]), "--model", str(tiny_model), "--keep", "2"],
        ["reconstruct", str(tmp_path / "broken.jpg"), "--model", str(tiny_model), "--out", str(out / "r.png")],
        ["inspect", str(tmp_path)],
    ]
    for fault in faults:
        assert main(fault) == 2, fault
        printed, errors = lines(capsys)
        assert (printed, len(errors)) == ([], 1), (fault, errors)
        assert errors[0].startswith("trencadis: error: ")
        assert not out.exists(), fault


def test_a_full_disk_is_one_line_and_exit_2(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out"
    assert main(["generate", "a ring", "--model", str(tiny_model), "--out", str(out), "--candidates", "4"]) == 2
    printed, errors = lines(capsys)
    assert (printed, len(errors)) == ([], 1)
    assert "no space left on device" in errors[0]
    assert not out.exists()
