"""How a model of one picture answers for any clip, grid and length."""

import types

import numpy as np
import pytest

from tavid_jax.methods.whn.examples import Window
from tavid_jax.methods.whn.forecaster import Sampling, WhnForecaster
from tavid_jax.methods.whn.predictor import WhnPredictor
from tavid_jax.methods.whn.regrid import read_field
from tavid_jax.tracks.forecasting import Past, Predictor
from tavid_jax.tracks.grid import query_points

WINDOW = Window((64, 96), 16, "topleft", 5)  # 4 x 6 points
CLIP = ((120, 240), 40)  # of 3 x 6 points, 2.5 times as wide and 1.875 times as high


def motion(xy, t, k=0):
    """Affine in the place, so that bilinear reading is exact; pixels of the window."""
    x, y = xy[..., 0], xy[..., 1]
    return np.stack([0.02 * t * x + 0.5 * t + k, -0.03 * t * y + 0.01 * t * x], axis=-1)


class Moves(WhnForecaster):
    """A forecaster that moves points by `motion`, and an autoencoder that is off by a pixel."""

    def __init__(self, vae=True, **sampling):
        space = types.SimpleNamespace(vae=object() if vae else None)
        features = types.SimpleNamespace(name="fake")
        self.settings = types.SimpleNamespace(window=WINDOW, space=space, features=features)
        self.sampling, self.asked, self.off = Sampling(**sampling), [], 1.0

    def __call__(self, picture, frames, rng, samples=1):
        self.asked.append((picture, frames))
        start = WINDOW.start
        moved = [
            [start + (motion(start, t, k) if t else 0) for t in range(frames)]
            for k in range(samples)
        ]
        return np.array(moved, np.float32)

    def reconstruct(self, tracks, picture):
        self.asked.append((picture, len(tracks)))
        self.seen = tracks
        return tracks + np.float32(self.off)


def past(length=3, video=True, places=None):
    size_hw, stride = CLIP
    points = query_points(size_hw, stride) if places is None else places
    drift = np.arange(length)[None, :, None] * np.float32(1.5)
    frames = np.arange(length)[:, None, None, None] * np.ones((1, *size_hw, 3), np.uint8)
    return Past(
        tracks=(points[:, None] + drift).astype(np.float32),
        visibility=np.ones((len(points), length), bool),
        size_hw=size_hw,
        grid_hw=(3, 6),
        video=frames.astype(np.uint8) if video else None,
    )


def expected(given, t, k=0):
    """Motion of what is at each point in the last frame of the past."""
    last = given.tracks[:, -1]
    own = (last + 0.5) * np.array([96 / 240, 64 / 120]) - 0.5
    own = np.clip(own, 0, [80, 48])  # the edge's value beyond the outermost points
    return last + motion(own, t, k) * np.array([240 / 96, 120 / 64])


@pytest.mark.parametrize("horizon", ["extend", "native24"])
def test_motion_is_read_at_the_last_places_of_the_past(horizon):
    moves, given = Moves(horizon=horizon), past()
    predictor = WhnPredictor(moves)
    assert isinstance(predictor, Predictor)
    future = predictor.predict(given, frames=3, samples=2)
    assert future.tracks.shape == (2, 18, 3, 2) and future.visible.all()
    assert future.probability is None
    for k in range(2):
        for t in range(3):
            got = future.tracks[k, :, t]
            np.testing.assert_allclose(got, expected(given, t + 1, k), rtol=1e-4, atol=1e-3)
    picture, frames = moves.asked[0]
    assert picture.max() == picture.min() == 2  # the last of the past's
    assert frames == (4 if horizon == "extend" else 5)


def test_a_long_future_is_extended_or_stretched():
    given, moves = past(), Moves()
    longer = WhnPredictor(moves).predict(given, frames=16)
    np.testing.assert_allclose(longer.tracks[0, :, 15], expected(given, 16), rtol=1e-4)
    assert moves.asked[0][1] == 17
    moves = Moves(horizon="interp")
    stretched = WhnPredictor(moves).predict(given, frames=16)
    assert moves.asked[0][1] == 5
    # `motion` is linear in time: 4 steps of the net over 16 frames.
    for t in (1, 6, 16):
        want = expected(given, t / 4)
        np.testing.assert_allclose(stretched.tracks[0, :, t - 1], want, rtol=1e-4, atol=1e-3)


def test_what_cannot_be_forecast_is_refused():
    with pytest.raises(ValueError, match="tells motion from a picture"):
        WhnPredictor(Moves()).predict(past(video=False), 3)
    with pytest.raises(ValueError, match='forecasts 1 to 4 without stretching; take horizon="ext'):
        WhnPredictor(Moves(horizon="native24")).predict(past(), 5)
    with pytest.raises(ValueError, match="horizon 'x' is none of extend, interp, native24"):
        Sampling(horizon="x")
    with pytest.raises(ValueError, match="sampling.times is 1"):
        Sampling(times=1)


def test_facts_count_steps_as_they_are_taken():
    facts = WhnPredictor(Moves(), {"weights": "abc"}).facts
    assert facts["solver"] == "euler" and facts["steps"] == 9 and facts["times"] == 10
    assert facts["horizon"] == "extend" and facts["weights"] == "abc"
    assert "steps" not in Sampling("dopri5").facts()


def test_reconstruction_on_its_own_grid():
    moves = Moves()
    rng = np.random.default_rng(0)
    tracks = WINDOW.start.reshape(-1, 1, 2) + rng.normal(size=(24, 7, 2)).astype(np.float32)
    got = WhnPredictor(moves).reconstruct(tracks, np.zeros((9, 9, 3), np.uint8))
    np.testing.assert_allclose(got, tracks + 1, atol=1e-5)
    np.testing.assert_allclose(moves.seen[3].reshape(-1, 2), tracks[:, 3], atol=1e-5)
    assert moves.asked[0][0].shape == (9, 9, 3)


def test_reconstruction_on_another_grid_adds_nothing_but_the_nets_error():
    moves = Moves()
    predictor = WhnPredictor(moves, clips=CLIP)
    tracks = past(7).tracks + np.random.default_rng(0).normal(size=(18, 7, 2)).astype(np.float32)
    got = predictor.reconstruct(tracks)
    np.testing.assert_allclose(got, tracks + [240 / 96, 120 / 64], atol=1e-4)
    moves.off = 0.0
    np.testing.assert_array_equal(predictor.reconstruct(tracks), tracks)
    np.testing.assert_array_equal(moves.seen[0], WINDOW.start)  # its first frame is the grid
    assert (moves.asked[0][0] == 128).all()
    with pytest.raises(ValueError, match="24 of its own grid, or those of 120x240 every 40 px"):
        predictor.reconstruct(tracks[:5])
    assert WhnPredictor(Moves(vae=False)).reconstruct(tracks) is None


def test_a_field_of_one_row_can_be_read():
    window = Window((8, 32), 8, "center", 2)
    field = np.arange(8, dtype=np.float32).reshape(1, 4, 2)
    got = read_field(field, window, np.array([[8.0, 0.0], [99.0, 99.0]], np.float32))
    np.testing.assert_allclose(got, [[1.0, 2.0], [6.0, 7.0]])
