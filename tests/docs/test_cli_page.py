import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_the_command_line_is_what_help_prints(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "generate_cli.py", tmp_path / "cli.md"], check=True)
    kept = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert kept == (tmp_path / "cli.md").read_text("utf-8"), "run `make docs`"


def test_the_table_of_modules_names_them_in_the_order_of_imports() -> None:
    lines = (ROOT / "docs" / "architecture.md").read_text("utf-8").splitlines()
    named = [line.split("`")[1] for line in lines if line.startswith("| `")]
    package = ROOT / "src" / "trencadis"
    there = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(named) == there - {"__init__", "__main__"}
    order = (ROOT / "tests" / "unit" / "test_imports.py").read_text("utf-8").partition("ORDER = (")[2].partition(")")[0]
    in_order = [name.strip(' "') for name in order.replace("\n", "").split(",") if name.strip()]
    assert named == [name for name in in_order if name in named]


def test_every_decision_is_in_the_navigation_and_on_the_first_page() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for page in ("zensical.toml", "docs/index.md"):
        text = (ROOT / page).read_text("utf-8")
        assert [path.name for path in decisions if f"decisions/{path.name}" not in text] == []
