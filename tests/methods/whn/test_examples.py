"""What WHN learns from: windows of tracks, and features of the first picture."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.data.clip import ClipError
from tavid_jax.methods.trajloom.cell_features import video_features
from tavid_jax.methods.whn.examples import Window, example_of, example_spec, to_model, to_pixels
from tavid_jax.methods.whn.frames import ENCODER, DinoPictures, FunctionPictures, resized
from tavid_jax.models.vision.config import VIT_PRESETS, ViTConfig
from tavid_jax.models.vision.vit import ViT
from tavid_jax.weights import WeightsError
from tests.methods.whn import small

W = small.WINDOW


def test_an_example_is_a_window_and_its_picture():
    clip, features = small.clip(0, frames=9), small.settings().features
    example = example_of(clip, W, features)
    np.testing.assert_array_equal(example["tracks"][:, 2, 3], clip.tracks[2 * 6 + 3, :5])
    np.testing.assert_array_equal(example["tracks"][0], W.start)
    want = video_features(clip.video[:1], 16, small.FEATURES)[0]
    np.testing.assert_array_equal(example["frame"], want)
    for name, spec in example_spec(W, features).items():
        assert example[name].shape == spec.shape and example[name].dtype == spec.dtype


def test_published_coordinates():
    """Centre of the first pixel of a 256-pixel frame is 0.5 -> 2 * 0.5 / 256 - 1; (p + 1) * 128."""
    grid = Window((256, 256), 8, "topleft", 24)
    normal = to_model(grid.start, (256, 256))
    np.testing.assert_allclose(normal[0, 0], 2 * 0.5 / 256 - 1)
    np.testing.assert_allclose(normal[31, 1], [2 * 8.5 / 256 - 1, 2 * 248.5 / 256 - 1])
    np.testing.assert_allclose(to_pixels(normal, (256, 256)), grid.start, atol=1e-4)


def test_far_points_have_no_weight():
    """Published: |coordinate| <= 384 in frames of 256, from the outer corner."""
    clip, features = small.clip(0), small.settings().features
    assert example_of(clip, W, features, 1.5)["weight"] == 1
    far = clip.tracks.copy()
    far[3, 4, 0] = 1.5 * 48  # half a pixel beyond, as the corner is at -1/2
    assert example_of(clip.replace(tracks=far), W, features, 1.5)["weight"] == 0
    assert example_of(clip.replace(tracks=far), W, features, 0.0)["weight"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(size_hw=(32, 32)), r"'size_hw' is \(32, 32\), the config says \(32, 48\)"),
        (dict(video=None), "'video' is missing: what moves is told from its first picture"),
        (dict(tracks=None), "'tracks' are needed; track the clip first"),
        (dict(grid_hw=(6, 4)), r"'grid_hw' is \(6, 4\), the config needs a grid of \(4, 6\)"),
    ],
)
def test_clips_that_do_not_fit_are_named(change, words):
    with pytest.raises(ClipError, match=f"clip 'clip0': field {words}"):
        example_of(small.clip(0, **change), W, small.settings().features)


def test_short_clips_and_odd_windows_are_refused():
    with pytest.raises(ClipError, match="has 4 frames, 5 are needed"):
        example_of(small.clip(0, frames=4), W, small.settings().features)
    with pytest.raises(ValueError, match="data.frames 1: a picture and what follows"):
        dataclasses.replace(W, frames=1)


def test_features_of_a_named_function(tmp_path, monkeypatch):
    lines = "import numpy as np\ndef f(picture):\n    return np.full((6, 2), picture.mean())\n"
    (tmp_path / "my_features.py").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    features = FunctionPictures("my_features:f", (2, 3), 2)
    picture = small.clip(0).video[0]
    np.testing.assert_allclose(features.read(picture), picture.mean(), rtol=1e-6)
    wrong = FunctionPictures("my_features:f", (2, 2), 2)
    with pytest.raises(ValueError, match=r"made features of shape \(6, 2\), model.frame says"):
        wrong.read(picture)
    with pytest.raises(ValueError, match="'nowhere:f' cannot be imported"):
        FunctionPictures("nowhere:f", (2, 2), 2)
    with pytest.raises(ValueError, match="'os' is no module:function"):
        FunctionPictures("os", (2, 2), 2)


def test_features_of_dinov2():
    """Read as published: squashed to the frame's size, then to the square that the net sees."""
    model = ViTConfig(8, 2, 1, 16, 42, 14, 1e-6, layer_scale=True)
    features = DinoPictures((64, 48), model, 28, "")
    picture = small.clip(0).video[0]
    given = features.read(picture)
    np.testing.assert_array_equal(given, features.read(resized(picture, (64, 48))))
    assert given.shape == features.spec().shape == (28, 28, 3)
    params = features.init(jax.random.key(0))
    got = jax.jit(features.encode)(params, jnp.asarray(given)[None])
    apply = jax.jit(lambda p, x: ViT(model).apply({"params": p}, x, method="hidden"))
    want = apply(params[ENCODER], given[None])[:, 1:]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert got.shape[1:] == features.encoded_spec().shape == (4, 8)
    assert DinoPictures((32, 48), model, 0, "").tokens_hw == (2, 3)  # as it is
    assert features.pretrained() == {}


def test_another_encoder_than_the_configs_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    features = DinoPictures((32, 48), VIT_PRESETS["dinov2-small"], 224, str(tmp_path))
    with pytest.raises(WeightsError):
        features.pretrained()
