"""TrajLoom's cached latents: files of PyTorch and manifests, read and written."""

import json
import logging
import pickle

import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.data.latent_statistics import read_statistics, write_statistics
from tavid_jax.data.records import RecordWriter
from tavid_jax.pipelines.latent_cache import (
    LatentCache,
    LatentCacheError,
    LatentCacheWriter,
    given_latents,
)
from tavid_jax.pipelines.latent_cache.__main__ import main

L, N, C = 3, 6, 4


def example(index: int, **changes):
    rng = np.random.default_rng(index)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    seen = lambda: (rng.random((L, N)) > 0.5).astype(np.float32)  # noqa: E731
    held = {
        "id": f"deep/clip {index}@00000",
        "history": normal(L, N, C),
        "future": normal(L, N, C) * 2,
        "history_visibility": seen(),
        "future_visibility": seen(),
        "video": normal(L, N, 5),
        "text": normal(7),
    }
    return held | changes


@pytest.fixture
def cache(tmp_path):
    with LatentCacheWriter(tmp_path / "cache", {"vae": "abc"}) as writer:
        for index in range(4):
            writer.write(example(index), "eval" if index == 1 else "train", caption=f"c{index}")
    return tmp_path / "cache"


def official(folder, **changes):
    """A cache of one clip as TrajLoom's own code writes it: bfloat16, no meta.json."""
    held = example(0)
    tensor = {k: torch.from_numpy(v) for k, v in held.items() if k != "id"}
    clip = {
        "vid": "clip0",
        "caption": "a cat",
        "video_path": "v/clip0.mp4",
        "tracks_path": "t/clip0.npz",
        "z_hist": tensor["history"][None].bfloat16(),
        "z_fut": tensor["future"].bfloat16(),
        "z_video_hist": None,
        "text_cond": tensor["text"][None],
        "hist_vis_lat": tensor["history_visibility"].to(torch.uint8),
        "fut_vis_lat": tensor["future_visibility"].bool(),
        "stored_scaled_latents": False,
    }
    folder.mkdir()
    torch.save(clip | changes, folder / "clip0.pt")
    (folder / "manifest_train.jsonl").write_text('{"vid": "clip0", "pt_path": "clip0.pt"}\n\n')
    return folder


def test_a_cache_of_trajloom_is_read(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        source = LatentCache(official(tmp_path / "theirs"))
    assert "has no meta.json: its latents are taken to be of the VAE" in caplog.text
    found, want = source[0], example(0)
    assert (len(source), source.name, found["id"]) == (1, "latents", "clip0")
    assert "video" not in found
    for name in ("history", "future"):
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], want[name], rtol=2**-8)
    for name in ("history_visibility", "future_visibility", "text"):
        np.testing.assert_array_equal(found[name], want[name], strict=True)


