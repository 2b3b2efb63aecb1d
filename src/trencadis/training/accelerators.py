"""Accelerators by name, for plans of machines that are not here: what their makers say, nothing that we measured."""

from dataclasses import dataclass

UTILISATION = 0.35
"""Share of the peak that products reach in training. nanochat reports 41–50 % and torchtitan 33–39 % on H100s."""

BANDWIDTH_SHARE = 0.7
"""Share of the memory's bandwidth that is reached, as gpt-fast reports for an A100."""

NARROW_FASTER = 8.0
"""Products in 16 bits are so many times as fast as those in float32 on a V100 and a T4."""

KERNEL_S = 5e-6
"""Least seconds of an operation: kernels of a small model are launched more slowly than they run."""


@dataclass(frozen=True)
class Accelerator:
    """One device.

    Args:
        peak_flops: Dense products in 16 bits, FLOP/s.
        bandwidth: Of its memory, bytes/s.
        memory_bytes: How much it has.
        link: To the others of a machine, bytes/s in one direction.
        has_bfloat16: It computes in bfloat16; else a plan has float16 for the transformer, with gradient scales.
    """

    peak_flops: float
    bandwidth: float
    memory_bytes: float
    link: float
    has_bfloat16: bool = True


ACCELERATORS = {
    "v100": Accelerator(125e12, 0.9e12, 16e9, 150e9, has_bfloat16=False),  # SXM2, 16 GB
    "t4": Accelerator(65e12, 0.3e12, 16e9, 16e9, has_bfloat16=False),  # PCIe 3.0
    "l4": Accelerator(121e12, 0.3e12, 24e9, 32e9),  # PCIe 4.0
    "a100": Accelerator(312e12, 2.04e12, 80e9, 300e9),  # SXM, 80 GB
    "h100": Accelerator(989e12, 3.35e12, 80e9, 450e9),  # SXM
    "h200": Accelerator(989e12, 4.8e12, 141e9, 450e9),
}
"""Source: NVIDIA's data sheets of each. Figures "with sparsity" are halved."""
