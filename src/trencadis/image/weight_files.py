"""Files of weights from elsewhere: safetensors, or torch's with nothing in them executed."""

import pickle
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from trencadis.errors import ModelError
from trencadis.memory import in_memory


@in_memory("loading weights")
def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; none where it holds something else.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        given, remedy = (
            f"{path} cannot be read: {' '.join(str(error).split())[:100]}",
            "name a .safetensors or .pth file",
        )
        raise ModelError(given, expected="a file of weights", remedy=remedy) from error
    return loaded if isinstance(loaded, dict) else {}
