"""The authors' checkpoints as a predictor, from Python and as a run."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import tavid_jax
from configs.trajloom import get_config
from tavid_jax import run, weights
from tavid_jax.data.clip import Clip
from tavid_jax.data.forecast_files import read_forecasts
from tavid_jax.data.latent_statistics import read_statistics, write_statistics
from tavid_jax.methods.trajloom.examples import Geometry
from tavid_jax.methods.trajloom.flow import FlowLosses
from tavid_jax.methods.trajloom.forecaster import Forecaster, Sampling
from tavid_jax.methods.trajloom.released import named_paths, open_released, save_released
from tavid_jax.models.latte.flow import TrackFlow, TrackFlowConfig
from tavid_jax.models.latte.vae import TrackVAE, TrackVAEConfig
from tavid_jax.models.latte.visibility import VisibilityConfig, VisibilityHead
from tavid_jax.pipelines.trajloom_release import PUBLISHED_STATISTICS
from tavid_jax.tracks.forecasting import Past, Predictor
from tavid_jax.weights.table import walk
from tests.methods.trajloom import micro

G = Geometry((24, 32), 8, "topleft", 9)
SIZES = dict(size_hw=G.size_hw, patch=8, num_frames=9, latent_channels=4)
VAE = TrackVAEConfig(**SIZES, hidden=16, heads=2, encoder_depth=2, decoder_depth=2, pos_embed_dim=8)
FLOW = TrackFlowConfig(**SIZES, hidden=24, heads=2, depth=2, video_channels=5, text_dim=6)
HEAD = VisibilityConfig(latent_channels=4, hidden=8, depth=2)
KINDS = {"vae": VAE, "flow": FLOW, "visibility": HEAD}
FILES = {
    "vae": "trajloom_vae.pt",
    "flow": "trajloom_generator.pt",
    "visibility": "visibility_predictor.pt",
}


def params_of(kind: str, config, seed: int):
    return micro.random_params(lambda key: weights.CHECKPOINTS[kind].shapes(config), seed)


@pytest.fixture(scope="module")
def params():
    made = {
        part: params_of(f"trajloom_{part}", config, i)
        for i, (part, config) in enumerate(KINDS.items())
    }
    return made | {"statistics": micro.statistics()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, params):
    s = micro.settings()
    settings = dataclasses.replace(
        s,
        geometry=G,
        vae=TrackVAE(VAE),
        flow=TrackFlow(FLOW),
        visibility=VisibilityHead(HEAD),
        flow_losses=FlowLosses(source_std=0.2, statistics="history"),
    )
    place = tmp_path_factory.mktemp("release") / "folder"
    files = save_released(place, Forecaster(settings, params))
    assert sorted(files) == sorted(place.iterdir()) and len(files) == 7
    return place


def past_of(clip: Clip) -> Past:
    frames = G.frames
    return Past(
        clip.tracks[:, :frames],
        clip.visibility[:, :frames],
        G.size_hw,
        G.grid_hw,
        clip.video[:frames],
        "a cat",
    )


class Encoders:
    """Stands in for Wan's; keeps what it was shown."""

    def video(self, frames):
        self.frames = frames
        return np.full((G.latent_frames, G.num_tokens, 5), frames.mean() / 255, np.float32)

    def text(self, captions):
        self.captions = captions
        return np.full((len(captions), 6), 0.7, np.float32)


@pytest.fixture(scope="module")
def predictor(folder):
    return open_released(folder, sampling=Sampling(steps=2), conditions=Encoders())


def test_what_it_is(folder, params, predictor):
    assert isinstance(predictor, Predictor) and predictor.name == "TrajLoom"
    settings = predictor.forecaster.settings
    assert settings.geometry == G
    assert (settings.vae.config, settings.flow.config) == (VAE, FLOW)
    assert settings.flow_losses.source_std == 0.2
    facts = predictor.facts
    assert (facts["solver"], facts["steps"], facts["statistics"]) == ("euler", 2, "history")
    assert (facts["video"], facts["text"], facts["history_visibility"]) == ("given",) * 3
    assert set(facts["weights"]) == {"vae", "flow", "visibility"}
    assert facts["statistics_from"] == str(folder / "vae_latent_stats.json")
    read = dict(walk(predictor.forecaster.params))
    for path, leaf in walk(params):
        np.testing.assert_array_equal(read[path], leaf, err_msg=path)


