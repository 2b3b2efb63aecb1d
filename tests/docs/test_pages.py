"""The pages are correct: Python blocks run, commands parse, links lead to files.

A comment before a block changes what its test does:

    <!-- test: skip REASON -->          nothing
    <!-- test: run [OPTIONS] -->        runs the `trencadis` commands, with these options added
"""

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import trencadis
from trencadis.cli import command_parser, main

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHIPPED = Path(trencadis.__file__).parent / "assets" / "emoji"
BLOCK = re.compile(r"^(?:<!-- test: (?P<marker>.*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
TESTS = re.compile(r"`(tests/[\w/.]+)`")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")

needs_model = pytest.mark.skipif(not SHIPPED.exists(), reason="no model ships in this checkout")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    marker: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"

    def commands(self) -> list[list[str]]:
        lines = self.text.replace("\\\n", " ").splitlines()
        return [shlex.split(line, comments=True) for line in lines if line.split("#")[0].strip()]


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(
            page,
            text[: found.start("language")].count("\n") + 1,
            found["language"],
            found["text"],
            found["marker"] or "",
        )
        for found in BLOCK.finditer(text)
    ]


ALL = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in ALL if block.language in ("bash", "sh", "console")]
READ = [block for block in SHELL if not block.marker.startswith("skip")]
RUN = [block for block in SHELL if block.marker.startswith("run")]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with the files that the pages name: a small dataset, a few pictures, a run."""
    for folder in ("pictures", "run/model"):
        (tmp_path / folder).mkdir(parents=True)
    for stem in ("heart", "tree", "pictures/heart", "pictures/tree", "pictures/star"):
        Image.new("RGB", (64, 64), "red" if "heart" in stem else "green").save(tmp_path / f"{stem}.png")
        if stem.startswith("pictures/"):
            (tmp_path / f"{stem}.txt").write_text(f"a {Path(stem).name}, 3D style\n")
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_has_blocks_of_both_kinds() -> None:
    languages = {block.language for block in blocks(ROOT / "README.md")}
    assert {"bash", "python"} <= languages


# The examples of docs/data.md do not belong together: test_data_page.py.
IN_ORDER = [page for page in PAGES if page.name != "data.md" and any(b.language == "python" for b in blocks(page))]


@needs_model
@pytest.mark.parametrize("page", IN_ORDER, ids=name)
def test_python_on_a_page_runs_in_order(page: Path, desk: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.language == "python" and not block.marker.startswith("skip"):
            exec(compile("\n" * block.line + block.text, page.name, "exec"), names)


@pytest.mark.parametrize("block", READ, ids=str)
def test_commands_on_a_page_exist_and_take_their_arguments(block: Block, desk: Path) -> None:
    for program, *arguments in block.commands():
        if program == "torchrun":
            program, arguments = "trencadis", arguments[arguments.index("trencadis") + 1 :]
        if program == "trencadis":
            command_parser(arguments[0]).parse_args(arguments[1:])
        elif program == "make" and shutil.which("make"):
            subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True)
        else:
            assert program == "make", f"{block}: {program} needs a marker that skips it"


@needs_model
@pytest.mark.parametrize("block", RUN, ids=str)
def test_commands_that_are_marked_run(block: Block, desk: Path) -> None:
    options = shlex.split(block.marker.removeprefix("run"))
    for program, *arguments in block.commands():
        assert program == "trencadis"
        assert main([*arguments, *options]) == 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_tests_that_a_page_names_exist(page: Path) -> None:
    missing = [path for path in TESTS.findall(page.read_text("utf-8")) if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    dead = [link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()]
    assert not dead


def test_ci_runs_the_test_command_of_the_readme(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme.count("<!-- the test command -->\n```bash\nmake check\n```") == 1
    (tmp_path / "README.md").write_text(readme.replace("```bash\nmake check\n", "```bash\necho made; exit 3\n"))
    result = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True)
    assert result.stdout == "+ echo made; exit 3\nmade\n"
    assert result.returncode == 3
