"""WHN as a whole: presets, stages' methods, sampling, released weights, and a run."""

import dataclasses
import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import tavid_jax
from configs import whn
from tavid_jax import run, weights
from tavid_jax.data.forecast_files import read_forecast
from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.engine.stages import check_stages
from tavid_jax.engine.workdir import to_plain
from tavid_jax.methods.registry import make_system
from tavid_jax.methods.whn.forecaster import WhnForecaster
from tavid_jax.methods.whn.released import estimate_scale, open_whn
from tavid_jax.models.vision.config import ViTConfig
from tavid_jax.models.whn.config import WhnConfig, WhnVAEConfig
from tavid_jax.tracks.forecasting import Past
from tavid_jax.weights import identified
from tavid_jax.weights.torch_zip import write_torch_zip
from tests.methods.trajloom.micro import random_params
from tests.methods.whn import small

PRESETS = ("raw", "paper")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_of_a_preset_can_be_built(preset):
    config = ConfigDict(json.loads(json.dumps(to_plain(whn.get_config(preset)))))
    config.lock()
    check_stages(config)
    system, learned = make_system(config), set()
    for name in config.order:
        method = system.method(name)
        trainable, frozen = split_trainable(method, jax.eval_shape(method.init, jax.random.key(0)))
        parts = {path.split("/")[0] for path in trees.flatten(trainable)}
        needed = {path.split("/")[0] for path in trees.flatten(frozen)} - parts
        assert needed <= learned | {"picture_encoder"}, name
        learned |= parts
    assert learned == ({"flow"} if preset == "raw" else {"vae", "statistics", "flow"})


def test_the_papers_numbers():
    system = make_system(whn.get_config("paper"))
    flow, vae = system.settings().flow.config, system.settings().space.vae.config
    assert flow == WhnConfig() and vae == WhnVAEConfig()
    rates = whn.get_config("paper").stages.flow.optimizer
    assert (rates.name, rates.lr, rates.weight_decay, rates.clip) == ("adamw", 6e-5, 0.01, 1.0)
    assert whn.get_config("paper").learn.flow.times == "logit_normal"
    assert system.sampling.steps == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.stages.vae.update(method="vea"), "stages.vae.method 'vea' is none of"),
        (lambda c: c.sampling.update(horizon="far"), "horizon 'far' is none of extend, interp"),
        (lambda c: c.sampling.update(solver="x"), "sampling.solver 'x' is none of"),
        (lambda c: c.model.frame.update(kind="x"), "model.frame.kind 'x' is none of cells"),
        (lambda c: c.model.frame.update(patch=7), "model.frame.patch 7 does not divide"),
        (
            lambda c: c.model.frame.update(kind="dinov2", model="dino-vit-b-16"),
            "model.frame.model 'dino-vit-b-16' is none of dinov2-small",
        ),
        (lambda c: c.model.flow.update(hiden=3), "model.flow.hiden is no setting; there are"),
        (lambda c: c.learn.flow.update(times="x"), "learn.flow.times 'x' is none of"),
        (lambda c: c.model.update(raw=True), "trains a VAE, and model.raw leaves it out"),
    ],
)
def test_what_is_wrong_with_a_config_is_named(change, words):
    config = small.config()
    change(config)
    with pytest.raises(ValueError, match=words):
        system = make_system(config)
        for stage in config.order:
            system.method(stage)