def test_what_is_no_release(folder, predictor, tmp_path):
    forecaster = predictor.forecaster
    with pytest.raises(ValueError, match="is there already: name a new folder"):
        save_released(folder, forecaster)
    centred = dataclasses.replace(
        forecaster.settings, geometry=dataclasses.replace(G, origin="center")
    )
    with pytest.raises(ValueError, match="data.origin='topleft'"):
        save_released(tmp_path / "new", Forecaster(centred, forecaster.params))
    assert not list(tmp_path.iterdir())


def test_prediction(predictor):
    past = past_of(micro.clip(1, G))
    future = predictor.predict(past, 7, samples=2, seed=3)
    assert future.tracks.shape == (2, G.num_tokens, 7, 2)
    assert future.visible.shape == future.probability.shape == (2, G.num_tokens, 7)
    assert predictor.conditions.captions == ["a cat"]
    np.testing.assert_array_equal(predictor.conditions.frames, past.video)
    again = predictor.predict(past, 9, samples=2, seed=3)
    np.testing.assert_array_equal(again.tracks[:, :, :7], future.tracks)
    # The forecaster's cells, point by point.
    clip = micro.clip(1, G)
    cells = clip.tracks[:, : G.frames].swapaxes(0, 1).reshape(9, *G.grid_hw, 2)
    batch = {
        "history_tracks": cells[None],
        "history_visibility": clip.visibility[:, :9].T.reshape(1, 9, *G.grid_hw),
        "video": predictor.conditions.video(past.video)[None],
        "text": predictor.conditions.text(["a cat"]),
    }
    forecast = predictor.forecaster(batch, jax.random.key(3), 2)
    row, column = 1, 2
    np.testing.assert_array_equal(
        future.tracks[1, row * G.grid_hw[1] + column], forecast.tracks[0, 1, :7, row, column]
    )
    assert not np.array_equal(predictor.predict(past, 7, samples=2, seed=4).tracks, future.tracks)


def test_reconstruction(predictor):
    clip = micro.clip(2, G)
    got = predictor.reconstruct(clip.tracks[:, 9:])
    cells = clip.tracks[:, 9:].swapaxes(0, 1).reshape(1, 9, *G.grid_hw, 2)
    want = predictor.forecaster.reconstruct(cells)[0].reshape(9, -1, 2).swapaxes(0, 1)
    np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match=r"the VAE takes \(N, T, 2\) = \(12, 9, 2\)"):
        predictor.reconstruct(clip.tracks[:, :5])


@pytest.mark.parametrize(
    ("change", "frames", "words"),
    [
        (dict(size_hw=(48, 64)), 9, r"size_hw \(48, 64\): TrajLoom was made for \(24, 32\)"),
        (dict(grid_hw=(4, 3)), 9, r"grid_hw \(4, 3\)"),
        (dict(), 10, "10 frames asked for: TrajLoom forecasts 1 to 9"),
    ],
    ids=["size", "grid", "frames"],
)
def test_pasts_that_do_not_fit(predictor, change, frames, words):
    past = dataclasses.replace(past_of(micro.clip(1, G)), **change)
    with pytest.raises(ValueError, match=words):
        predictor.predict(past, frames)
    short = dataclasses.replace(past_of(micro.clip(1, G)), video=None)
    short = dataclasses.replace(
        short, tracks=short.tracks[:, :5], visibility=short.visibility[:, :5]
    )
    with pytest.raises(ValueError, match="past's frames 5: TrajLoom was made for 9"):
        predictor.predict(short, 3)


