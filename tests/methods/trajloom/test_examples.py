"""From a clip to an example."""

import dataclasses

import numpy as np
import pytest

from tavid_jax.data.clip import ClipError
from tavid_jax.methods.trajloom.cell_features import video_features
from tavid_jax.methods.trajloom.examples import Geometry, example_of, example_spec
from tavid_jax.methods.trajloom.features import CellFeatures
from tests.methods.trajloom import micro

G = micro.GEOMETRY


def test_halves_on_the_grid():
    clip = micro.clip(0, frames=2 * G.frames + 3)
    example = example_of(clip, G, CellFeatures(4))
    rows, columns = G.grid_hw
    assert example["id"] == "clip0"
    for half, start in (("history", 0), ("future", G.frames)):
        tracks, seen = example[f"{half}_tracks"], example[f"{half}_visibility"]
        assert tracks.shape == (G.frames, rows, columns, 2) and tracks.flags.c_contiguous
        for t, i, j in ((0, 0, 0), (3, 1, 2), (8, rows - 1, columns - 1)):
            point = i * columns + j  # row-major
            np.testing.assert_array_equal(tracks[t, i, j], clip.tracks[point, start + t])
            assert seen[t, i, j] == clip.visibility[point, start + t]
    np.testing.assert_array_equal(example["video"], video_features(clip.video[:9], 8, 4))


def test_what_is_not_valid_counts_as_unseen():
    clip = micro.clip(1)
    valid = np.random.default_rng(0).random(clip.visibility.shape) > 0.5
    example = example_of(clip.replace(valid=valid), G)
    want = (clip.visibility & valid)[:, : G.frames].T.reshape(G.frames, *G.grid_hw)
    np.testing.assert_array_equal(example["history_visibility"], want)
    assert not np.array_equal(want.reshape(G.frames, -1).T, clip.visibility[:, : G.frames])


@pytest.mark.parametrize("features", [None, CellFeatures(6)])
def test_spec_is_what_example_of_returns(features):
    example = example_of(micro.clip(2), G, features)
    spec = example_spec(G, features)
    assert set(spec) == set(example) - {"id"}
    for name, entry in spec.items():
        assert example[name].shape == entry.shape, name
        assert example[name].dtype == np.dtype(entry.dtype), name
        assert len(entry.axes) == len(entry.shape), name


def test_without_video_channels_no_video_is_needed():
    assert "video" not in example_of(micro.clip(0, video=None), G)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(size_hw=(32, 24)), r"'size_hw' is \(32, 24\), the config says \(24, 32\)"),
        (dict(tracks=None), "'tracks' and 'visibility' are needed; track the clip"),
        (dict(visibility=None), "'tracks' and 'visibility' are needed"),
        (dict(grid_hw=None), r"'grid_hw' is None, the config needs a grid of \(3, 4\) cells"),
        (dict(grid_hw=(4, 3)), r"'grid_hw' is \(4, 3\)"),
        (dict(video=None), "'video' is missing: .* model.flow.use_video_cond=False"),
    ],
    ids=["size", "tracks", "visibility", "no grid", "grid", "video"],
)
def test_clips_that_do_not_fit(changes, words):
    with pytest.raises(ClipError, match=f"clip 'clip3': field {words}"):
        example_of(micro.clip(3, **changes), G, CellFeatures(4))


def test_too_short_a_clip():
    with pytest.raises(ClipError, match="clip 'clip0': field 'tracks' has 17 frames, 18 are"):
        example_of(micro.clip(0, frames=17), G, CellFeatures(4))


def test_geometry():
    assert (G.grid_hw, G.num_tokens, G.latent_frames) == ((3, 4), 12, 3)
    assert G.query_row_col == (4, 4)
    assert dataclasses.replace(G, origin="topleft").query_row_col == (0, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(size_hw=(24, 30)), r"size_hw \(24, 30\) is not a multiple of data.stride 8"),
        (dict(frames=16), r"data.frames 16 is not 4k\+1: take 13 or 17"),
        (dict(frames=1), "data.frames 1: at least 5"),
        (dict(frames=-3), "data.frames -3: at least 5"),
        (dict(origin="corner"), "data.origin 'corner' is neither 'topleft' nor 'center'"),
    ],
)
def test_sizes_that_make_no_geometry(changes, words):
    with pytest.raises(ValueError, match=words):
        Geometry(**{**dataclasses.asdict(G), **changes})
