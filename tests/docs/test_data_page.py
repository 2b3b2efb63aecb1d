"""The examples of docs/data.md: each makes a dataset, which counts what the page says."""

import re
import shlex
from pathlib import Path

import pytest

from trencadis.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
IMPORTS, *EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CHECK = re.compile(r"# trencadis (data check .+): (\d+ pairs?, \d+ kept, \d+ left out)\n$")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_read_as_the_page_says(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "pyarrow" in example:
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    exec(IMPORTS + example, {})
    check = CHECK.search(example)
    assert check is not None
    assert main(shlex.split(check[1])) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(f": {check[2]}")


def test_every_example_is_tried() -> None:
    assert (
        len(EXAMPLES) == PAGE.count("```python") - 1 == len(re.findall(r"^# trencadis data check", PAGE, re.MULTILINE))
    )