@pytest.mark.parametrize("preset", ["tiny", "raw"])
def test_euler_is_a_loop_with_frame_0_held(preset):
    """9 steps of 1/9 from noise; the start of every sample is a draw of its own."""
    s = small.settings(preset)
    if s.space.vae is not None:
        s = dataclasses.replace(
            s, space=dataclasses.replace(s.space, vae=small.LinearVAE(s.space.vae.config))
        )
    s = dataclasses.replace(s, flow=small.LinearFlow(s.flow.config))
    params = {"flow": {"a": jnp.float32(-1.2), "b": jnp.float32(0.5)}}
    scale = jnp.ones(2)
    if s.space.vae is not None:
        scale = jnp.array([0.5, 2.0, 3.0])
        params |= s.space.init(jax.random.key(0), s.features.encoded_spec())
        params["statistics"] = {"scale": scale}
    forecaster = WhnForecaster(s, params)
    picture, rng, frames = small.clip(0).video[0], jax.random.key(5), 7
    got = np.asarray(forecaster(picture, frames, rng, samples=2))
    assert got.shape == (2, frames, *small.WINDOW.grid_hw, 2)
    np.testing.assert_allclose(got[:, 0], np.broadcast_to(small.WINDOW.start, got[:, 0].shape))
    frame = jnp.asarray(s.features.read(picture))[None]
    start = s.space.encode_start(params, frame, frames)
    for k in range(2):
        noise_key, start_key = jax.random.split(jax.random.fold_in(rng, k))
        c0 = start["start_mean"]
        if "start_std" in start:
            c0 = c0 + start["start_std"] * jax.random.normal(start_key, c0.shape[1:])
        z = jax.random.normal(noise_key, (1, frames, *c0.shape[1:])).at[:, 0].set(c0[0] / scale)
        for i in range(9):
            v = -1.2 * z + 0.5 * i / 9 + frame.mean()
            z = z + v.at[:, 0].set(0.0) / 9
        want = np.asarray(s.space.decode(params, z * scale, frame))[0]
        np.testing.assert_allclose(got[k, 1:], want[1:], rtol=1e-4, atol=1e-3)


def test_the_scale_can_be_estimated():
    """The spread of samples of posteriors, as the stage of latents measures it."""
    s = small.settings()
    space = dataclasses.replace(s.space, vae=small.LinearVAE(s.space.vae.config))
    s = dataclasses.replace(s, space=space, flow=small.LinearFlow(s.flow.config))
    params = space.init(jax.random.key(0), s.features.encoded_spec())
    forecaster = WhnForecaster(s, {**params, "flow": {}})
    clips = [small.clip(i) for i in range(3)]
    tracks = [clip.tracks.swapaxes(0, 1).reshape(5, *small.WINDOW.grid_hw, 2) for clip in clips]
    frames = [clip.video[0] for clip in clips]
    found = estimate_scale(forecaster, zip(frames, tracks, strict=True))
    told = jnp.stack([jnp.asarray(s.features.read(frame)) for frame in frames])
    mean = np.asarray(space.encode(params, jnp.asarray(np.stack(tracks)), told)["mean"])
    np.testing.assert_allclose(found, np.sqrt(mean.var((0, 1, 2, 3)) + 0.25), rtol=1e-4)
    with pytest.raises(ValueError, match="at least one is needed"):
        estimate_scale(forecaster, [])


@pytest.fixture
def release(tmp_path, monkeypatch):
    """A folder as one puts it together: two checkpoints, DINOv2, the scale."""
    flow = WhnConfig(num_frames=3, hidden=8, heads=2, depth=2, mlp_ratio=2.0, frame_dim=12)
    vae = WhnVAEConfig(
        num_frames=3, hidden=8, heads=2, encoder_depth=1, decoder_depth=1, mlp_ratio=1.0,
        fourier_dim=4, frame_dim=12,
    )  # fmt: skip
    dino = ViTConfig(12, 2, 1, 48, 42, 14, 1e-6, layer_scale=True)
    monkeypatch.setattr(identified, "PRESETS", {"flow": flow, "vae": vae})
    for kind, config, name in (("whn", flow, "kubric.pt"), ("whn_vae", vae, "tracks.pth")):
        params = random_params(
            lambda key, k=kind, c=config: zeros(weights.CHECKPOINTS[k].shapes(c))
        )
        write_torch_zip(tmp_path / name, weights.export(kind, params, config))
    folder = tmp_path / "dinov2-small"
    folder.mkdir()
    params = random_params(lambda key: zeros(weights.CHECKPOINTS["dinov2"].shapes(dino)))
    write_torch_zip(folder / "pytorch_model.bin", weights.export("dinov2", params, dino))
    (folder / "config.json").write_text(json.dumps(weights.config_to_json(dino)))
    (tmp_path / "scale.json").write_text(json.dumps([0.5] * 8))
    return tmp_path


