"""The encode stage: what its examples hold, and that all stages learn from them."""

import numpy as np
import pytest

from tavid_jax.engine.method import EncodeMethod
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.trajloom.conditions import Conditions
from tavid_jax.methods.trajloom.examples import example_of
from tavid_jax.methods.trajloom.features import CellFeatures, EncodedFeatures, features_of
from tavid_jax.pipelines.track_conditions import open_conditions
from tests.methods.trajloom import micro
from tests.pipelines import tiny

G = micro.GEOMETRY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wan")
    tiny.wan_folder(folder, 3)
    return folder


def config(folder):
    """The published preset's stages at the smallest sizes."""
    c = micro.config("paper")
    c.update(checkpoint=str(folder), any_size=True)
    c.model.flow.update(video_channels=4, text_dim=tiny.TEXT_DIM)
    c.model.update(dtype="float32", scan=False, remat="none")
    return c


def test_examples_hold_tracks_video_and_caption(folder):
    system = make_system(config(folder))
    method = system.method("conditions")
    assert isinstance(method, EncodeMethod)
    clips = [micro.clip(i, caption=text) for i, text in enumerate(["a ball", "", "a ball"])]
    made = list(method.examples([clip.caption for clip in clips], iter(clips)))
    encoders = open_conditions(folder, G.grid_hw, strict=False)
    for clip, example in zip(clips, made, strict=True):
        bare = example_of(clip, G)
        for name in ("history_tracks", "future_visibility"):
            np.testing.assert_array_equal(example[name], bare[name])
        want = encoders.video(clip.video[: G.frames])
        assert example["video"].dtype == np.float16
        np.testing.assert_allclose(example["video"], want, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(made[0]["text"], made[2]["text"])
    assert np.abs(made[0]["text"] - made[1]["text"]).max() > 0.01
    # What later stages read is what is there.
    arrays = method.facts()["arrays"]
    for stage in ("vae", "latents"):
        spec = system.method(stage).raw_spec()
        assert set(spec) <= set(made[0])
        for name, one in spec.items():
            assert arrays[name] == {"shape": list(one.shape), "dtype": np.dtype(one.dtype).name}
    recalled = system.method("vae").recall({"id": "x", **made[0]}, None)
    assert set(recalled) == {"id", *system.method("vae").raw_spec()}
    assert {"video", "text"} <= set(system.method("flow").encoded_spec())


def test_features_follow_from_the_flow():
    s = micro.settings()
    assert s.features() == CellFeatures(micro.VIDEO_CHANNELS)
    flow = micro.settings(model=dict(flow=dict(use_text_cond=True, text_dim=7))).flow.config
    assert features_of(flow) == EncodedFeatures(micro.VIDEO_CHANNELS, 7)
    assert features_of(s.flow.config, "encoders") == EncodedFeatures(micro.VIDEO_CHANNELS, 0)
    bare = micro.settings(model=dict(flow=dict(use_video_cond=False))).flow.config
    assert features_of(bare, "encoders") is None


def test_what_is_missing_is_said(folder):
    with pytest.raises(ValueError, match="come from encoders: let the stage read"):
        example_of(micro.clip(0), G, EncodedFeatures(4, 0))
    c = config(folder)
    c.checkpoint = ""
    with pytest.raises(ValueError, match="give the folder of a Wan 2.1 checkpoint"):
        make_system(c).method("conditions")
    c = config(folder)
    c.model.flow.video_channels = 16
    with pytest.raises(ValueError, match="video_channels is 16, the encoders .* make 4"):
        make_system(c).method("conditions")
    c = config(folder)
    c.features = "cell"
    with pytest.raises(ValueError, match="config.features 'cell' is none of cells, encoders"):
        make_system(c).method("vae")
    c = config(folder)
    c.model.flow.update(use_video_cond=False, use_text_cond=False)
    with pytest.raises(ValueError, match="encodes videos and captions: set --config.features"):
        make_system(c).method("conditions")
    judge = Conditions(G, EncodedFeatures(4, 24), None)
    with pytest.raises(ValueError, match="encoded before the run"):
        next(judge.examples([""], iter([micro.clip(0)])))
