"""The scenes are as hard for trivial forecasts as those the demo was tuned on."""

import numpy as np
import pytest

from tavid_jax.data.synthetic import SceneConfig, motions, split_seeds
from tavid_jax.data.synthetic.dice import uniforms
from tavid_jax.data.synthetic.forecasts import forecast, trivial_forecast_errors


@pytest.fixture(scope="module")
def table():
    return trivial_forecast_errors(SceneConfig(), split_seeds("train", 400))


def test_headline_errors(table):
    # px, mean over scenes of each scene's mean over visible future samples.
    assert table["stand_still"]["all"] == pytest.approx(5.63, rel=0.10)
    assert table["constant_velocity"]["all"] == pytest.approx(6.06, rel=0.10)
    assert table["constant_acceleration"]["all"] == pytest.approx(5.40, rel=0.10)
    assert table["stand_still"]["fde"] == pytest.approx(8.4, rel=0.15)
    assert table["constant_velocity"]["fde"] == pytest.approx(12.8, rel=0.15)


def test_errors_by_kind(table):
    measured = {
        "background": (2.6, 2.9, 2.6),
        "orbit": (15.9, 19.1, 16.2),
        "pendulum": (14.3, 18.9, 19.7),
        "bounce": (10.0, 14.2, 12.4),
        "billiard": (11.6, 6.0, 6.5),
        "accelerate": (5.9, 5.5, 2.9),
        "spin": (10.4, 10.2, 8.1),
    }
    for kind, errors in measured.items():
        got = [row[kind] for name, row in table.items() if name != "scenes"]
        np.testing.assert_allclose(got, errors, rtol=0.25, err_msg=kind)


def test_no_moving_kind_is_solved_by_constant_velocity(table):
    still, line = table["stand_still"], table["constant_velocity"]
    for kind in motions.FORECAST_KINDS:
        assert line[kind] > 4.0 and still[kind] > 4.0
    for kind in ("orbit", "pendulum", "bounce"):
        assert line[kind] > still[kind]
    assert line["billiard"] < still["billiard"]


def test_visibility_and_cover(table):
    assert table["scenes"]["visible"] == pytest.approx(0.79, abs=0.02)
    assert table["scenes"]["visible_future"] == pytest.approx(0.76, abs=0.02)
    assert table["scenes"]["covered"] == pytest.approx(0.28, abs=0.03)


def test_forecast_formulas():
    t = np.arange(10.0)
    line = np.stack([10 + 2 * t, 50 - t], axis=-1)
    np.testing.assert_allclose(forecast("constant_velocity", line[:5], 5, (64, 64)), line[5:])
    curve = np.stack([10 + 0.5 * t**2, 20 + 0 * t], axis=-1)
    np.testing.assert_allclose(forecast("constant_acceleration", curve[:5], 5, (64, 64)), curve[5:])
    np.testing.assert_allclose(forecast("stand_still", line[:5], 2, (64, 64)), line[[4, 4]])
    assert forecast("constant_velocity", line[:5], 40, (64, 64)).max() == 63.0  # stays in frame
    with pytest.raises(ValueError, match="crystal_ball"):
        forecast("crystal_ball", line, 3, (64, 64))


@pytest.mark.parametrize("kind", motions.KINDS)
def test_motions_are_smooth_or_bounce(kind):
    poses = motions.move(
        np.zeros(50, int),
        (kind,),
        uniforms(range(50), motions.COLUMNS),
        np.arange(34.0),
        motions.Stage(64.0, 64.0, 1.0),
    )
    step = np.linalg.norm(np.diff(poses.centre, axis=1), axis=-1)
    assert step.max() < 9.0 and np.isfinite(poses.centre).all()
    moved = np.ptp(poses.centre, axis=1).max(-1)
    turned = np.ptp(poses.angle, axis=1)
    restless = (np.maximum(moved, 10 * turned) > 1.5).mean()
    assert kind == "still" or restless > (0.8 if kind == "roam" else 0.999)
    assert (0.75 < poses.size).all() and (poses.size < 1.25).all()
    outside = (np.abs(poses.centre - 31.5) > 40).any(-1)
    if kind == "enter":
        assert outside[:, 0].mean() > 0.9 and not outside[:, -1].any()
    elif kind == "leave":
        assert outside[:, -1].mean() > 0.9 and not outside[:, 0].any()
