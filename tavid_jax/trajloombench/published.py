"""What TrajLoom's paper reports (arXiv 2603.22606, v1), to stand beside values measured here.

Only cells that are known stand here; one that is not is left out, never guessed. The text that
they come from had lost its powers of ten: the factors in `SCALES` are inferred from magnitudes.
FlowTV and DivCurlE of the final model differ between the paper's tables (1 and 6 against 3 and 5),
so its numbers are good to 10-30 %. WHN's are TrajLoom's measurement of it, by a wrapper that is not
public.

Known is that Table 1 compares methods, 2 autoencoders, 6 solvers, and that on-policy fine-tuning is
judged by FVMD-Long. That the ablations stand in 3 (on-policy), 4 (autoencoder) and 5 (boundary
hints) is inferred: 3 and 5 share the final model's smoothness, hence both are of forecasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SOURCE = "arXiv 2603.22606"
# Metric -> what a printed value is to be multiplied by: 7.53 stands for 7.53e-3.
SCALES = {"fvmd": 1.0, "fvmd_long": 1e3, "flow_tv": 1e-3, "div_curl": 1e-5, "vepe": 1.0}
ORDER = ("kinetics", "robotap", "kubric", "magicdata")
# Metric -> data set -> value as printed.
Row = Mapping[str, Mapping[str, float | int]]


def _row(**metrics: tuple[float | int, ...]) -> Row:
    return {name: dict(zip(ORDER, values, strict=True)) for name, values in metrics.items()}


class Published(NamedTuple):
    """A row of one of the paper's tables; `values` is empty where none of it is known."""

    label: str
    role: str
    values: Row


TRAJLOOM, WHN = "trajloom", "whn"
NO_ON_POLICY, NO_BOUNDARY = "w/o on-policy", "w/o boundary hints"
NO_OFFSETS, NO_CONSISTENCY = "w/o offsets", "w/o consistency"

TABLES: dict[int, tuple[Published, ...]] = {
    1: (
        Published(
            "WHN (L)",
            WHN,
            _row(
                fvmd=(8999, 7587, 4872, 10383),
                flow_tv=(24.71, 27.26, 12.56, 26.74),
                div_curl=(34.69, 37.39, 9.89, 40.04),
            ),
        ),
        Published(
            "TrajLoom",
            TRAJLOOM,
            _row(
                fvmd=(3626, 2467, 1338, 2968),
                flow_tv=(7.53, 6.03, 6.03, 7.11),
                div_curl=(3.97, 2.03, 2.09, 2.99),
            ),
        ),
    ),
    2: (
        Published("WHN-VAE", WHN, {}),
        Published(
            "TrajLoom-VAE",
            TRAJLOOM,
            _row(vepe_24=(1.99, 1.59, 0.75, 1.72), vepe_81=(2.04, 1.61, 0.77, 1.72)),
        ),
    ),
    3: (
        Published("w/o on-policy", NO_ON_POLICY, _row(fvmd_long=(38.87, 27.38, 13.86, 31.71))),
        Published(
            "TrajLoom",
            TRAJLOOM,
            _row(
                fvmd_long=(35.06, 21.75, 7.24, 28.27),
                flow_tv=(7.65, 5.96, 5.03, 7.11),
                div_curl=(4.21, 1.89, 1.45, 3.09),
            ),
        ),
    ),
    4: (
        Published("w/o offsets", NO_OFFSETS, {}),
        Published("w/o consistency", NO_CONSISTENCY, {}),
        Published("TrajLoom-VAE", TRAJLOOM, {}),
    ),
    5: (
        Published("w/o boundary hints", NO_BOUNDARY, {}),
        Published(
            "TrajLoom",
            TRAJLOOM,
            _row(flow_tv=(7.65, 5.96, 5.03, 7.11), div_curl=(4.21, 1.89, 1.45, 3.09)),
        ),
    ),
    6: (
        Published("WHN (L), Euler", WHN, {}),
        Published("WHN (L), DOPRI5", WHN, {}),
        Published(
            "TrajLoom, Euler-10",
            TRAJLOOM,
            _row(
                fvmd=(3626, 2467, 1338, 2968),
                flow_tv=(7.53, 6.03, 6.03, 7.11),
                div_curl=(3.97, 2.03, 2.09, 2.99),
            ),
        ),
        Published("TrajLoom, DOPRI5", TRAJLOOM, _row(fvmd=(3182, 2546, 1724, 2358))),
    ),
}
