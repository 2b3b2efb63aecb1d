"""Freed memory that stays in the process."""

import subprocess
import sys

import pytest

# A process of its own: the setting lasts, and the counts of faults should be of this loop alone.
FAULTS = """
import resource, torch
from trencadis.training.allocation import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
plain = faults()
if keep_freed_memory():
    faults()
    print(plain, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_large_tensors_take_the_memory_of_those_before_them() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    if not done.stdout:
        pytest.skip("another C library than glibc")
    plain, kept = map(int, done.stdout.split())
    assert kept < plain / 10
