"""The framework that every command stands in: help, exit codes, and one line for each kind of fault."""

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonargparse
import pytest

from trencadis import cli
from trencadis.cli import COMMANDS, main
from trencadis.cli.arguments import existing_file, integer, real, seed
from trencadis.errors import PromptError, RunError

Run = Callable[[jsonargparse.Namespace], int]
HEAVY = {"torch", "numpy", "tokenizers", "huggingface_hub"}


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("prompt", help="what to draw")
    parser.add_argument("image", nargs="?", type=existing_file(), help="where to start from")
    parser.add_argument("--top-p", type=real(0, 1, low_open=True, example=0.95), help="share of the likeliest tokens")
    parser.add_argument("--candidates", type=integer(1), default=4, help="pictures drawn")
    parser.add_argument("--keep", type=integer(1, 8), help="pictures kept (the best) (default: a half)")
    parser.add_argument("--seed", type=seed(), default=0, help="of the noise")
    parser.add_argument("--mode", choices=["fast", "fine"], default="fast", help="how")
    parser.add_argument("--json", action="store_true", help="prints JSON")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Return a function that makes `trencadis draw` run what it is given."""

    def install(run: Run) -> None:
        module = ModuleType("trencadis.cli.draw")
        vars(module).update(HELP="draws", add_arguments=add_arguments, run=run)
        monkeypatch.setitem(sys.modules, "trencadis.cli.draw", module)
        monkeypatch.setattr(cli, "COMMANDS", (*COMMANDS, "draw"))

    install(lambda arguments: 0)
    return install


def seen_by(command: Callable[[Run], None]) -> list[jsonargparse.Namespace]:
    """Return the list that the arguments of every run go to."""
    seen: list[jsonargparse.Namespace] = []

    def run(arguments: jsonargparse.Namespace) -> int:
        seen.append(arguments)
        return 0

    command(run)
    return seen


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what stands on stderr, which is one line."""
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.endswith("\n")
    return printed[:-1]


def in_a_process(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "trencadis", *arguments], text=True, **options)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_in_the_order_of_the_data(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    printed = capsys.readouterr()
    listed = [line.split()[0] for line in printed.out.splitlines() if line.startswith("  ") and "--" not in line]
    assert listed == list(COMMANDS)
    assert printed.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"usage: trencadis {name} [options]")
    assert printed.err == ""


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_imports_nothing_heavy_and_no_other_command(name: str) -> None:
    arguments = [name, "--help"] if name else ["--help"]
    code = f"import sys; from trencadis.cli import main; assert main({arguments!r}) == 0; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(result.stdout.splitlines()[-1].split())
    assert modules & HEAVY == set()
    if name:
        others = {f"trencadis.cli.{other}{end}" for other in COMMANDS for end in ("", "_")}
        assert modules & others == {"trencadis.cli.import_" if name == "import" else f"trencadis.cli.{name}"}


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "trencadis 0.1.0\n"


