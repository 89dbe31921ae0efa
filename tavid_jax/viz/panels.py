"""Labelled panels side by side: history | prediction | truth as one moving picture."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from tavid_jax.viz import canvas, tracks

STRIP_COLUMNS = 6


@dataclasses.dataclass(frozen=True)
class Panel:
    """One picture sequence with its label; all panels of a row have the same size and length."""

    label: str
    frames: UInt8[np.ndarray, "T H W 3"]
    counters: Sequence[str] = ()  # one short text per frame, drawn at the right of the label
    active: Sequence[bool] = ()  # per frame; an inactive panel's label is muted
    accent: canvas.Rgb | None = None


def side_by_side(
    panels: Sequence[Panel],
    *,
    columns: int | None = None,
    progress: Sequence[canvas.Rgb] = (),
    theme: canvas.Theme = canvas.THEME,
) -> UInt8[np.ndarray, "T H W 3"]:
    """Lay panels out in rows of `columns` (default: one row), each under its label.

    Args:
      panels: at least one; equal frame sizes and lengths.
      progress: one colour per frame draws a progress line at the foot, filled up to the frame.

    Raises:
      ValueError: no panel, or panels of different shapes (names them).
    """
    if not panels:
        raise ValueError("side_by_side needs at least one panel")
    shapes = {panel.label: panel.frames.shape for panel in panels}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"panels must have equal shapes (T, H, W, 3), got {shapes}")
    length, height, width = panels[0].frames.shape[:3]
    columns = min(columns or len(panels), len(panels))
    rows = -(-len(panels) // columns)
    foot = 3 if len(progress) else 0
    full_height = rows * (height + theme.header) + (rows + 1) * theme.gap // 2 + theme.gap // 2
    full_width = columns * width + (columns + 1) * theme.gap
    out = np.empty((length, full_height + foot, full_width, 3), np.uint8)
    out[:] = theme.canvas
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        top = row * (height + theme.header + theme.gap // 2)
        left = theme.gap + column * (width + theme.gap)
        below = top + theme.header
        out[:, below : below + height, left : left + width] = panel.frames
        _draw_labels(out[:, top:below, left : left + width], panel, theme)
    if foot:
        _draw_progress(out[:, -foot:], progress, theme)
    return out


def strip(shown: Sequence[Panel], most: int = STRIP_COLUMNS) -> UInt8[np.ndarray, "T H W 3"]:
    """Panels in rows of at most `most`, as even as they go; see `side_by_side`."""
    rows = -(-len(shown) // most)
    return side_by_side(shown, columns=-(-len(shown) // rows))


def counters(frames: UInt8[np.ndarray, "T H W 3"]) -> list[str]:
    """ "3 / 9" for each frame."""
    return [f"{t + 1} / {len(frames)}" for t in range(len(frames))]


def _draw_labels(strips: np.ndarray, panel: Panel, theme: canvas.Theme) -> None:
    drawn = {}
    for t, strip in enumerate(strips):
        counter = panel.counters[t] if len(panel.counters) else ""
        active = bool(panel.active[t]) if len(panel.active) else True
        key = (counter, active)
        if key not in drawn:
            drawn[key] = canvas.label_strip(
                strip.shape[1],
                panel.label,
                counter,
                accent=panel.accent,
                active=active,
                theme=theme,
            )
        strip[:] = drawn[key]


def _draw_progress(strips: np.ndarray, colors: Sequence[canvas.Rgb], theme: canvas.Theme) -> None:
    length, _, width = strips.shape[:3]
    edges = np.round(np.linspace(0, width, length + 1)).astype(int)
    strips[:] = theme.line
    for t in range(length):
        strips[t:, :, edges[t] : edges[t + 1]] = colors[t]


def track_panel(
    frames: UInt8[np.ndarray, "T H W 3"] | None,
    points: Float[np.ndarray, "N T 2"],
    visibility: Bool[np.ndarray, "N T"],
    *,
    size_hw: tuple[int, int],
    label: str = "tracks",
    out_height: int = 256,
    whiten: canvas.Number = 0.0,
    colors: str = "y",
    max_points: int | None = None,
    style: tracks.TrailStyle | None = None,
) -> UInt8[np.ndarray, "T H2 W2 3"]:
    """One clip with its tracks: what a model is given, before it runs.

    Args:
      frames: the clip's frames (any size of the same aspect), or None for a white ground.
      points: px xy of a frame of `size_hw`; visibility: what may be drawn.
      out_height: height of the picture in px, without the label.
    """
    keep = tracks.subset(len(points), max_points)
    size = _out_size(size_hw, out_height)
    ground = canvas.white(size)
    if frames is not None:
        ground = canvas.blend_white(canvas.resize_clip(frames, size), whiten)
    drawn = tracks.draw_trails(
        ground, points[keep], visibility[keep], size_hw=size_hw, colors=colors, style=style
    )
    length = points.shape[1]
    counters = [f"{t + 1} / {length}" for t in range(length)]
    panel = Panel(label, drawn, counters, accent=canvas.THEME.history)
    return side_by_side([panel], progress=[canvas.THEME.history] * length)


def forecast_panel(
    frames_history: UInt8[np.ndarray, "T H W 3"] | None,
    history_tracks: Float[np.ndarray, "N T 2"],
    history_vis: Bool[np.ndarray, "N T"],
    predicted: Float[np.ndarray, "*K M T2 2"],
    pred_vis: Bool[np.ndarray, "*K M T2"],
    true: Float[np.ndarray, "P T2 2"] | None = None,
    true_vis: Bool[np.ndarray, "P T2"] | None = None,
    *,
    size_hw: tuple[int, int],
    out_height: int = 256,
    future_frames: UInt8[np.ndarray, "T2 H W 3"] | None = None,
    history_label: str = "history",
    prediction_labels: str | Sequence[str] = "prediction",
    truth_label: str = "truth",
    whiten: canvas.Number = 0.4,
    colors: str = "y",
    max_points: int | None = None,
    columns: int | None = None,
    style: tracks.TrailStyle | None = None,
) -> UInt8[np.ndarray, "T3 H3 W3 3"]:
    """history | prediction(s) | truth as one clip of T + T2 frames.

    While the history plays, the other panels wait on its last frame, faded towards white. Then the
    history stands still and they play the future. Predictions are always drawn over that last
    frame, never over future frames; the truth uses `future_frames` where they are given.

    Args:
      frames_history: the T given frames, or None for white grounds.
      history_tracks, history_vis: the given tracks (px xy of a frame of `size_hw`).
      predicted, pred_vis: one forecast (N T2 2), or K samples (K N T2 2): one panel each. (The
        annotations say M and P for N so that a mismatch is reported in words.)
      true, true_vis: what happened; None leaves the panel out. Without true_vis every finite true
        place is drawn. On real clips this is a tracker's output: say so in `truth_label`.
      out_height: height of each picture in px.
      prediction_labels: one label, or one per sample; one label for K samples is numbered.
      whiten: share of white in the grounds of the waiting and the future panels.
      max_points: draw at most so many tracks, evenly chosen.
      columns: panels per row; default all in one row.
    """
    _check_counts(history_tracks, predicted, pred_vis, true)
    keep = tracks.subset(len(history_tracks), max_points)
    past, past_vis = history_tracks[keep], history_vis[keep]
    samples = predicted if predicted.ndim == 4 else predicted[None]
    samples_vis = pred_vis if pred_vis.ndim == 3 else pred_vis[None]
    ahead, size = samples.shape[2], _out_size(size_hw, out_height)
    palette = tracks.track_colors(tracks.first_places(past, past_vis), size_hw, colors)
    look = dict(size_hw=size_hw, colors=palette, style=style)

    grounds = canvas.white(size)[None]
    if frames_history is not None:
        grounds = canvas.resize_clip(frames_history, size)
    waiting = canvas.blend_white(grounds[-1], whiten)
    history = tracks.draw_trails(
        grounds if len(grounds) > 1 else grounds[0], past, past_vis, **look
    )
    timeline = _Timeline(history=past.shape[1], future=ahead)

    def future_panel(label, accent, ground, points, visible):
        whole = np.concatenate([past, points[keep]], axis=1, dtype=np.float32)
        seen = np.concatenate([past_vis, visible[keep]], axis=1)
        start = timeline.history
        drawn = tracks.draw_trails(ground, whole, seen, start=start, grey_before=start, **look)
        # A waiting panel shows where the points set out: the last given places, in grey.
        idle = tracks.draw_trails(
            waiting, past, past_vis, start=start - 1, grey_before=start, **look
        )
        return timeline.future_panel(label, accent, idle[0], drawn)

    theme = canvas.THEME
    panels = [timeline.history_panel(history_label, theme.history, history)]
    labels = _sample_labels(prediction_labels, len(samples))
    for label, points, visible in zip(labels, samples, samples_vis, strict=True):
        panels.append(future_panel(label, theme.prediction, waiting, points, visible))
    if true is not None:
        seen = np.isfinite(true).all(-1) if true_vis is None else true_vis
        ground = waiting
        if future_frames is not None:
            ground = canvas.blend_white(canvas.resize_clip(future_frames, size), whiten)
        panels.append(future_panel(truth_label, theme.truth, ground, true, seen))
    progress = [theme.history] * timeline.history + [theme.prediction] * ahead
    return side_by_side(panels, columns=columns, progress=progress)


@dataclasses.dataclass(frozen=True)
class _Timeline:
    """T history frames, then T2 future frames: who moves when, and what the counters say."""

    history: int
    future: int

    def history_panel(self, label: str, accent: canvas.Rgb, drawn: np.ndarray) -> Panel:
        still = np.broadcast_to(drawn[-1], (self.future, *drawn.shape[1:]))
        counters = [f"{t + 1} / {self.history}" for t in range(self.history)]
        counters += [counters[-1]] * self.future
        active = [True] * self.history + [False] * self.future
        return Panel(label, np.concatenate([drawn, still]), counters, active, accent)

    def future_panel(
        self, label: str, accent: canvas.Rgb, idle: np.ndarray, drawn: np.ndarray
    ) -> Panel:
        still = np.broadcast_to(idle, (self.history, *idle.shape))
        counters = [""] * self.history + [f"+{t + 1}" for t in range(self.future)]
        active = [False] * self.history + [True] * self.future
        return Panel(label, np.concatenate([still, drawn]), counters, active, accent)


def _out_size(size_hw: tuple[int, int], out_height: int) -> tuple[int, int]:
    height, width = size_hw
    return out_height, max(1, round(width * out_height / height))


def _sample_labels(labels: str | Sequence[str], count: int) -> list[str]:
    if not isinstance(labels, str):
        if len(labels) != count:
            raise ValueError(f"{len(labels)} prediction labels for {count} samples")
        return list(labels)
    return [labels] if count == 1 else [f"{labels} {k + 1}" for k in range(count)]


def _check_counts(history: np.ndarray, predicted: np.ndarray, pred_vis: np.ndarray, true) -> None:
    if predicted.ndim not in (3, 4) or predicted.shape[:-1] != pred_vis.shape:
        raise ValueError(
            f"predicted {predicted.shape} and pred_vis {pred_vis.shape} must be (N, T2, 2) and "
            "(N, T2), or (K, N, T2, 2) and (K, N, T2)"
        )
    counts = {"history": history.shape[0], "predicted": predicted.shape[-3]}
    if true is not None:
        counts["true"] = true.shape[0]
    if len(set(counts.values())) > 1:
        raise ValueError(f"the number of tracks N differs: {counts}")
