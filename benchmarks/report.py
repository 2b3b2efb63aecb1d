"""The output: a table for people, and the same figures with all samples as JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.options import STDOUT
from trencadis.storage import write_whole

PLAIN_WIDTH = 200  # columns, if there is no terminal
Columns = Mapping[str, str]
"""Headings by row key, in order."""


def publish(report: Mapping[str, Any], tables: Sequence[Table], out: Path | None) -> None:
    """Print the tables and write the JSON.

    Args:
        report: The JSON; its `setting`, and its `ceilings` if present, are printed too.
        tables: For people; printed to stderr if the JSON goes to stdout.
        out: A file, `STDOUT`, or None for no JSON.
    """
    stream = sys.stderr if out == STDOUT else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else PLAIN_WIDTH)
    for table in tables:
        console.print(table)
    for line in notes(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    text = json.dumps(report, indent=2) + "\n"
    if out == STDOUT:
        print(text, end="")
    elif out is not None:
        write_whole(out, text)


def table(title: str, columns: Columns, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rows as a table. Missing cells stay empty, and columns without values are left out."""
    drawn = Table(title=title, title_justify="left")
    shown = {key: heading for key, heading in columns.items() if any(row.get(key) is not None for row in rows)}
    for key, heading in shown.items():
        is_text = all(isinstance(row.get(key), str | None) for row in rows)
        drawn.add_column(heading, justify="left" if is_text else "right")
    for row in rows:
        drawn.add_row(*[_cell(key, row.get(key)) for key in shown])
    return drawn


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key.startswith("share_"):
        return f"{value:.1%}"
    if key.endswith("_bytes"):
        unit, size = ("MiB", 2**20) if value >= 2**20 else ("KiB", 2**10)
        return f"{value / size:.4g} {unit}"
    if key.startswith("times_"):
        return f"{value:.2f}×"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def notes(report: Mapping[str, Any]) -> list[str]:
    """Return the lines below the tables: shape, ceilings and setting."""
    setting, shape = report["setting"], report["shape"]
    lines = ["shape: " + ", ".join(f"{name} {value}" for name, value in shape.items())]
    if ceilings := report.get("ceilings"):
        lines.append(
            f"ceilings: {ceilings['linear_read_gb_s']:.3g} GB/s for weights read by F.linear, batch 1; "
            f"{ceilings['plain_read_gb_s']:.3g} GB/s for a sum of the same weights; "
            f"{ceilings['matmul_gflop_s']:.4g} GFLOP/s for a float32 product by torch's own operator, "
            f"{ceilings['fastest_matmul_gflop_s']:.4g} by the fastest operator"
            + (f", {ceilings['bfloat16_gflop_s']:.4g} in bfloat16" if "bfloat16_gflop_s" in ceilings else "")
        )
        if ceilings["fits_cache"]:
            size, cache = ceilings["weights_bytes"] / 2**20, ceilings["cache_bytes"] / 2**20
            lines.append(
                f"these {size:.3g} MiB of weights fit into the cache of {cache:.3g} MiB, or almost fit: the rates are "
                "not those of the memory"
            )
    lines += [f"{name}: {words}" for name, words in report.get("contenders", {}).items()]
    state = " with changes" if setting["dirty"] else ""
    lines.append(f"load of the machine before: {setting['load_average']:.1f}; other processes make the figures worse")
    lines.append(
        f"{setting['cpu']}, threads {setting['threads']}, torch {setting['torch']}, commit {setting['commit']}{state}, "
        f"{setting['date']}; {setting['statistic']}"
    )
    return lines
