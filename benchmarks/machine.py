"""The machine and the code version of a measurement."""

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def setting(*, threads: int, repeats: int) -> dict[str, Any]:
    """Return what is needed to judge and repeat the figures. Call it before the measurement."""
    import torch

    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "threads": threads,
        "load_average": os.getloadavg()[0],  # of the last minute
        "repeats": repeats,
        "statistic": f"median of {repeats}; of the ceilings, the best",
    }


def commit() -> dict[str, Any]:
    """Return the checkout's commit, and whether tracked files differ from it; None and None outside git."""
    try:
        revision = _git("rev-parse", "HEAD")
        return {"commit": revision, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cpu_name() -> str:
    """Return the CPU's name from the kernel."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def last_level_cache_bytes() -> int | None:
    """Return the size of the first core's largest cache; None if the kernel does not report it."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text))
    return max(sizes, default=None)
