"""Displacement errors: stored values, plain loops, weights, NaN rules, groups."""

import numpy as np
import pytest

from tavid_jax.metrics import forecast


@pytest.fixture
def stored(goldens):
    """One clip of 5 points and 9 frames, 4 samples; values computed from the definitions."""
    return goldens("track_and_vbench_aggregation")


@pytest.fixture
def clips():
    """truth (3, 6, 5, 2), 4 samples of it, visibility with empty and partly empty clips."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 5, (3, 6, 5, 2)).astype(np.float32)
    samples = truth + rng.normal(0, 2, (4, 3, 6, 5, 2)).astype(np.float32)
    visibility = rng.random((3, 6, 5)) < 0.8
    visibility[1, :, -1] = False  # nothing at the last frame
    visibility[2] = False  # nothing at all
    visibility[0, 2] = False  # a point that is never seen
    return truth, samples, visibility


def one(value: np.ndarray) -> float:
    assert value.shape == (1,)
    return value[0]


def test_stored_values(stored):
    truth, prediction, seen = stored["gt"][None], stored["pred"][None], stored["vis"][None]
    everywhere = np.ones_like(seen)
    assert one(forecast.ade(prediction, truth, everywhere)) == pytest.approx(stored["epe_all"])
    assert one(forecast.ade(prediction, truth, seen)) == pytest.approx(stored["epe_visible"])
    assert one(forecast.fde(prediction, truth, seen)) == pytest.approx(stored["fde_last"])


def test_stored_best_of_k(stored):
    truth, samples, seen = stored["gt"][None], stored["samples"][:, None], stored["vis"][None]
    everywhere = np.ones_like(seen)
    best = {
        "minADE_joint": forecast.best_of_k(samples, truth, everywhere),
        "minADE_marginal": forecast.best_of_k(samples, truth, everywhere, choose="marginal"),
        "minFDE_joint": forecast.best_of_k(samples, truth, everywhere, at="last"),
    }
    for name, value in best.items():
        assert one(value) == pytest.approx(float(stored[name]), rel=1e-9), name


def test_equals_plain_loops(clips):
    truth, samples, seen = clips
    prediction = samples[0]
    errors, at_end, at_last_seen = [], [], []
    for n in range(truth.shape[1]):
        track = [np.hypot(*(prediction[0, n, t] - truth[0, n, t])) for t in range(truth.shape[2])]
        visible = [t for t in range(truth.shape[2]) if seen[0, n, t]]
        errors += [track[t] for t in visible]
        at_end += [track[-1]] if seen[0, n, -1] else []
        at_last_seen += [track[visible[-1]]] if visible else []
    assert forecast.ade(prediction, truth, seen)[0] == pytest.approx(np.mean(errors), rel=1e-6)
    assert forecast.fde(prediction, truth, seen)[0] == pytest.approx(np.mean(at_end), rel=1e-6)
    ours = forecast.endpoint_error(prediction, truth, seen)[0]
    assert ours == pytest.approx(np.mean(at_last_seen), rel=1e-6)


def test_nothing_visible_is_nan(clips):
    truth, samples, seen = clips
    assert np.isnan(forecast.ade(samples[0], truth, seen)).tolist() == [False, False, True]
    assert np.isnan(forecast.fde(samples[0], truth, seen)).tolist() == [False, True, True]
    assert np.isnan(forecast.endpoint_error(samples[0], truth, seen)).tolist() == [0, 0, 1]
    best = forecast.best_of_k(samples, truth, seen, at="last")
    assert np.isnan(best).tolist() == [False, True, True]


def test_hidden_points_have_no_influence(clips):
    truth, samples, seen = clips
    expected = forecast.ade(samples[0], truth, seen)
    broken = samples[0].copy()
    broken[~seen] = np.inf
    truth = truth.copy()
    truth[~seen] = np.inf
    np.testing.assert_array_equal(forecast.ade(broken, truth, seen), expected)


def test_broken_forecast_is_not_left_out(clips):
    truth, samples, seen = clips
    broken = samples[0].copy()
    broken[0][seen[0]] = np.nan
    assert np.isnan(forecast.ade(broken, truth, seen)[0])


@pytest.mark.parametrize("at", ["all", "last"])
def test_order_of_summaries(clips, at):
    truth, samples, seen = clips
    single = {"all": forecast.ade, "last": forecast.fde}[at]
    each = np.stack([single(s, truth, seen) for s in samples])[:, 0]
    joint = forecast.best_of_k(samples, truth, seen, at=at)[0]
    marginal = forecast.best_of_k(samples, truth, seen, at=at, choose="marginal")[0]
    assert joint == pytest.approx(each.min(), rel=1e-12)
    assert marginal < joint
    assert forecast.mean_of_k(samples, truth, seen, at=at)[0] == pytest.approx(each.mean())
    expected = single(samples.mean(axis=0, dtype=np.float64), truth, seen)[0]
    assert forecast.error_of_mean(samples, truth, seen, at=at)[0] == pytest.approx(expected)
    # A norm is convex: the mean of the samples is never worse than the mean of their errors.
    assert expected < each.mean()


def test_groups_recombine_to_the_whole(clips):
    truth, samples, seen = clips
    labels = np.array(["orbit", "gravity", "orbit", "background", "gravity", "orbit"])
    labels = np.broadcast_to(labels, truth.shape[:2])
    groups = forecast.by_group(samples[0], truth, seen, labels)
    assert list(groups) == ["background", "gravity", "orbit"]
    counts = {k: (seen & (labels == k)[..., None]).sum(axis=(1, 2)) for k in groups}
    total = sum(np.nan_to_num(groups[k]) * counts[k] for k in groups)
    whole = forecast.ade(samples[0], truth, seen)
    np.testing.assert_allclose(total[:2] / seen.sum(axis=(1, 2))[:2], whole[:2], rtol=1e-12)
    assert np.isnan(groups["gravity"][2])


def test_groups_by_flag_and_wrong_labels(clips):
    truth, samples, seen = clips
    moving = forecast.moving_points(truth, seen, threshold=3)
    assert set(forecast.by_group(samples[0], truth, seen, moving)) <= {"False", "True"}
    with pytest.raises(ValueError, match=r"labels has shape \(6,\), expected \(3, 6\)"):
        forecast.by_group(samples[0], truth, seen, np.zeros(6))


def test_shapes_are_not_broadcast(clips):
    truth, samples, _ = clips
    with pytest.raises(ValueError, match=r"prediction has shape \(1, 6, 5, 2\), expected \(3, "):
        forecast.point_errors(samples[0][:1], truth)


def test_moving_points():
    truth = np.zeros((1, 4, 3, 2), np.float32)
    truth[0, 0, :, 0] = [0, 1, 2]  # moves 2 px
    truth[0, 1, :, 1] = [0, 0.5, 0]  # moves half a pixel
    truth[0, 2, :, 0] = [0, 0, 9]  # moves while hidden
    truth[0, 3] = np.nan  # never seen
    seen = np.ones((1, 4, 3), bool)
    seen[0, 2, 2] = False
    seen[0, 3] = False
    assert forecast.moving_points(truth, seen).tolist() == [[True, False, False, False]]


def test_last_visible():
    seen = np.array([[[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]], bool)
    assert forecast.last_visible(seen).tolist() == [[1, 3, 3]]
