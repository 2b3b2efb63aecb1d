"""The examples are scripts in folders of their own, which import what lies beside them."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "examples" / name) for name in ("emoji", "tune")]
