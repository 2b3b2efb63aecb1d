import json
from pathlib import Path

from trencadis.report.stage_records import read_stages
from trencadis.run_directory import RunDirectory


def test_a_continued_stage_is_training_and_each_has_its_own_time(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    lines = [("image", 10, 5.0), ("transformer", 24, 15.0), ("ranker", 20, 18.0), ("transformer", 28, 25.0)]
    text = "".join(json.dumps({"stage": name, "step": step, "elapsed_s": s}) + "\n" for name, step, s in lines)
    run.log.write_text(text)
    config = {"image": {"steps": 10}, "transformer": {"steps": 32}, "ranker": {"steps": 20}}
    stages = {stage.name: stage for stage in read_stages(run, config)}
    assert {name: stage.state for name, stage in stages.items()} == {
        "image": "done",
        "transformer": "training",
        "ranker": "done",
    }
    assert {name: stage.elapsed_s for name, stage in stages.items()} == {
        "image": 5.0,
        "transformer": 17.0,
        "ranker": 3.0,
    }
    assert stages["transformer"].last_step == 28


def test_a_given_image_tokenizer_is_done_though_it_has_no_steps(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.log.write_text(json.dumps({"stage": "transformer", "step": 1, "elapsed_s": 1.0}) + "\n")
    stages = read_stages(run, {"image": {"steps": 3_000_000}, "transformer": {"steps": 5}, "ranker": {"steps": 5}})
    assert [stage.state for stage in stages] == ["done", "training", "to come"]