def zeros(shapes):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)


def test_released_weights_become_a_predictor(release):
    predictor = open_whn(release, solver="euler", steps=3)
    assert predictor.facts["steps"] == 2 and predictor.facts["scale"] == [0.5] * 8
    assert set(predictor.facts["weights"]) == {"denoiser", "vae", "dinov2"}
    window = predictor.forecaster.settings.window
    assert (window.size_hw, window.grid_hw, window.frames) == ((256, 256), (32, 32), 3)
    np.testing.assert_array_equal(window.start[1, 2], [16, 8])
    video = np.random.default_rng(0).integers(0, 256, (2, 60, 104, 3), dtype=np.uint8)
    points = np.array([[[3.0, 4.0]] * 2, [[800.0, 448.0]] * 2], np.float32)
    given = Past(points, np.ones((2, 2), bool), (480, 832), (1, 2), video)
    future = predictor.predict(given, frames=3)
    assert future.tracks.shape == (1, 2, 3, 2) and np.isfinite(future.tracks).all()


def test_parts_of_a_release_that_are_missing_or_odd_are_named(release):
    (release / "scale.json").unlink()
    (release / "tracks.pth").rename(release / "tracks.old")
    with pytest.raises(weights.WeightsError) as caught:
        open_whn(release)
    assert "the track VAE's" in str(caught.value) and "model.vae.scale" in str(caught.value)
    (release / "tracks.old").rename(release / "tracks.pth")
    parts = {
        "denoiser": release / "kubric.pt", "vae": release / "tracks.pth",
        "dinov2": release / "dinov2-small", "scale": [1.0] * 7,
    }  # fmt: skip
    with pytest.raises(weights.WeightsError, match="scale: 8 positive numbers are needed"):
        open_whn(parts)
    with pytest.raises(weights.WeightsError, match="no part 'vea': there are denoiser, vae"):
        open_whn({**parts, "vea": "x"})
    (release / "copy.pt").write_bytes((release / "kubric.pt").read_bytes())
    with pytest.raises(weights.WeightsError, match="holds two of the denoiser's checkpoint"):
        open_whn(release)


def write_video(path, frames):
    """A textured square that slides over a textured ground."""
    rng = np.random.default_rng(0)
    ground, square = (rng.integers(0, 256, (*s, 3), dtype=np.uint8) for s in ((48, 64), (16, 16)))
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12.0, (64, 48))
    for t in range(frames):
        frame = ground.copy()
        frame[12:28, 4 + t : 20 + t] = square
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.slow
def test_a_run_from_config_to_report_and_samples(tmp_path):
    config = small.small_run(tmp_path)
    run.run(config, tmp_path / "run", "train")
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    for part, names in (
        ("first_frame", {"whn", "stand_still"}),
        ("last_frame", {"whn", "stand_still", "constant_velocity", "constant_acceleration"}),
    ):
        assert set(metrics[part]["forecast"]) == names
        assert "ade_difference_px" in metrics[part]["comparison"]["stand_still"]
        assert np.isfinite(metrics[part]["forecast"]["whn"]["ade_px"])
    assert np.isfinite(metrics["first_frame"]["vae"]["vepe_px"])
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "As TrajLoom is judged" in page and "image/webp" in page
    sampler = tavid_jax.load(tmp_path / "run")
    forecast = sampler.sample([small.clip(0), small.clip(1)], samples=2)
    assert forecast.tracks.shape == (2, 2, 24, 4, 2)
    assert forecast.frames(0).shape[0] == 5
    config.clips = str(write_video(tmp_path / "videos" / "a.mp4", frames=6))
    config.sampling.samples = 2
    run.run(config, tmp_path / "run", "sample")
    (folder,) = (tmp_path / "run" / "samples").iterdir()
    found = read_forecast(folder)
    assert found.pred_tracks.shape == (24, 4, 2) and (folder / "forecast.webp").stat().st_size
    assert found.meta["tavid_jax"]["predictor"]["steps"] == 9
    assert len(list((tmp_path / "run").glob("samples*"))) == 2