def test_help_shows_ranges_and_defaults(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["draw", "--help"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "usage: trencadis draw [options] PROMPT [IMAGE]"
    assert "--top-p X share of the likeliest tokens, in (0, 1]" in lines
    assert "--candidates N pictures drawn, 1 or more; default 4" in lines
    assert "--keep N pictures kept (the best), in 1..8; default a half" in lines
    assert "--seed N of the noise, in 0..2^63-1; default 0" in lines
    assert "--mode fast|fine how; default fast" in lines
    assert "--json prints JSON" in lines


def test_arguments_arrive_as_their_kinds(command: Callable[[Run], None], tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"")
    seen = seen_by(command)
    given = ["a cat", str(tmp_path / "cat.png"), "--top-p", "0.5", "--seed=9", "--json"]
    assert main(["draw", *given]) == 0
    [arguments] = seen
    assert (arguments.prompt, arguments.image) == ("a cat", tmp_path / "cat.png")
    assert (arguments.top_p, arguments.seed, arguments.candidates, arguments.json) == (0.5, 9, 4, True)


@pytest.mark.parametrize("prompt", ["null", "1e5", "{a: b}", "- x", "-5", "[1, 2]", "true", "a: b", "@x", "é ✿"])
def test_a_prompt_is_a_text_whatever_it_looks_like(prompt: str, command: Callable[[Run], None]) -> None:
    seen = seen_by(command)
    assert main(["draw", prompt]) == 0
    assert [arguments.prompt for arguments in seen] == [prompt]


WRONG = {
    "drow": "unknown command 'drow'; expected draw; see `trencadis --help`",
    "zzz": "unknown command 'zzz'; expected one of data, plan, train, ",
    "--verison": "unknown option '--verison'; expected --version; see `trencadis --help`",
    "draw": "no PROMPT given; expected trencadis draw [options] PROMPT [IMAGE]; see `trencadis draw --help`",
    "draw x --topp 1": "unknown option --topp; expected --top-p; see `trencadis draw --help`",
    "draw x --top 1": "unknown option --top; expected --top-p; see",
    "draw x --zzzzz": "unknown option --zzzzz; expected an option that the help lists; see",
    "draw x {file} y": "unexpected argument y; expected no more arguments; put quotes around what belongs together",
    "draw x --top-p 1.5": "--top-p 1.5; expected a number in (0, 1]; give one such as 0.95",
    "draw x --top-p 0": "--top-p 0; expected a number in (0, 1]; give one such as 0.95",
    "draw x --top-p nan": "--top-p nan; expected a number in (0, 1]; give one such as 0.95",
    "draw x --top-p": "--top-p: expected one argument; expected it as the help shows it; see `trencadis draw --help`",
    "draw x --candidates 0": "--candidates 0; expected a whole number of 1 or more; give one such as 1",
    "draw x --candidates 1.5": "--candidates 1.5; expected a whole number of 1 or more; give one such as 1",
    "draw x --seed -1": "--seed -1; expected a whole number in 0..2^63-1; give one such as 7",
    "draw x --mode fost": "--mode fost; expected one of fast, fine; choose one of these",
    "data chek pictures": "ACTION chek; expected one of check; choose one of these",
    "draw x --json=1": "--json: ignored explicit argument '1'; expected it as the help shows it; see",
    "draw x /absent.png": "IMAGE /absent.png; expected a file that exists; check the path",
}


@pytest.mark.parametrize("typed", WRONG, ids=WRONG)
def test_what_is_asked_wrongly_is_one_line_and_2(
    typed: str, command: Callable[[Run], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    arguments = typed.format(file=tmp_path / "file").split(" ")
    assert main(arguments) == 2
    assert one_line(capsys).startswith("trencadis: error: " + WRONG[typed])


def raising(error: BaseException) -> Run:
    def run(arguments: jsonargparse.Namespace) -> int:
        raise error

    return run


class OutOfMemoryError(RuntimeError):
    """torch's has this name."""


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FAULTS: list[tuple[BaseException, int, str]] = [
    (PromptError("an empty prompt", expected="words", remedy="say it"), 2, "error: an empty prompt; expected words; "),
    (PromptError("two\nlines", expected="one", remedy="cut it"), 2, "error: two lines; expected one; cut it"),
    (RunError("three steps in a row were not finite"), 1, "error: three steps in a row were not finite"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (MemoryError(), 1, "error: the memory is full; "),
    (OutOfMemoryError("CUDA out of memory"), 1, "error: the memory is full; "),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, "error: the memory is full; "),
    (FULL, 2, "error: the disk is full; "),
    (RuntimeError("PytorchStreamWriter failed: No space left on device"), 2, "error: the disk is full; "),
    (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "error: /x/y: permission denied"),
    (KeyError("heart"), 1, "error: this is a bug in trencadis: KeyError: 'heart'; run it again with TRENCADIS_DEBUG"),
    (ValueError(), 1, "error: this is a bug in trencadis: ValueError; run it again"),
    (SystemExit("stopped"), 1, "error: stopped"),
]


@pytest.mark.parametrize(("error", "code", "line"), FAULTS, ids=lambda value: repr(value)[:40])
def test_a_fault_is_one_line_and_its_code(
    error: BaseException, code: int, line: str, command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(error))
    assert main(["draw", "x"]) == code
    assert one_line(capsys).startswith("trencadis: " + line)


def test_a_full_disk_is_seen_behind_another_exception(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: jsonargparse.Namespace) -> int:
        try:
            raise FULL
        except OSError as error:
            raise ValueError("could not save") from error

    command(run)
    assert main(["draw", "x"]) == 2
    assert "the disk is full" in one_line(capsys)


def test_debugging_shows_the_traceback_before_the_line(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRENCADIS_DEBUG", "1")
    command(raising(KeyError("heart")))
    assert main(["draw", "x"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert printed.splitlines()[-1].startswith("trencadis: error: this is a bug")


def test_the_exit_code_of_a_command_is_kept(command: Callable[[Run], None]) -> None:
    command(lambda arguments: 3)
    assert main(["draw", "x"]) == 3


def test_a_warning_is_one_line_and_the_command_goes_on(
    command: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: jsonargparse.Namespace) -> int:
        warnings.warn("the caption\nwas cut", UserWarning, stacklevel=1)
        return 0

    command(run)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["draw", "x"]) == 0
    assert one_line(capsys) == "trencadis: warning: the caption was cut"


def test_python_dash_m_is_the_command() -> None:
    result = in_a_process("--version", capture_output=True, check=True)
    assert result.stdout == "trencadis 0.1.0\n"


def test_a_reader_that_leaves_is_no_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        result = in_a_process("--help", stdout=closed, stderr=subprocess.PIPE)
    assert result.returncode == 141
    assert result.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_an_output_on_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        result = in_a_process("--help", stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 2
    assert result.stderr == "trencadis: error: the disk is full; free some space and run the same command again\n"
