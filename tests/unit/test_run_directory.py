import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trencadis
from trencadis.errors import ConfigError, StorageError
from trencadis.run_directory import RunDirectory
from trencadis.storage import write_whole

HOLDER = """
import os, sys, time
from pathlib import Path
from trencadis.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    reading, writing = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.write(writing, b"!")
        time.sleep(600)
    os.read(reading, 1)
    os.write(1, f"{worker}\\n".encode())
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Another process that holds the lock of `tmp_path`, and the id of a worker that it has forked."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            worker = int(process.stdout.readline())
            yield process, worker
            os.kill(worker, signal.SIGKILL)
        finally:
            process.kill()


def test_a_run_belongs_to_one_process_until_it_ends(
    tmp_path: Path, holder: tuple["subprocess.Popen[str]", int]
) -> None:
    process, worker = holder
    run = RunDirectory(tmp_path)
    with pytest.raises(ConfigError, match=f"process {process.pid} of .*;"), run.lock():
        pass
    process.kill()
    process.wait()
    os.kill(worker, 0)  # the worker that the killed process leaves does not hold the lock
    with run.lock():
        assert f"process {os.getpid()} of" in (tmp_path / ".holder").read_text()


def test_the_lock_is_given_back_and_an_empty_directory_removed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "new" / "run")
    for _ in range(2):
        with run.lock() as is_new:
            assert is_new
            with pytest.raises(ConfigError, match=str(os.getpid())), run.lock():
                pass
        assert not run.path.exists()
    run.path.mkdir()
    with run.lock() as is_new:
        assert not is_new
    assert run.path.exists()


def test_whoever_loses_the_race_removes_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.lock():
        run.pairs.write_text("what the first process has read so far")
        with pytest.raises(ConfigError), run.lock() as is_new:
            pytest.fail(f"locked twice, {is_new=}")
        assert run.pairs.exists()
    assert run.pairs.exists()


def test_leftovers_are_swept_under_the_lock_and_not_from_a_folder_of_something_else(tmp_path: Path) -> None:
    leftover = tmp_path / "model" / ".image.0123abcd.partial"
    leftover.mkdir(parents=True)
    run = RunDirectory(tmp_path)
    with run.lock():
        assert leftover.exists()
    run.config.write_text("")
    with run.lock():
        assert not leftover.exists()


def test_processes_of_one_id_do_not_share_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two containers both are process 1."""
    names: list[str] = []
    monkeypatch.setattr(Path, "replace", lambda path, target: names.append(path.name))
    for _ in range(2):
        write_whole(tmp_path / "file", "content")
    assert len(set(names)) == 2


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StorageError), RunDirectory(path).lock():
            pass


def test_what_is_written_is_read(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    choices = [{"what": "recipe", "value": "tiny", "why": "asked for"}]
    run.write_choices(choices)
    run.write_data({"kept": 3, "dropped": {"too small": 1}})
    run.write_captions(["a red cercle", "un cèrcol"])
    run.write_code_counts([5, 0, 2])
    assert run.read_choices() == choices
    assert run.read_data() == {"kept": 3, "dropped": {"too small": 1}}
    assert run.read_captions() == ["a red cercle", "un cèrcol"]
    assert run.read_code_counts() == [5, 0, 2]
    for step in (7, 12):
        write_whole(run.sample("image", step), b"")
    assert run.samples("image") == [(step, run.sample("image", step)) for step in (7, 12)]
    assert json.loads(run.plan.read_text()) == {"choices": choices}
    assert not run.is_finished
    assert run.strangers() == ["samples"]


def test_a_run_is_told_from_a_folder_of_pictures(tmp_path: Path) -> None:
    """Also one that is being planned; a folder with a config of its own, or a stale lock, is no run."""
    run = RunDirectory(tmp_path / "run")
    with run.lock():
        assert RunDirectory.is_run(run.path)
        write_whole(run.pairs, "{}")
        assert RunDirectory.is_run(run.path)
        write_whole(run.config, "")
        write_whole(run.sample("image", 7), b"")
        assert RunDirectory.is_run(run.path)
    assert RunDirectory.is_run(run.path)
    pictures = tmp_path / "pictures"
    write_whole(pictures / "heart.png", b"")
    assert not RunDirectory.is_run(pictures)
    for name in ("config.yaml", ".lock"):
        write_whole(pictures / name, "")
        assert not RunDirectory.is_run(pictures)
    assert not RunDirectory.is_run(tmp_path / "absent")


def test_no_other_file_spells_a_path_of_a_run() -> None:
    names = {"config.yaml", "plan.json", "data.json", "pairs.json", "log.jsonl", "report.html", "checkpoints", "tokens"}
    names |= {"samples", "captions.json", "codes.json", "codes.png", ".lock", "latest", "manifest.json", "meta.json"}
    package = Path(trencadis.__file__).parent
    for path in package.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        joined = {
            side.value
            for node in nodes
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
            for side in (node.left, node.right)
            if isinstance(side, ast.Constant)
        }
        assert path.name == "run_directory.py" or not names & joined, path
