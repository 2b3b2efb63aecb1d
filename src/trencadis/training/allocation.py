"""How the C library treats freed memory while a model trains."""

import ctypes
import sys

# Options of glibc's mallopt, from its malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST = 2**30


def keep_freed_memory() -> bool:
    """Make glibc keep up to 1 GiB of freed memory for the next tensors, for the rest of the process.

    Otherwise it gives the memory of large tensors back to the system at once, and an update takes it again page by
    page. Memory in use at the same time stays the same, up to the gaps between tensors.

    Returns:
        Whether the C library is one that can be told so.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(TRIM_THRESHOLD, MOST), mallopt(MMAP_THRESHOLD, MOST)])
