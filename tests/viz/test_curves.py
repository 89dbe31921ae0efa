"""Curves: what is averaged, which numbers are drawn, and that the SVG suits a page."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from tavid_jax.viz import curves

RECORDS = [
    {"step": t, "loss": 10.0 * 0.9**t, "kl": 1.0 + t % 2, "note": "x", "flag": True, "bad": None}
    for t in range(50)
]


def words(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]


def test_ema_is_bias_corrected_and_passes_over_nan():
    assert curves.ema(np.full(5, 3.0), 0.9).tolist() == pytest.approx([3.0] * 5)
    got = curves.ema(np.array([np.nan, 1.0, np.nan, 3.0]), 0.5)
    assert np.isnan(got[0])
    # Weights halve with every finite value: (0.5 * 1 + 1 * 3) / 1.5.
    assert got[1:].tolist() == pytest.approx([1.0, 1.0, 3.5 / 1.5])
    np.testing.assert_array_equal(curves.ema(np.array([1.0, 5.0]), 0.0), [1.0, 5.0])
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        curves.ema(np.ones(2), 1.0)


def test_only_numbers_with_a_step_are_collected():
    series = curves.collect([*RECORDS, {"loss": 5.0}, {"step": 60, "late": np.float32(2)}])
    assert list(series) == ["loss", "kl", "late"]
    assert len(series["loss"][0]) == 50
    assert series["late"][0].tolist() == [60] and series["late"][1].tolist() == [2]


def test_loss_curves_as_svg():
    svg = curves.loss_curves(RECORDS, ["loss", "kl"], title="Stage one")
    text = svg.decode()
    shown = words(svg)
    assert any(word.startswith("loss") for word in shown)
    assert any(word.startswith("kl") for word in shown)
    assert "Stage one" in shown and "step" in shown
    assert "currentColor" in text and "<metadata>" not in text and "<image" not in text
    assert "#000000" not in text  # nothing that a dark page would swallow
    assert curves.loss_curves(RECORDS, ["loss", "kl"], title="Stage one") == svg  # deterministic


def test_log_scale_is_chosen_for_decades():
    for name, chosen in (("loss", True), ("kl", False)):
        made = {log: curves.loss_curves(RECORDS, [name], log=log) for log in (None, True, False)}
        assert made[True] != made[False]
        assert made[None] == made[chosen], name


def test_png_is_a_picture():
    image = Image.open(io.BytesIO(curves.loss_curves(RECORDS, format="png")))
    assert image.format == "PNG" and image.width > 500


def test_small_multiples_name_panels_axes_and_lines():
    panels = {
        "orbit": {"ours": ([1, 2], [1.0, 2.0]), "still": (np.arange(2), np.ones(2))},
        "spin": {"ours": ([1, 2], [2.0, 1.0])},
    }
    shown = words(curves.small_multiples(panels, x_label="frame", y_label="px", share_y=True))
    assert {"orbit", "spin", "frame", "px", "ours", "still"} <= set(shown)
    assert shown.count("ours") == 1


@pytest.mark.parametrize("bars", [False, True])
def test_interval_plot(bars):
    svg = curves.interval_plot(
        [("ours", 4.8, 4.6, np.float32(5.1)), ("still", 5.6, np.nan, np.nan),
         ("none", np.nan, np.nan, np.nan)],
        unit="px", reference=("truth", 5.0), emphasis="ours", bars=bars, title="ADE",
    )  # fmt: skip
    assert {"ours", "still", "none", "px", "truth", "ADE"} <= set(words(svg))
    text = svg.decode()
    assert curves.PALETTE[0] in text and curves.PALETTE[-1] in text


def test_figures_are_laid_out_without_holes():
    for count, columns in ((1, 1), (4, 4), (5, 3), (6, 3), (8, 4)):
        figure, axes = curves._grid(count, None, 2.0, "")
        assert len(axes) == count
        assert max(axis.get_subplotspec().colspan.stop for axis in axes) == columns
        assert len(figure.axes) == count


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"no record holds \['lost'\]"):
        curves.loss_curves(RECORDS, ["lost"])
    with pytest.raises(ValueError, match="nothing to draw"):
        curves.loss_curves([])
    with pytest.raises(ValueError, match="at least one panel"):
        curves.small_multiples({})
    with pytest.raises(ValueError, match="at least one row"):
        curves.interval_plot([])
    with pytest.raises(ValueError, match="unknown figure format 'pdf'"):
        curves.loss_curves(RECORDS, format="pdf")


def test_bars_over_numbers():
    series = {"target": ([0.1, 0.4], [0.02, 0.03]), "box": ([0.2, 0.3], None)}
    drawn = curves.numbered_bars(
        series, [5, 8], x_label="block", y_label="IoU", reference=("chance", 0.05), title="a model"
    )
    assert {"5", "8", "block", "IoU", "chance", "target", "box", "a model"} <= set(words(drawn))
    png = curves.numbered_bars(series, [5, 8], format="png")
    assert Image.open(io.BytesIO(png)).format == "PNG"
    many = curves.numbered_bars({"a": (np.ones(42), None)}, range(42))
    assert {"0", "40"} <= set(words(many)) and "41" not in words(many)
    with pytest.raises(ValueError, match="at least one series"):
        curves.numbered_bars({}, [1])
    with pytest.raises(ValueError, match="target: 2 heights, 3 numbers"):
        curves.numbered_bars({"target": ([1, 2], None)}, [1, 2, 3])
