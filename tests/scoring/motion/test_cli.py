"""The command: the whole table with every network, errors in one line."""

import json

import jax
import numpy as np
import pytest
from motion_scene import save_tracks

from tavid_jax import weights
from tavid_jax.models.vision import i3d
from tavid_jax.models.vision.config import I3DConfig
from tavid_jax.models.vision.images import i3d_preprocess
from tavid_jax.scoring import I3DFeatures, ScoringError, VideoFeatures
from tavid_jax.scoring.i3d import _logits
from tavid_jax.scoring.motion import cli
from tavid_jax.scoring.towers import read_float32
from tavid_jax.weights import identified

TINY = I3DConfig(num_classes=5, image_size=193, shrink=8)


@pytest.fixture(scope="module")
def i3d_weights(tmp_path_factory):
    """A checkpoint of noise."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("i3d")

    def noise(leaf):
        values = rng.standard_normal(leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1])
        return values * np.sqrt(2 / fan_in) if leaf.ndim > 1 else np.abs(values)

    params = jax.tree.map(noise, i3d.param_shapes(TINY))
    weights.save("i3d", params, TINY, root / "published")
    return root / "published"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The tiny size counts as a published one."""
    monkeypatch.setattr(identified, "PRESETS", {"tiny": TINY})


def test_everything_at_once(studio, checkpoints, i3d_weights, tmp_path, capsys):
    out = tmp_path / "results" / "motion.json"
    command = [str(studio / "generated" / "dense"), "--real", str(studio / "real")]
    command += ["--clip", str(checkpoints / "clip"), "--i3d", str(i3d_weights)]
    assert cli.main([*command, "--out", str(out), "--norm", "diag", "--frames", "9"]) == 0
    said = capsys.readouterr().out
    assert "left out" not in said and "dense: FVD / Consistency / TrajErr" in said
    found = json.loads(out.read_text())
    rows = {name: kinds["dense"] for name, kinds in found["measures"].items()}
    assert list(rows) == ["generated", "oracle", "zero motion"]
    assert rows["zero motion"]["Consistency"]["per_clip"] == [1.0, 1.0]
    assert rows["generated"]["Consistency"]["per_clip"][0] < 1
    assert rows["generated"]["TrajErr"]["settings"]["norm"] == "diag"
    assert rows["generated"]["FVD"]["fvd"] > 0 and rows["zero motion"]["FVD"]["fvd"] > 0
    assert found["judges"]["fvd"]["weights"] and found["judges"]["consistency"]["weights"]
    assert found["table"]["oracle"]["dense"]["TrajErr"]["low"] > 0
    assert [video["frames"] for video in found["videos"]] == [9, 9]


def test_i3d_sees_every_frame_in_order(i3d_weights):
    provider = I3DFeatures(i3d_weights)
    assert isinstance(provider, VideoFeatures) and provider.name == "i3d"
    frames = np.random.default_rng(0).integers(0, 256, (9, 40, 60, 3), dtype=np.uint8)
    params = read_float32(weights.open_parameters(i3d_weights))
    want = _logits(TINY, params, i3d_preprocess(frames, 193)[None])[0]
    np.testing.assert_allclose(provider(frames), want, rtol=1e-5)
    assert provider.describe()["features"] == "5 logits"


def test_weights_that_are_not_there(checkpoints, tmp_path):
    with pytest.raises(ScoringError, match="none.pt.*I3D's weights are rgb_imagenet.pt"):
        I3DFeatures(tmp_path / "none.pt")
    with pytest.raises(ScoringError, match=r"kind vit\).*I3D's weights are rgb_imagenet.pt"):
        I3DFeatures(checkpoints / "dino")


def test_errors_are_one_line(studio, scenes, tmp_path, capsys):
    def attempt(message: str, *arguments: str):
        assert cli.main([*arguments, "--out", str(tmp_path / "motion.json")]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("error: ") and message in said[-1]
        assert not (tmp_path / "motion.json").exists()

    attempt("no such file or folder", str(tmp_path / "none"))
    attempt("--real", str(studio / "generated"), "--real", str(tmp_path / "none"))
    attempt("no trajectories moves.tracks.npz", str(studio / "real"))
    save_tracks(tmp_path / "moves.npz", scenes["moves"].tracks())
    tracks = ["--tracks", str(tmp_path), "--granularity", "unaligned"]
    attempt("moves.mask.png (or give --predicted)", str(studio / "real"), *tracks)
    with pytest.raises(SystemExit):
        cli.main([str(studio / "generated"), "--frames", "0"])
    assert "must be positive" in capsys.readouterr().err