def test_pytorch_reads_what_is_written(cache):
    lines = (cache / "manifest_train.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["vid"] for entry in entries] == [f"deep/clip {i}@00000" for i in (0, 2, 3)]
    held = torch.load(cache / entries[1]["path"], weights_only=True)
    want = example(2)
    assert held["caption"] == "c2" and held["stored_scaled_latents"] is False
    assert held["z_hist"].shape == (L, N, C) and held["hist_vis_lat"].dtype == torch.bool
    for key, name in (("z_fut", "future"), ("z_video_hist", "video"), ("text_cond", "text")):
        np.testing.assert_array_equal(held[key].numpy(), want[name])


def test_what_is_written_comes_back(cache):
    train, held_out = LatentCache(cache, vae="abc"), LatentCache(cache, "eval")
    assert (len(train), len(held_out), held_out.name) == (3, 1, "latents_eval")
    for found, index in ((train[0], 0), (train[-1], 3), (held_out[0], 1)):
        want = example(index)
        assert found.keys() == want.keys() and found["id"] == want["id"]
        for name in want.keys() - {"id"}:
            np.testing.assert_array_equal(found[name], want[name], strict=True)
    assert pickle.loads(pickle.dumps(train))[1]["id"] == train[1]["id"]
    future = np.stack([example(i)["future"] for i in (0, 2, 3)]).reshape(-1, C)
    table = read_statistics(cache / "vae_latent_stats.json")["future"]
    np.testing.assert_allclose(table["std"], future.std(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(train.statistics()["future"]["mean"], table["mean"], rtol=1e-5)


def test_a_cache_appears_whole_or_not_at_all(tmp_path, cache):
    with pytest.raises(RuntimeError), LatentCacheWriter(tmp_path / "new") as writer:
        writer.write(example(0))
        raise RuntimeError
    with pytest.raises(LatentCacheError, match="no training clip"):
        with LatentCacheWriter(tmp_path / "new") as writer:
            writer.write(example(0), "eval")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    with pytest.raises(LatentCacheError, match="is there already"):
        LatentCacheWriter(cache)


def test_clips_of_one_name_do_not_meet(tmp_path):
    with LatentCacheWriter(tmp_path / "twice", dtype="bfloat16") as writer:
        for _ in range(2):
            writer.write(example(0))
    found = sorted(path.name for path in (tmp_path / "twice" / "train").iterdir())
    assert found == ["deep_clip_0@00000-2.pt", "deep_clip_0@00000.pt"]


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(stored_scaled_latents=True), "holds scaled latents .*scaled twice"),
        (dict(stored_scaled_latents=torch.tensor(True)), "holds scaled latents"),
        (dict(z_fut=None), "has no z_fut"),
        (dict(z_fut=torch.zeros(2, L, N, C)), r"z_fut has shape \[2, 3, 6, 4\], 3 axes are due"),
        (dict(z_fut=torch.zeros(L, N, C + 1)), r"future has shape .* does not fit z_hist"),
        (dict(z_fut="words"), "z_fut is a str, not a tensor"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path, changes, words):
    with pytest.raises(LatentCacheError, match=f"clip0.pt: {words}"):
        LatentCache(official(tmp_path / "theirs", **changes))


def test_manifests_that_cannot_be_used(tmp_path, cache):
    with pytest.raises(LatentCacheError, match="holds no manifest_train.jsonl"):
        LatentCache(tmp_path)
    manifest = cache / "manifest_train.jsonl"
    manifest.write_text(manifest.read_text() + '{"path": "train/lost.pt"}\n')
    with pytest.raises(LatentCacheError, match=r"1 of 4 files are not in .* \(train/lost.pt\)"):
        LatentCache(cache)
    manifest.write_text('{"name": "a"}\n')
    with pytest.raises(LatentCacheError, match="manifest_train.jsonl, line 1: names no 'path'"):
        LatentCache(cache)


def test_another_vae_and_other_statistics_are_refused(tmp_path, cache):
    with pytest.raises(LatentCacheError, match="another VAE .*hash abc, those used here xyz"):
        LatentCache(cache, vae="xyz")
    own = read_statistics(cache / "vae_latent_stats.json")
    assert len(LatentCache(cache, vae="abc", statistics=own)) == 3
    own["all"]["std"] = own["all"]["std"] * 1.5
    with pytest.raises(LatentCacheError, match="other latent statistics .z_all channel"):
        LatentCache(cache, statistics=own)


def given(cache, workdir, **changes) -> tuple[ConfigDict, ConfiguredInputs]:
    stages = dict(
        vae=dict(kind="train", method="vae", init_from=()),
        latents=dict(kind="compute", method="latents", init_from=("vae",)),
    )
    names = dict(latents=str(cache), latent_statistics="", data_dir=str(workdir)) | changes
    config = ConfigDict(dict(order=("vae", "latents"), stages=stages, **names))
    return config, ConfiguredInputs(config, workdir, None, given_latents(config, workdir))


def test_a_config_names_a_cache_in_place_of_a_stages_own(tmp_path, cache):
    _, inputs = given(cache, tmp_path)
    train, held_out = inputs.open("latents"), inputs.open("latents_eval")
    assert (len(train), train.name, len(held_out), held_out.name) == (
        3,
        "latents",
        1,
        "latents_eval",
    )
    assert inputs.open("latents") is train
    assert given_latents(ConfigDict(dict(latents="")), tmp_path) == {}
    # The VAE that the run has is known once its stage has finished.
    done = tmp_path / "stages" / "vae" / "done.json"
    done.parent.mkdir(parents=True)
    done.write_text('{"weights": "xyz"}')
    with pytest.raises(LatentCacheError, match="another VAE"):
        given(cache, tmp_path)[1].open("latents")
    done.write_text('{"weights": "abc"}')
    other = read_statistics(cache / "vae_latent_stats.json")
    write_statistics(tmp_path / "other.json", {k: {**v, "mean": v["mean"] + 1} for k, v in
                                               other.items()})  # fmt: skip
    table = dict(latent_statistics=str(tmp_path / "other.json"))
    with pytest.raises(LatentCacheError, match="belongs to other latent statistics"):
        given(cache, tmp_path, **table)[1].open("latents")


def run_of(folder, count: int = 10):
    """A workdir whose latents stage has finished."""
    config, _ = given("", folder)
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    for stage, weights in (("vae", "abc"), ("latents", "def")):
        (folder / "stages" / stage).mkdir(parents=True)
        (folder / "stages" / stage / "done.json").write_text(json.dumps({"weights": weights}))
    with RecordWriter(folder / "stages" / "latents" / "cache", {"config": "1a"}) as writer:
        for index in range(count):
            writer.write(example(index))
    return folder


def test_the_latents_of_a_run_as_such_a_cache(tmp_path, capsys):
    run, out = run_of(tmp_path / "run"), tmp_path / "out"
    assert main(["export", str(run), str(out), "--eval-share", "0.3"]) == 0
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["vae"], meta["clips"]) == ("abc", {"train": 7, "eval": 3})
    both = [*LatentCache(out), *LatentCache(out, "eval")]
    assert {found["id"] for found in both} == {example(i)["id"] for i in range(10)}
    assert main(["check", str(out)]) == 0
    told = capsys.readouterr().out
    assert "latents: 7 clips\n  7 with history [3, 6, 4]" in told and "agrees" in told
    assert main(["statistics", str(out), str(tmp_path / "s.json")]) == 0
    one, other = (json.loads(p.read_text()) for p in (tmp_path / "s.json", out / "vae_latent_stats"
                                                      ".json"))  # fmt: skip
    assert one["z_hist"] == other["z_hist"]
    assert main(["export", str(run), str(out)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_check_names_what_is_wrong(tmp_path, cache, capsys):
    next((cache / "train").glob("*2*")).write_bytes(b"PK\x03\x04 cut off")
    assert main(["check", str(cache)]) == 1
    assert "BAD " in capsys.readouterr().out
    assert main(["export", str(tmp_path), str(tmp_path / "o")]) == 1
    assert "holds no run" in capsys.readouterr().err
