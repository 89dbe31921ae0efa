"""Judging: arrays of clips, baselines, forecasts of whole sources, comparisons."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.methods.trajloom import judging
from tavid_jax.methods.trajloom.examples import Geometry
from tavid_jax.methods.trajloom.forecaster import Forecast, Forecaster
from tests.methods.trajloom import micro

G = micro.GEOMETRY
CLIPS = 5


@pytest.fixture(scope="module")
def scenes():
    return judging.load_scenes([micro.clip(i) for i in range(CLIPS)], G, micro.FEATURES)


class Fake(Forecaster):
    """A forecaster that shifts the history, and notes the batches it was called with."""

    def __init__(self, broken: str = ""):
        self.sizes: list[int] = []
        self.numbers: list[int] = []
        self.broken = broken

    def __call__(self, batch, rng, samples, numbers):
        self.numbers += [int(i) for i in numbers]
        self.sizes.append(len(batch["history_tracks"]))
        moved = np.stack([batch["history_tracks"] + k for k in range(samples)], axis=1)
        visible = np.repeat(batch["history_visibility"][:, None], samples, axis=1)
        if self.broken and self.sizes == [2, 2]:
            moved[1, 0, 0, 0, 0, 0] = np.nan  # the fourth clip
        return Forecast(*(jnp.asarray(x) for x in (moved, visible, visible.astype(np.float32))))


def test_point_major():
    rng = np.random.default_rng(0)
    tracks = rng.normal(size=(2, 3, 9, *G.grid_hw, 2))
    seen = rng.random((2, 3, 9, *G.grid_hw)) > 0.5
    points, visible = judging.point_major(tracks), judging.point_major(seen)
    assert points.shape == (2, 3, 12, 9, 2) and visible.shape == (2, 3, 12, 9)
    np.testing.assert_array_equal(points[1, 2, 1 * 4 + 3, 5], tracks[1, 2, 5, 1, 3])
    np.testing.assert_array_equal(visible[1, 2, 1 * 4 + 3, 5], seen[1, 2, 5, 1, 3])


def test_scenes_are_the_clips(scenes):
    assert scenes.ids == [f"clip{i}" for i in range(CLIPS)]
    clip = micro.clip(3)
    np.testing.assert_array_equal(scenes.history[3], clip.tracks[:, :9])
    np.testing.assert_array_equal(scenes.future[3], clip.tracks[:, 9:18])
    np.testing.assert_array_equal(scenes.future_visible[3], clip.visibility[:, 9:18])
    assert (scenes.labels == "all").all() and scenes.labels.shape == (CLIPS, 12)
    assert set(scenes.arrays) == set(micro.batch(1))


def test_labels_name_the_motion():
    segment = np.array([0, 1, 2] * 4, np.int32)
    clip = micro.clip(0, segment=segment, kinds=("bounce", "spin"))
    labels = judging.load_scenes([clip], G, None).labels[0]
    assert labels.tolist() == ["background", "bounce", "spin"] * 4


def test_select(scenes):
    some = judging.select(scenes, np.array([4, 1]))
    assert some.ids == ["clip4", "clip1"]
    np.testing.assert_array_equal(some.future, scenes.future[[4, 1]])
    assert all(len(x) == 2 for x in (*some.arrays.values(), some.labels, some.history_visible))


@pytest.mark.parametrize("batch_size", [2, 5, 64])
def test_batches_of_one_size(scenes, batch_size):
    model = Fake()
    futures = judging.run_forecaster(model, scenes, 3, batch_size, seed=0, first=7)
    # Every scene has its own number, whatever the batch; padding repeats numbers from the start.
    assert model.numbers[:CLIPS] == list(range(7, 7 + CLIPS))
    assert set(model.sizes) == {min(batch_size, CLIPS)}
    assert futures.tracks.shape == (3, CLIPS, 12, 9, 2)
    for k in range(3):
        np.testing.assert_allclose(futures.tracks[k], scenes.history + k, rtol=1e-6)
        np.testing.assert_array_equal(futures.visible[k], scenes.history_visible)


def test_a_forecast_that_is_not_finite_is_an_error(scenes):
    with pytest.raises(ValueError, match="1 of 5 clips is not finite, first 'clip3'"):
        judging.run_forecaster(Fake(broken="clip3"), scenes, 2, 2, seed=0)


def test_baselines(scenes):
    h, frames = scenes.history.astype(np.float64), np.arange(1, 10)[:, None]
    limit = np.array([31, 23]) - 1e-3
    still, velocity = np.repeat(h[..., -1:, :], 9, axis=2), h[..., -1:, :] - h[..., -2:-1, :]
    for name, want in (("stand_still", still), ("constant_velocity", still + frames * velocity)):
        found = judging.baseline(name, scenes)
        np.testing.assert_allclose(found, want.clip(0, limit), atol=1e-3)
    assert set(judging.BASELINES) >= {"stand_still", "constant_velocity"}


def test_measure_by_hand(scenes):
    rng = np.random.default_rng(1)
    tracks = (scenes.future + rng.normal(0, 2, scenes.future.shape)).astype(np.float32)
    found = judging.measure(tracks, scenes)
    assert {
        "ade_px", "ade_interval", "fde_px", "endpoint_px", "ade_moving_px", "ade_objects_px",
        "ade_by_kind_px", "vepe_px", "flow_tv", "div_curl", "fvmd", "fvmd_long", "clips",
    } <= set(found)  # fmt: skip
    error = np.linalg.norm(tracks - scenes.future, axis=-1)
    seen = scenes.future_visible
    per_clip = (error * seen).sum((1, 2)) / seen.sum((1, 2))
    np.testing.assert_allclose(found["ade_px"], per_clip.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["vepe_px"], error[seen].mean(), rtol=1e-5)
    last = (error * seen)[..., -1].sum(1) / seen[..., -1].sum(1)
    np.testing.assert_allclose(found["fde_px"], last.mean(), rtol=1e-5)
    low, high = found["ade_interval"]
    assert low < found["ade_px"] < high
    assert found["ade_by_kind_px"] == {"all": pytest.approx(found["ade_px"])}
    assert found["clips"] == CLIPS
    # A grid of 3x4 points has no cell of 5x5: the cell shrinks with it.
    assert [found[k]["settings"]["cell"] for k in ("fvmd", "fvmd_long")] == [3, 3]
    assert np.isfinite([found["fvmd"]["fvmd"], found["fvmd_long"]["fvmd"]]).all()


def test_motion_distances_use_the_papers_cell_where_it_fits():
    g = Geometry(size_hw=(40, 48), stride=8, origin="center", frames=9)
    scenes = judging.load_scenes([micro.clip(i, g) for i in range(2)], g, None)
    assert judging.measure(scenes.future, scenes)["fvmd"]["settings"]["cell"] == 5


def test_truth_is_a_perfect_forecast(scenes):
    found = judging.measure(scenes.future, scenes)
    truth = judging.smooth(scenes.future, scenes, scenes.future_visible)
    assert found["ade_px"] == found["fde_px"] == found["endpoint_px"] == 0
    assert {k: found[k] for k in truth} == truth and truth["flow_tv"] > 0


def test_only_objects_count_where_there_are_some(scenes):
    labels = np.full((CLIPS, 12), "background", "<U10")
    labels[:, 5] = "bounce"
    marked = dataclasses.replace(scenes, labels=labels)
    tracks = scenes.future.copy()
    tracks[:, 5] += [3.0, 4.0]
    found = judging.measure(tracks, marked)
    assert found["ade_objects_px"] == pytest.approx(5, rel=1e-5)
    assert found["ade_by_kind_px"] == {"background": 0, "bounce": pytest.approx(5, rel=1e-5)}


def test_samples_together(scenes):
    shift = np.array([[4.0, 0], [-4.0, 0]], np.float32)[:, None, None, None]
    futures = judging.Futures(
        scenes.future + shift, np.repeat(scenes.future_visible[None], 2, axis=0)
    )
    found = judging.measure_samples(futures, scenes)
    assert found["best_of_2_ade_px"] == pytest.approx(4, rel=1e-4)
    assert found["average_of_2_ade_px"] == pytest.approx(4, rel=1e-4)
    assert found["mean_forecast_of_2_ade_px"] == pytest.approx(0, abs=1e-3)


def test_comparison_is_negative_where_the_first_is_better(scenes):
    rng = np.random.default_rng(4)
    near, far = (
        (scenes.future + size * rng.normal(size=scenes.future.shape)).astype(np.float32)
        for size in (0.5, 3.0)
    )
    found = judging.compare(near, far, scenes, 200)
    assert found["better"] and found["interval"][1] < 0 and found["clips"] == CLIPS
    gap = judging.errors(near, scenes).mean() - judging.errors(far, scenes).mean()
    assert found["ade_difference_px"] == pytest.approx(gap)
    assert not judging.compare(far, near, scenes, 200)["better"]
    assert not judging.compare(near, near, scenes, 200)["better"]


def test_visibility_beside_the_last_frame(scenes):
    perfect = judging.measure_visibility(scenes.future_visible, scenes)
    assert perfect["accuracy"] == perfect["f1"] == 1
    frozen = np.repeat(scenes.history_visible[..., -1:], 9, axis=-1)
    found = judging.measure_visibility(frozen, scenes)
    assert found["as_in_last_frame"]["accuracy"] == pytest.approx(found["accuracy"])
    assert found["accuracy"] == pytest.approx((frozen == scenes.future_visible).mean())


def test_clips_in_which_nothing_is_seen_do_not_spoil_the_mean(scenes):
    seen = scenes.future_visible.copy()
    seen[0] = False
    blind = dataclasses.replace(scenes, future_visible=seen)
    tracks = (scenes.future + np.float32(1)).astype(np.float32)
    assert judging.measure(tracks, blind)["ade_px"] == pytest.approx(2**0.5, rel=1e-4)
    assert judging.compare(tracks, scenes.future, blind, 50)["clips"] == CLIPS - 1


def test_windows_with_most_motion():
    motion = np.array([1.0, 5.0, np.nan, 2.0, 7.0, 3.0])
    files = ["a", "a", "b", "a", "c", "c"]
    assert judging.most_moving(motion, files, 2).tolist() == [1, 3, 2, 4, 5]
    assert judging.most_moving(motion, files, 1).tolist() == [1, 2, 4]
