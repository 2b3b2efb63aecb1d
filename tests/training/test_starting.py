"""Runs that start from a model: what is kept, what is trained further, and that a kill makes no difference."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import ImageOps

from tests.conftest import TINY_STEPS
from tests.shapes import draw_shape
from tests.training.runs import Start, assert_same_weights, content, log_of, start_and_kill, weights
from trencadis.config import DataConfig, TransformerConfig
from trencadis.errors import ConfigError, ModelError, UserError
from trencadis.inspection import inspect
from trencadis.model_directory import shipped_models
from trencadis.pipeline import DALLE
from trencadis.recipes import RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.sampling import Sampling
from trencadis.training.known_pairs import KnownPairs, read_pairs
from trencadis.training.run import train
from trencadis.training.starting import PEAK, TUNING_RECIPE, take_weights
from trencadis.transformer import Transformer

pytestmark = pytest.mark.usefixtures("without_type_checks", "one_validation")
FEW = {"transformer": {"steps": 2, "batch_size": 8}, "ranker": {"steps": 2, "batch_size": 8}}
KEPT = {"transformer": {"steps": 0}, "ranker": {"steps": 0}}
STILL = {"learning_rate": 0.0, "muon_learning_rate": 0.0}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captioned drawings that the model has not seen, in other colours."""
    folder = tmp_path_factory.mktemp("others")
    for number in range(20):
        image, caption = draw_shape(700 + number, 32)
        ImageOps.invert(image).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{caption}, inverted")
    return folder


def settings(data: Path, model: Path | str, *more: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"data": {"path": str(data)}, "start": {"model": str(model)}, "threads": 1}
    for each in more:
        own |= each
    return own


