"""Shapes and types of every public signature are checked while the tests run."""

import torch
from jaxtyping import install_import_hook

# Imported before anything of trencadis, so that every module passes through the hook.
install_import_hook("trencadis", "beartype.beartype")
torch.set_num_threads(2)
