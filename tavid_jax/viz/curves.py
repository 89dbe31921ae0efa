"""Loss curves, comparisons with intervals and small multiples, as SVG or PNG bytes.

SVG text and axes use `currentColor`: set inline into a page they follow its light or dark mode.
Figures are made without pyplot: no screen, no window list that would keep them alive. matplotlib
is imported by the first of them: a run that starts has no use for it, and would wait a third of a
second.
"""

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from tavid_jax.viz.canvas import Number

PALETTE = ("#4c8bf5", "#f2894e", "#2fb380", "#b06ee0", "#e0589a", "#c9a227", "#3aaec4", "#8a94a6")
_INK = "#0a0b0c"  # replaced by currentColor in SVG
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tavid_jax",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def styled(draw: Callable) -> Callable:
    """The function, drawing in this package's style."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def ema(values: Float[np.ndarray, " n"], decay: Number = 0.9) -> Float[np.ndarray, " n"]:
    """Bias-corrected exponential moving average; non-finite values are passed over.

    The first outputs are means of what has been seen; NaN until the first finite value.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"ema decay must lie in [0, 1), got {decay}")
    total = weight = 0.0
    out = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if np.isfinite(value):
            total = decay * total + (1 - decay) * float(value)
            weight = decay * weight + (1 - decay)
        if weight > 0:
            out[i] = total / weight
    return out


@styled
def loss_curves(
    records: Sequence[Mapping],
    names: Sequence[str] | None = None,
    *,
    decay: Number = 0.9,
    log: bool | None = None,
    columns: int | None = None,
    title: str = "",
    format: str = "svg",
) -> bytes:
    """One small plot per quantity over steps: raw values faint, their moving average strong.

    Args:
      records: lines of a telemetry file, each with "step" and some name -> number; None and
        non-numbers are passed over.
      names: which quantities; default: every numeric one that occurs, in order of appearance.
      log: logarithmic height; None chooses it for positive values that span more than a decade.

    Raises:
      ValueError: a name occurs in no record, or there is nothing to draw.
    """
    from matplotlib.ticker import MaxNLocator, NullFormatter

    series = collect(records)
    if names is not None:
        missing = [name for name in names if name not in series]
        if missing:
            raise ValueError(f"no record holds {missing}; there are {sorted(series)}")
        series = {name: series[name] for name in names}
    if not series:
        raise ValueError("nothing to draw: no record holds a step and a number")
    figure, axes = _grid(len(series), columns, 2.3, title)
    for i, (axis, (name, (steps, values))) in enumerate(zip(axes, series.items(), strict=True)):
        color = PALETTE[i % len(PALETTE)]
        smooth = ema(values, decay)
        axis.plot(steps, values, color=color, alpha=0.28, linewidth=0.8)
        axis.plot(steps, smooth, color=color, linewidth=1.8)
        if log if log is not None else _spans_decades(values):
            axis.set_yscale("log")
            if _spans_decades(values):
                axis.yaxis.set_minor_formatter(NullFormatter())
        finite = smooth[np.isfinite(smooth)]
        last = f"   {finite[-1]:.3g}" if len(finite) else ""
        axis.set_title(name + last)
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.margins(x=0.01)
    return figure_bytes(figure, format)


