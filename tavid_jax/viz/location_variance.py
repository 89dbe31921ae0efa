"""Variance of tracks explained by their place in the frame: bars, and maps of every cell's mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tavid_jax.viz import heat
from tavid_jax.viz.curves import PALETTE, figure_bytes, styled

# Data set -> coordinates ("absolute", ...) -> one for each axis.
Bars = Mapping[str, Mapping[str, Float[np.ndarray, " 2"]]]
Maps = Mapping[str, Mapping[str, Float[np.ndarray, "gh gw 2"]]]


@styled
def variance_bars(explained: Bars, title: str = "") -> bytes:
    """PNG of explained variance in percent: a group for every data set, a bar for coordinates and
    axis, as in TrajLoom's appendix B.1.

    Raises:
      ValueError: nothing to draw.
    """
    if not explained:
        raise ValueError("no explained variance to draw")
    kinds = list(next(iter(explained.values())))
    figure = Figure((max(6.6, 1.6 + 1.7 * len(explained)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    bars = [(kind, k) for kind in kinds for k in range(2)]
    width = 0.84 / len(bars)
    for index, (kind, k) in enumerate(bars):
        heights = np.array([float(of[kind][k]) for of in explained.values()])
        places = np.arange(len(explained)) + (index - (len(bars) - 1) / 2) * width
        drawn = axis.bar(
            places,
            np.nan_to_num(heights),
            0.92 * width,
            color=PALETTE[kinds.index(kind)],
            alpha=(1.0, 0.6)[k],
            label=f"{kind}, {'xy'[k]}",
        )
        axis.bar_label(drawn, [f"{value:.1f}" for value in heights], fontsize=7.5, padding=1)
    axis.set_xticks(np.arange(len(explained)), list(explained))
    axis.set_ylim(0, 112)
    axis.set_yticks(range(0, 101, 20))
    axis.grid(False, axis="x")
    axis.set_axisbelow(True)
    axis.set_ylabel("variance explained by place (%)")
    if title:
        axis.set_title(title)
    figure.legend(loc="outside lower left", ncols=len(kinds) * 2)
    return figure_bytes(figure, "png")


@styled
def mean_maps(means: Maps) -> bytes:
    """PNG of the mean of every cell, in px: a row for every data set, from its least to its largest
    value dark blue over green to yellow. Cells that were never seen are grey.

    Raises:
      ValueError: nothing to draw.
    """
    if not means:
        raise ValueError("no means to draw")
    columns = 2 * len(next(iter(means.values())))
    figure = Figure((3.1 * columns, 0.4 + 2.2 * len(means)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(means), columns, squeeze=False)
    for row, (name, kinds) in zip(grid, means.items(), strict=True):
        pairs = [(kind, mean, k) for kind, mean in kinds.items() for k in range(2)]
        for axis, (kind, mean, k) in zip(row, pairs, strict=True):
            _draw_map(axis, mean[..., k], f"{name}: {kind}, {'xy'[k]}")
    return figure_bytes(figure, "png")


def _draw_map(axis: Axes, values: Float[np.ndarray, "gh gw"], title: str) -> None:
    known = np.isfinite(values)
    low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, 0.0)
    picture = heat.colours(heat.scaled(np.where(known, values, low)))
    picture[~known] = 128
    axis.imshow(picture, interpolation="nearest")
    axis.set_axis_off()
    axis.set_title(f"{title}\n{low:.1f} to {high:.1f} px", fontsize=9)
