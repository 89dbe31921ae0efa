"""What a chip can do at most: dense bfloat16 products, without sparsity, by the vendors' sheets."""

from __future__ import annotations

import re

TERA = 1e12

#: (what `jax.Device.device_kind` says, FLOP/s of one chip); the first that matches counts. JAX
#: shows every one of these TPU chips as one device.
PEAKS: tuple[tuple[str, float], ...] = (
    (r"TPU v4$", 275 * TERA),
    (r"TPU v5( ?lite|e)", 197 * TERA),
    (r"TPU v5p?$", 459 * TERA),
    (r"TPU v6( ?lite|e)", 918 * TERA),
    (r"A100", 312 * TERA),
    (r"H100.*PCIe", 756 * TERA),
    (r"H100.*NVL", 835 * TERA),
    (r"H100|H200|GH200", 989 * TERA),
)


def peak_flops(device_kind: str) -> float | None:
    """FLOP/s of one chip in bfloat16; None for a chip that the table does not know, and CPUs."""
    for pattern, peak in PEAKS:
        if re.search(pattern, device_kind, re.IGNORECASE):
            return peak
    return None
