"""Forecasts from the first part of a run's log, beside what the run then measured.

    python -m benchmarks.forecasts runs/mine runs/other

For each run and each of its stages with enough validations, the forecast of `trencadis plan` is fitted to the first
ones and asked for the last one. `within` says whether that is in the interval, which holds the truth with a probability
of 90 %. Nothing is trained. PSNR, which has no bound and rises, is forecast as its negative.

JSON: `benchmark`, `setting`, `shape` (of nothing), `rows`.
"""

import math
import sys
from pathlib import Path
from typing import Any

import jsonargparse

from benchmarks.options import run_command
from trencadis.cli.arguments import existing_directory

METRICS = {"image": ("validation_psnr", -1.0, -math.inf), "transformer": ("validation_bits_per_image_token", 1.0, 0.0)}
"""Of a stage: what is forecast, its sign, and the least of the signed value."""

FITTED = (4, 6, 8)
COLUMNS = {
    "run": "run",
    "metric": "metric",
    "fitted": "validations",
    "times_further": "extended",
    "forecast": "forecast",
    "measured": "measured",
    "within": "within",
}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the forecasts of a run."""
    from trencadis.run_directory import RunDirectory
    from trencadis.run_log import read_log
    from trencadis.training.forecast import Point, fit_law

    rows = []
    lines = read_log(RunDirectory(path))
    for stage, (metric, sign, lowest) in METRICS.items():
        found = [line for line in lines if line["stage"] == stage and line.get(metric) is not None]
        points = [Point(line["step"], 1.0, sign * line[metric]) for line in found]
        for fitted in FITTED:
            if len(points) <= fitted:
                continue
            last = points[-1]
            interval = fit_law(points[:fitted], lowest=lowest).at(last.seen, 1.0)
            half = max(interval.high - interval.middle, interval.middle - interval.low)
            rows.append(
                {
                    "run": path.name,
                    "metric": metric,
                    "fitted": fitted,
                    "times_further": last.seen / points[fitted - 1].seen,
                    "forecast": f"{abs(interval.middle):.2f} ± {half:.2f}",
                    "measured": abs(last.value),
                    "within": "yes" if interval.low <= last.value <= interval.high else "no",
                }
            )
    return rows


def _add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", type=existing_directory(), help="a run with a log")


def _run(arguments: jsonargparse.Namespace) -> None:
    from benchmarks.machine import setting
    from benchmarks.report import publish, table

    rows = [row for path in arguments.runs for row in rows_of(path)]
    report = {"benchmark": "forecasts", "setting": setting(threads=1, repeats=1), "shape": {}, "rows": rows}
    publish(report, [table("Forecasts", COLUMNS, rows)], arguments.json)


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command("forecasts", "Compares forecasts with what runs measured.", _add_arguments, _run, argv)


if __name__ == "__main__":
    sys.exit(main())