def planned(run: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return config


def test_a_run_starts_from_the_weights(tmp_path: Path, others: Path, tiny_model: Path, tiny_run: Path) -> None:
    said: list[str] = []
    train(tmp_path / "run", settings(others, tiny_model, FEW), say=said.append)
    before, after = weights(tiny_run), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    changed = {name.partition("/")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"transformer", "ranker"}, "both tokenizers are kept"
    text = (tmp_path / "run" / "model" / "text" / "tokenizer.json").read_bytes()
    assert text == (tiny_model / "text" / "tokenizer.json").read_bytes()
    assert not (tmp_path / "run" / "checkpoints" / "image").exists()
    digest = DALLE.from_pretrained(tiny_model).digest()
    start = {"model": str(tiny_model), "sha256": digest, "tune": None, "old_captions": None}
    assert planned(tmp_path / "run")["start"] == start
    assert any(line.startswith(f"start {tiny_model}") and f"SHA-256 {digest}" in line for line in said)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"From `{tiny_model}` (SHA-256 {digest})" in card


def test_the_loss_begins_at_that_of_the_model(tmp_path: Path, shapes: Path, others: Path, tiny_model: Path) -> None:
    """The same first batch: before any update, and with no step that could bring it there."""
    first = {}
    for name, start in (("further", {"start": {"model": str(tiny_model)}}), ("anew", {})):
        own = {"data": {"path": str(others)}, "threads": 1, **FEW, **start, "text": {"text_len": 16}}
        own["image"] = {} if start else {"pretrained": str(tiny_model)}
        train(tmp_path / name, own, recipe="tiny")
        lines = log_of(tmp_path / name)
        first[name] = next(line for line in lines if line["stage"] == "transformer" and "image_loss" in line)
    assert first["further"]["step"] == first["anew"]["step"] == 1
    assert first["further"]["image_loss"] < first["anew"]["image_loss"] - 0.3  # type: ignore[operator]


def test_updates_of_no_length_change_nothing(tmp_path: Path, others: Path, tiny_model: Path, tiny_run: Path) -> None:
    """So the averages begin with the model's weights too."""
    still = {name: {**FEW[name], "optimizer": STILL} for name in FEW}
    train(tmp_path / "run", settings(others, tiny_model, still))
    assert_same_weights(tmp_path / "run", tiny_run)


def test_no_steps_keep_the_model_and_its_pictures(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    train(tmp_path / "run", settings(others, tiny_model, KEPT))
    drawn = [
        DALLE.from_pretrained(model).generate("a red circle", candidates=4, keep=2, seed=3)
        for model in (tiny_model, tmp_path / "run" / "model")
    ]
    assert [image.tobytes() for image in drawn[0].images] == [image.tobytes() for image in drawn[1].images]
    assert drawn[0].scores == drawn[1].scores
    run = RunDirectory(tmp_path / "run")
    assert run.is_finished
    assert inspect(str(run.path)).facts["ranker"] == f"as in {tiny_model}"
    before = content(run.path)
    train(run.path, settings(others, tiny_model, KEPT))
    assert content(run.path) == before
    # What was kept can be trained later.
    train(run.path, {"ranker": {"steps": 3}})
    assert planned(run.path)["ranker"]["steps"] == 3
    assert [line["stage"] for line in log_of(run.path)] == ["ranker"] * 4


def test_a_killed_run_ends_as_if_it_had_not_been_and_needs_the_model_no_more(
    tmp_path: Path, others: Path, tiny_model: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    own = settings(others, model, {"transformer": {"steps": 6, "batch_size": 8}, "ranker": {"steps": 4}})
    unbroken, killed = tmp_path / "unbroken" / "run", tmp_path / "killed" / "run"
    moments = [("plan", "", 1), ("part", "", 2), ("part", "", 3), ("update", "transformer", 1)]
    ends = [(unbroken, None), *((killed, moment) for moment in moments)]
    start_and_kill([Start(out, own, {}, moment) for out, moment in ends])
    DALLE.from_pretrained(killed / "model")
    model.rename(tmp_path / "gone")
    later = [("update", "transformer", 3), ("save", "transformer", 2), ("save", "ranker", 1), None]
    start_and_kill([Start(killed, own, {}, moment) for moment in later])
    assert log_of(killed) == log_of(unbroken)
    assert_same_weights(killed, unbroken)
    for name in ("config.yaml", "trained.json", "pairs.json", "model/config.json", "model/README.md"):
        assert (killed / name).read_bytes() == (unbroken / name).read_bytes(), name


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"transformer": {"model": {"num_layers": 5}}}, r"transformer\.model\.num_layers 5; expected 3, as "),
        ({"transformer": {"model": {"design": {"norm": "layer"}}}}, r"transformer\.model\.design\.norm layer"),
        ({"ranker": {"model": {"embed_dim": "8"}}}, r"ranker\.model\.embed_dim 8"),
        ({"text": {"vocab_size": 400}}, r"text\.vocab_size 400"),
        ({"text": {"text_len": 8}}, r"text\.text_len 8; expected 16 or more"),
        ({"image": {"model": {"image_vocab_size": 64}}}, r"image\.model\.image_vocab_size 64"),
        ({"image": {"model": {"architecture": {"kind": "lean"}}}}, r"image\.model\.architecture\.kind lean"),
        ({"image": {"pretrained": "emoji"}}, "drop --image-tokenizer, or --from"),
        ({"start": {"model": "no-such-model"}}, "unknown model 'no-such-model'"),
        ({"start": {"sha256": "0"}}, r"start\.sha256 0; expected a start\.model"),
        ({"start": {"weights": "x"}}, r"unknown setting start\.weights"),
        ({"no": {"such": 1}}, "unknown setting no"),
    ],
)
def test_what_contradicts_the_model_is_refused_and_leaves_nothing(
    tmp_path: Path, others: Path, tiny_model: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", settings(others, tiny_model, more))
    assert not (tmp_path / "run").exists()


def test_settings_that_agree_with_the_model_are_taken(tmp_path: Path, others: Path, tiny_run: Path) -> None:
    """Such as those of the run that made it, with all of its sizes."""
    of_run = planned(tiny_run)
    own = settings(others, tiny_run / "model", {name: of_run[name] for name in ("text", "image")}, KEPT)
    own["transformer"] = of_run["transformer"] | {"steps": 0}
    train(tmp_path / "run", own, recipe="tiny")
    after = planned(tmp_path / "run")
    assert after["transformer"]["model"] == of_run["transformer"]["model"]
    assert after["transformer"]["optimizer"] == of_run["transformer"]["optimizer"], "given ones are kept"
    assert after["ranker"]["optimizer"]["learning_rate"] == PEAK * of_run["ranker"]["optimizer"]["learning_rate"]


def test_another_model_of_that_name_is_refused(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    own = settings(others, tiny_model, KEPT, {"start": {"model": str(tiny_model), "sha256": "0" * 64}})
    with pytest.raises(ConfigError, match="expected 0000"):
        train(tmp_path / "run", own)


def test_steps_of_a_new_run_are_1_or_more(tmp_path: Path, others: Path) -> None:
    with pytest.raises(ConfigError, match=r"transformer\.steps 0; expected 1 or more"):
        train(tmp_path / "run", {"data": {"path": str(others)}, **KEPT}, recipe="tiny")


def test_a_longer_text_begins_near(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    train(tmp_path / "run", settings(others, tiny_model, FEW, {"text": {"text_len": 24}}))
    model = DALLE.from_pretrained(tmp_path / "run" / "model")
    assert model.transformer.config.text_len == 24
    first = next(line for line in log_of(tmp_path / "run") if "image_loss" in line)
    assert first["image_loss"] < torch.tensor(32.0).log() - 0.3  # type: ignore[operator]


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_new_text_positions_begin_as_the_last_one(tmp_path: Path, positions: str) -> None:
    from trencadis.config import DesignConfig

    sizes = {"num_layers": 1, "num_heads": 1, "head_dim": 4, "text_vocab_size": 5, "image_vocab_size": 3}
    design = DesignConfig(positions=positions)  # type: ignore[arg-type]
    short, long = (
        Transformer(TransformerConfig(**sizes, text_len=text_len, grid_size=(2, 2), design=design))  # type: ignore[arg-type]
        for text_len in (4, 6)
    )
    short.save_pretrained(tmp_path / "short")
    take_weights(long, tmp_path / "short")
    torch.testing.assert_close(long.text_embedding.weight[:9], short.text_embedding.weight)
    for row in long.text_embedding.weight[9:]:
        torch.testing.assert_close(row, short.text_embedding.weight[-1])
    torch.testing.assert_close(long.text_head.weight[:9], short.text_head.weight)
    torch.testing.assert_close(long.blocks[0].attention.qkv.weight, short.blocks[0].attention.qkv.weight)  # type: ignore[union-attr]


def test_pairs_stay_on_the_side_that_they_had_in_the_run_of_the_model(
    tmp_path: Path, shapes: Path, tiny_run: Path
) -> None:
    """Whatever the seed, and beside other pairs."""
    data = shutil.copytree(shapes, tmp_path / "both")
    for number in range(100):
        image, caption = draw_shape(300 + number, 32)
        image.save(data / f"more-{number}.png")
        (data / f"more-{number}.txt").write_text(caption)
    run, before = RunDirectory(tmp_path / "run"), KnownPairs.load(RunDirectory(tiny_run))
    run.path.mkdir()
    pairs = read_pairs(DataConfig(path=str(data)), 7, run, before=RunDirectory(tiny_run))
    held_out, old = {pair.sample_id for pair in pairs.validation}, {p.sample_id for p in before.curated.kept}
    assert held_out & old == set(before.held_out)
    assert held_out - old
    alone = read_pairs(DataConfig(path=str(data)), 7, RunDirectory(tmp_path / "alone"))
    assert {pair.sample_id for pair in alone.validation} & old != set(before.held_out)


def test_a_run_takes_the_sides_of_the_run_that_its_model_is_of(tmp_path: Path, shapes: Path, tiny_run: Path) -> None:
    train(tmp_path / "run", settings(shapes, tiny_run / "model", KEPT, {"seed": 7}))
    sides = [set(KnownPairs.load(RunDirectory(run)).held_out) for run in (tiny_run, tmp_path / "run")]
    assert sides[0] == sides[1]


def test_a_model_without_clip_gets_one(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    shutil.rmtree(model / "ranker")
    with pytest.raises(ConfigError, match="the model has no CLIP to keep"):
        train(tmp_path / "run", settings(others, model, KEPT))
    train(tmp_path / "run", settings(others, model, FEW), recipe="tiny")
    assert DALLE.from_pretrained(tmp_path / "run" / "model").ranker is not None


def test_parts_of_others_are_refused(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copytree(model / "image", model / "text", dirs_exist_ok=True)
    with pytest.raises(ModelError, match="DiscreteVAE"):
        train(tmp_path / "run", settings(others, model, KEPT))


def test_how_a_model_draws_and_its_licence_are_kept(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    settings_of = json.loads((model / "config.json").read_text())
    settings_of["sampling"] |= {"top_p": 0.7, "guidance_scale": 5.0}
    (model / "config.json").write_text(json.dumps(settings_of))
    (model / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\n# old\n\nDrawings © Somebody.\n")
    train(tmp_path / "run", settings(others, model, FEW))
    assert DALLE.from_pretrained(tmp_path / "run" / "model").sampling == Sampling(top_p=0.7, guidance_scale=5.0)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert "> Drawings © Somebody." in card


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_is_trained_further(tmp_path: Path, others: Path, name: str) -> None:
    """It may be of an earlier version, and in a folder where nothing can be written."""
    few = {"transformer": {"steps": 1, "batch_size": 2}, "ranker": {"steps": 1, "batch_size": 2}}
    train(tmp_path / "run", settings(others, name, few))
    before, after = DALLE.from_pretrained(name), DALLE.from_pretrained(tmp_path / "run" / "model")
    assert before.transformer.config == after.transformer.config
    assert before.sampling == after.sampling
    assert set(TINY_STEPS) == {path.name for path in (tmp_path / "run" / "model").iterdir() if path.is_dir()} - {"text"}


TUNED = {"image": {"steps": 3, "batch_size": 8}, "transformer": {"steps": 2, "batch_size": 8}, "ranker": {"steps": 0}}


def tuning(data: Path, model: Path | str, **start: Any) -> dict[str, Any]:
    return {**settings(data, model, TUNED), "start": {"model": str(model), "tune": "image", **start}}


def test_the_image_tokenizer_goes_on_from_its_weights(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    still = tuning(others, tiny_model)
    still |= {name: {**TUNED[name], "optimizer": STILL} for name in ("image", "transformer")}
    train(tmp_path / "still", still)
    assert_same_weights(tmp_path / "still", tiny_model.parent)
    train(tmp_path / "run", tuning(others, tiny_model))
    before, after = weights(tiny_model.parent), weights(tmp_path / "run")
    changed = {name.partition("/")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"image", "transformer"}
    config = planned(tmp_path / "run")
    assert config["image"]["pretrained"] is None
    assert config["image"]["optimizer"]["learning_rate"] == pytest.approx(
        PEAK * RECIPES[TUNING_RECIPE]().image.optimizer.learning_rate
    )
    assert "its text tokenizer is kept" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_a_killed_tuning_of_the_image_tokenizer_ends_as_if_it_had_not_been(
    tmp_path: Path, others: Path, tiny_model: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    content_of = json.loads((model / "config.json").read_text())
    content_of["sampling"] |= {"top_p": 0.7}
    (model / "config.json").write_text(json.dumps(content_of))
    own, unbroken, killed = tuning(others, model), tmp_path / "unbroken" / "run", tmp_path / "killed" / "run"
    moments = [("update", "image", 2), ("save", "image", 2), ("update", "transformer", 1), None]
    start_and_kill([Start(unbroken, own), *(Start(killed, own, {}, moment) for moment in moments)])
    assert log_of(killed) == log_of(unbroken)
    assert_same_weights(killed, unbroken)
    assert DALLE.from_pretrained(killed / "model").sampling.top_p == 0.7


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"transformer": {"steps": 0}}, r"start\.tune image and transformer\.steps 0"),
        ({"transformer": {"lora": {"rank": 1}}}, r"transformer\.lora\.rank 1; expected every weight"),
        ({"image": {"relaxation": "rotation"}}, "rotation"),
        ({"start": {"model": "emoji", "tune": "image", "old_captions": "old.txt"}}, "codes that stay"),
        ({"start": {"model": "emoji", "tune": "text"}}, r"start\.tune text"),
        ({"start": {"tune": "image"}}, r"start\.tune image; expected a start\.model"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    tmp_path: Path, others: Path, tiny_model: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", tuning(others, tiny_model) | more)
    assert not (tmp_path / "run").exists()
