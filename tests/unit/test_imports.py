import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trencadis

PACKAGE = Path(trencadis.__file__).parent

# A module imports only from those before it, and from itself. docs/architecture.md draws the same.
ORDER = (
    "errors",
    "spelling",
    "console",
    "memory",
    "storage",
    "randomness",
    "progress",
    "devices",
    "config",
    "recipes",
    "protocols",
    "weight_cache",
    "pretrained",
    "parts",
    "run_directory",
    "data",
    "text",
    "image",
    "stream",
    "transformer",
    "sampling",
    "ranking",
    "drawn",
    "generation",
    "judgement",
    "model_directory",
    "run_log",
    "inspection",
    "pipeline",
    "report",
    "training",
    "importers",
    "serving",
    "cli",
)
FREE = ("__init__", "__main__")
NAMELESS = {"util", "utils", "common", "helper", "helpers", "misc"}
HEAVY = {"torch", "numpy", "PIL", "tokenizers", "safetensors", "huggingface_hub", "transformers"}
PATHS = sorted(PACKAGE.rglob("*.py"))


def head(path: Path) -> str:
    """Return the part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_heads(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            if node.module == "trencadis":
                yield from (alias.name for alias in node.names)
            elif node.module is not None and node.module.startswith("trencadis."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("trencadis."))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_those_above_it(path: Path) -> None:
    if head(path) in FREE:
        return
    assert head(path) in ORDER, "a new module takes a place in ORDER and in docs/architecture.md"
    above = ORDER[: ORDER.index(head(path)) + 1]
    too_low = [name for name in imported_heads(ast.parse(path.read_text("utf-8"))) if name not in above]
    assert not too_low


def test_a_function_lives_where_its_noun_lives() -> None:
    assert not [path for path in PATHS if path.stem.strip("_") in NAMELESS or path.parent.name in NAMELESS]


def test_commands_and_configs_import_nothing_heavy() -> None:
    names = [f"trencadis.cli.{path.stem}" for path in sorted((PACKAGE / "cli").glob("*.py")) if path.stem not in FREE]
    names += ["trencadis", "trencadis.cli", "trencadis.config", "trencadis.recipes"]
    code = f"import sys, {', '.join(names)}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_the_public_names_are_sorted_and_there() -> None:
    assert list(trencadis.__all__) == sorted(trencadis.__all__, key=lambda name: (not name.isupper(), name))
    for name in trencadis.__all__:
        assert getattr(trencadis, name).__name__ == name
    assert dir(trencadis) == sorted(trencadis.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = trencadis.nothing
