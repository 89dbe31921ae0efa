"""FlowSmoothTV and DivCurlEnergy: values of the public script, linear fields, NaN rules."""

import numpy as np
import pytest

from tavid_jax.metrics.smoothness import div_curl_energy, flow_tv


def point_major(tracks: np.ndarray) -> np.ndarray:
    """(V, T, rows, columns, ...) -> (V, N, T, ...)."""
    tracks = tracks.reshape(*tracks.shape[:2], -1, *tracks.shape[4:])
    return np.swapaxes(tracks, 1, 2)


def test_waves_equal_the_public_script(waves):
    tracks, _, seen, grid_hw = waves
    mean = {
        "tv": flow_tv(tracks, None, grid_hw, 32).mean(),
        "tv_seen": flow_tv(tracks, seen, grid_hw, 32).mean(),
        "energy": div_curl_energy(tracks, None, grid_hw, 32).mean(),
        "energy_seen": div_curl_energy(tracks, seen, grid_hw, 32).mean(),
    }
    assert mean["tv"] == pytest.approx(0.039002754080655816, rel=1e-6)
    assert mean["tv_seen"] == pytest.approx(0.03899884865637353, rel=1e-6)
    assert mean["energy"] == pytest.approx(0.0005072043909532634, rel=1e-6)
    assert mean["energy_seen"] == pytest.approx(0.0005072145351219414, rel=1e-6)


def test_golden(goldens):
    file = goldens("trajloom_quality")
    tracks, seen = point_major(file["pred_tracks_thw2"]), point_major(file["visibility_thw"])
    spacing = float(file["grid_stride"])
    for mask, name in ((seen, "vis"), (None, "novis")):
        tv = flow_tv(tracks, mask, (5, 11), spacing)
        energy = div_curl_energy(tracks, mask, (5, 11), spacing)
        np.testing.assert_allclose(tv, file[f"tv_{name}"], rtol=1e-5)
        np.testing.assert_allclose(energy, file[f"dc_{name}"], rtol=1e-5)


def test_tiny_golden(goldens):
    file = goldens("trajloom_quality")
    tracks, mask = point_major(file["tiny_tracks"][None]), point_major(file["tiny_mask"][None])
    for seen, name in ((None, "tiny_tv_dc"), (mask, "tiny_masked_tv_dc")):
        ours = [metric(tracks, seen, (2, 2), 1)[0] for metric in (flow_tv, div_curl_energy)]
        np.testing.assert_allclose(ours, file[name], rtol=1e-12)


def linear_field(a: np.ndarray, frames: int = 4, grid_hw=(4, 5), spacing: float = 8.0):
    """Tracks whose displacement per frame is A q for the query q."""
    y, x = np.meshgrid(np.arange(grid_hw[0]), np.arange(grid_hw[1]), indexing="ij")
    query = spacing * np.stack([x, y], axis=-1).reshape(-1, 2)
    time = np.arange(frames)[:, None]
    return (query[:, None] + time * (query @ a.T)[:, None])[None]


@pytest.mark.parametrize(
    ("a", "tv", "energy"),
    [
        ([[0.1, 0], [0, 0.1]], 0.2, 0.04),  # expansion: div = 0.2
        ([[0, -0.3], [0.3, 0]], 0.6, 0.36),  # rotation: curl = 0.6
        ([[0, 0.2], [0.2, 0]], 0.4, 0.0),  # shear without div or curl
        ([[0, 0], [0, 0]], 0.0, 0.0),
    ],
)
def test_linear_fields_have_closed_forms(a, tv, energy):
    tracks = linear_field(np.array(a))
    assert flow_tv(tracks, None, (4, 5), 8)[0] == pytest.approx(tv, abs=1e-12)
    assert div_curl_energy(tracks, None, (4, 5), 8)[0] == pytest.approx(energy, abs=1e-12)


def test_what_is_not_finite_counts_as_hidden():
    tracks = linear_field(np.array([[0.1, 0.05], [0, 0.2]]))
    tracks += np.random.default_rng(0).normal(size=tracks.shape)
    seen = np.ones(tracks.shape[:3], bool)
    seen[0, 3, 1] = False
    broken = tracks.copy()
    broken[0, 3, 1] = np.inf
    for metric in (flow_tv, div_curl_energy):
        expected = metric(tracks, seen, (4, 5), 8)
        np.testing.assert_array_equal(metric(broken, None, (4, 5), 8), expected)
        assert (metric(tracks, None, (4, 5), 8) != expected).all()


def test_nothing_visible_is_nan():
    tracks = np.concatenate([linear_field(np.eye(2))] * 2)
    seen = np.ones(tracks.shape[:3], bool)
    seen[1] = False
    for metric in (flow_tv, div_curl_energy):
        assert np.isnan(metric(tracks, seen, (4, 5), 8)).tolist() == [False, True]


def test_one_direction_is_enough_for_tv():
    tracks = linear_field(np.array([[0.1, 0], [0, 0.1]]), grid_hw=(1, 5))
    assert flow_tv(tracks, None, (1, 5), 8)[0] == pytest.approx(0.1)
    assert np.isnan(div_curl_energy(tracks, None, (1, 5), 8)[0])


def test_bad_inputs_are_named():
    tracks = linear_field(np.eye(2))
    with pytest.raises(ValueError, match="20 points do not fill a grid of 5 x 5"):
        flow_tv(tracks, None, (5, 5), 8)
    with pytest.raises(ValueError, match="two frames, the tracks have 1"):
        div_curl_energy(tracks[:, :, :1], None, (4, 5), 8)
