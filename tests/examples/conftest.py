"""The examples are scripts in folders of their own, which import what lies beside them, or packages."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES), *(str(EXAMPLES / name) for name in ("emoji", "tune"))]