def collect(records: Sequence[Mapping]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> (steps, values) of every number in records that have a step; NaN is kept."""
    series: dict[str, tuple[list, list]] = {}
    for record in records:
        step = record.get("step")
        if not _is_number(step):
            continue
        for name, value in record.items():
            if name != "step" and _is_number(value):
                steps, values = series.setdefault(name, ([], []))
                steps.append(float(step))
                values.append(float(value))
    return {name: (np.array(s), np.array(v)) for name, (s, v) in series.items()}


@styled
def small_multiples(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    *,
    x_label: str = "",
    y_label: str = "",
    columns: int | None = None,
    log: bool = False,
    share_y: bool = False,
    title: str = "",
    format: str = "svg",
) -> bytes:
    """Panels of lines: panel -> line -> (x values, y values). A line name keeps its colour."""
    if not panels:
        raise ValueError("small_multiples needs at least one panel")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    figure, axes = _grid(len(panels), columns, 2.5, title, share_y=share_y)
    for axis, (panel, lines) in zip(axes, panels.items(), strict=True):
        for name, (xs, ys) in lines.items():
            color = PALETTE[names.index(name) % len(PALETTE)]
            axis.plot(xs, ys, color=color, linewidth=1.8, label=name)
        if log:
            axis.set_yscale("log")
        axis.set_title(panel)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
    if len(names) > 1:
        handles = {h.get_label(): h for axis in axes for h in axis.get_lines()}
        # Inches of the longest name, with its line.
        width = 0.6 + 0.085 * max(map(len, names))
        columns = max(1, int(figure.get_figwidth() / width))
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=columns)
    return figure_bytes(figure, format)


@styled
def interval_plot(
    rows: Sequence[tuple[str, Number, Number, Number]],
    *,
    unit: str = "",
    reference: tuple[str, Number] | None = None,
    emphasis: str | None = None,
    bars: bool = False,
    title: str = "",
    format: str = "svg",
) -> bytes:
    """Values with their intervals, one row per system, the first at the top.

    Args:
      rows: (label, value, low, high); a non-finite value leaves its row empty, non-finite ends
        leave the interval out.
      unit: written under the axis.
      reference: (label, value) of a dashed line, e.g. ("truth", 0.166) or ("no difference", 0.0).
      emphasis: label of the row in the first colour; the others are grey. None colours all.
      bars: bars from zero in place of dots (only sensible for quantities with a true zero).
    """
    if not rows:
        raise ValueError("interval_plot needs at least one row")
    height = 0.7 + 0.36 * len(rows) + (0.35 if title else 0)
    figure, (axis,) = _grid(1, 1, height, title)
    heights = np.arange(len(rows))[::-1]
    for height, (label, value, low, high) in zip(heights, rows, strict=True):
        color = PALETTE[0] if emphasis in (None, label) else PALETTE[-1]
        if not np.isfinite(value):
            continue
        if bars:
            axis.barh(height, value, height=0.62, color=color, alpha=0.85)
        else:
            axis.plot([value], [height], "o", color=color, markersize=7)
        if np.isfinite(low) and np.isfinite(high):
            ink = _INK if bars else color
            axis.plot([low, high], [height, height], color=ink, linewidth=1.6 if bars else 2.4)
    if reference is not None:
        axis.axvline(reference[1], color=_INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
        axis.annotate(
            reference[0], (reference[1], 1.0), xycoords=("data", "axes fraction"),
            xytext=(4, 0), textcoords="offset points", fontsize=8.5, va="bottom",
        )  # fmt: skip
    axis.set_yticks(heights, [row[0] for row in rows])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.grid(False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(unit)
    return figure_bytes(figure, format)


@styled
def numbered_bars(
    series: Mapping[str, tuple[ArrayLike, ArrayLike | None]],
    numbers: Sequence[int | str],
    *,
    x_label: str = "",
    y_label: str = "",
    reference: tuple[str, Number] | None = None,
    title: str = "",
    format: str = "svg",
) -> bytes:
    """Bars over numbers or names; several series stand beside each other.

    Args:
      series: name -> (heights, one for each number; their errors or None).
      numbers: below the bars.
      reference: (label, height) of a dashed line.

    Raises:
      ValueError: nothing to draw, or another number of heights.
    """
    if not series or not len(numbers):
        raise ValueError("numbered_bars needs at least one series and one number")
    figure, (axis,) = _grid(1, 1, 2.9, title)
    wide = max(6.6, min(11.2, 2.0 + 0.3 * len(numbers) * len(series)))
    figure.set_size_inches(wide, 2.9)
    places, width = np.arange(len(numbers)), 0.8 / len(series)
    for i, (name, (heights, errors)) in enumerate(series.items()):
        if len(np.asarray(heights)) != len(numbers):
            raise ValueError(f"{name}: {len(np.asarray(heights))} heights, {len(numbers)} numbers")
        shift = (i - (len(series) - 1) / 2) * width
        axis.bar(
            places + shift, heights, width=0.92 * width, yerr=errors, label=name,
            color=PALETTE[i % len(PALETTE)], error_kw={"ecolor": _INK, "elinewidth": 1.2},
        )  # fmt: skip
    if reference is not None:
        line = axis.axhline(reference[1], color=_INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
        line.set_label(reference[0])
    stride = -(-len(numbers) // 24)
    axis.set_xticks(places[::stride], [str(number) for number in numbers][::stride])
    axis.grid(False, axis="x")
    axis.set_xlim(-0.6, len(numbers) - 0.4)
    axis.set_ylim(bottom=0)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    if len(series) > 1 or reference is not None:
        columns = max(1, int(wide / 2.6))  # inches of a long name
        figure.legend(loc="outside lower left", ncols=columns)
    return figure_bytes(figure, format)


def _grid(
    count: int, columns: int | None, row_height: float, title: str, *, share_y: bool = False
) -> tuple[Any, list]:
    """A matplotlib figure of page width (one or two plots: less) with `count` axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if columns is None:  # three or four in a row, whichever leaves fewer holes
        columns = count if count <= 4 else min((4, 3), key=lambda n: -count % n)
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    width = {1: 6.6, 2: 8.4}.get(columns, 11.2)
    figure = Figure((width, row_height * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.06)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure, axes[:count]


def figure_bytes(figure: Any, format: str) -> bytes:
    """A matplotlib figure as "svg" or "png"; see the module for the colours of SVG."""
    if format not in ("svg", "png"):
        raise ValueError(f"unknown figure format {format!r}: use 'svg' or 'png'")
    buffer = io.BytesIO()
    if format == "png":
        figure.savefig(buffer, format="png", dpi=150, facecolor="white")
        return buffer.getvalue()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace(_INK, "currentColor").encode()


def _spans_decades(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() > 0 and finite.max() > 10 * finite.min())


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