def test_without_conditions(folder):
    model = tavid_jax.load(folder, sampling=Sampling(steps=2, history_visibility="zeros"))
    facts = model.facts
    assert (facts["video"], facts["text"], facts["history_visibility"]) == ("none", "none", "zeros")
    assert model.forecaster.settings.features() is None


def test_statistics_of_another_vae(folder, params, tmp_path):
    paths = {part: folder / file for part, file in FILES.items()}
    paths |= {"configs": folder, "statistics": PUBLISHED_STATISTICS}
    with pytest.raises(ValueError, match="statistics of 16 channels, and the VAE of .* has 4"):
        open_released(paths)
    for file in folder.glob("*"):
        if "stats" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"put a vae_latent_stats\.json beside the checkpoints"):
        open_released(tmp_path)
    file = tmp_path / "trajloom_generator_config.json"
    content = json.loads(file.read_text())
    content["train"]["x0_mode"] = "repeat"
    file.write_text(json.dumps(content))
    write_statistics(tmp_path / "vae_latent_stats.json", params["statistics"])
    with pytest.raises(ValueError, match="x0_mode 'repeat' of the generator is none of"):
        open_released(tmp_path)


def test_published_statistics():
    """Spot checks against the published table; three channels of 16."""
    table = read_statistics(PUBLISHED_STATISTICS)
    for name, channel, mean, std in (
        ("all", 0, -1.43552492, 4.06660457),
        ("history", 9, -0.015515408, 1.23822026),
        ("future", 15, 0.651089086, 2.69132927),
    ):
        assert table[name]["mean"][channel] == pytest.approx(mean, rel=1e-6)
        assert table[name]["std"][channel] == pytest.approx(std, rel=1e-6)


def test_paths_in_a_config():
    assert named_paths("folder") == "folder"
    assert named_paths("a.pt, b.pt,c.pt") == {"vae": "a.pt", "flow": "b.pt", "visibility": "c.pt"}
    with pytest.raises(ValueError, match="names 2 files: give a folder, or the checkpoints of vae"):
        named_paths("a,b")


class Clips:
    """A source of one clip, as the inputs open it."""

    def __init__(self):
        self.windows = [type("Window", (), {"file": 0, "start": 5})()]
        self.files = [type("File", (), {"name": "v", "path": "v.mp4"})()]

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return micro.clip(1, G)


class Inputs:
    def __init__(self, *_):
        pass

    def open(self, name):
        return Clips()

    def frames(self, source, index, height):
        return source[index].video


@pytest.mark.slow
def test_a_run_of_the_released_weights(folder, tmp_path, monkeypatch):
    config = get_config("released")
    config.released, config.clips = str(folder), "videos"
    config.sampling.update(steps=2, samples=2)
    config.report.height, config.compile_cache = 48, ""
    monkeypatch.setattr(run, "ConfiguredInputs", Inputs)
    with pytest.raises(ValueError, match=r"data\.size_hw is \(480, 832\): set --config.data.size_"):
        run.run(config, tmp_path / "run", "sample")
    config.data.update(size_hw=G.size_hw, stride=8, frames=9)
    out = run.run(config, tmp_path / "run", "sample")
    (name, forecast), *_ = read_forecasts(out).items()
    clip = micro.clip(1, G)
    np.testing.assert_array_equal(forecast.gt_tracks, clip.tracks[:, 9:18])
    assert forecast.grid_hw == G.grid_hw and forecast.pred_probability is not None
    other = read_forecasts(tmp_path / "run" / "samples_1")[name]
    assert not np.array_equal(other.pred_tracks, forecast.pred_tracks)
    meta = forecast.meta
    assert (meta["cond_index"], meta["steps"], meta["noise_seed"]) == (14, 2, 42)
    assert meta["tavid_jax"]["weights/flow"] and meta["gt_meta"]["gt_eval_slice"] == [9, 18]
    assert (out / name / "forecast.webp").exists() and (out / name / "gt_full.npz").exists()


def test_a_run_without_weights(tmp_path):
    with pytest.raises(ValueError, match="by --config.released=FOLDER"):
        run.run(get_config("released"), tmp_path / "run", "sample")
