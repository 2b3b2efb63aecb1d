"""Run a command of the mosaic world: `python examples/mosaic build --out mosaic`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts this folder first, where the package would not be found by its name.
    examples = Path(__file__).resolve().parents[1]
    sys.path[0] = str(examples)
    sys.path.append(str(examples / "emoji"))  # its intervals
    from mosaic.commands import main

    sys.exit(main())
