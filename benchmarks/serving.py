"""How a server behaves under load: `python -m benchmarks.serving speed`, with the extra `serve` and httpx2 (Linux).

Each measurement has a short form and, with --full, the one of docs/results.md. It prints a row for that page, and ends
with 1 where something happened that should not.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import server_faults, server_load
from benchmarks.machine import commit, cpu_name


@dataclass(frozen=True)
class Measurement:
    """A measurement, and its numbers in the short and in the full form."""

    measure: Callable[..., tuple[str, list[str]]]
    short: tuple[Any, ...]
    full: tuple[Any, ...]


MEASUREMENTS = {
    "speed": Measurement(server_load.speed, (1,), (5,)),  # rounds
    "crowd": Measurement(server_load.crowd, (200, 10.0), (200, 60.0)),  # clients, seconds
    "malformed": Measurement(server_faults.malformed, (300,), (10_000,)),  # requests
    "disconnects": Measurement(server_faults.disconnects, (5,), (100,)),  # clients
    "stops": Measurement(server_faults.stops, (2,), (20,)),  # servers
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--full", action="store_true", help="the form of docs/results.md")
    parser.add_argument("options", nargs="*", help="of `trencadis serve`, behind --")
    chosen = parser.parse_args(arguments)
    measurement = MEASUREMENTS[chosen.what]
    numbers = measurement.full if chosen.full else measurement.short
    figures, faults = measurement.measure(chosen.options, *numbers)
    print(f"| {figures} | {str(commit()['commit'])[:7]} | {cpu_name()} |")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
