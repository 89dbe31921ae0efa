"""Latent statistics, the cache, and what flow and visibility read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.data.records import RecordSource, RecordWriter
from tavid_jax.methods.trajloom import latents
from tests.methods.trajloom import micro

G = micro.GEOMETRY


@pytest.fixture(scope="module")
def method():
    s = micro.linear_settings()
    return latents.LatentsMethod(s.vae, s.geometry, s.features())


@pytest.fixture(scope="module")
def params(method):
    return method.init(jax.random.key(0))


@pytest.fixture(scope="module")
def examined(method, params):
    """Two batches: (encoded, sums) each."""
    clips = micro.batch(5)
    parts = [{k: v[a:b] for k, v in clips.items()} for a, b in ((0, 3), (3, 5))]
    return [method.examine(params, part, micro.keys(len(part["video"]))) for part in parts]


def test_statistics_are_numpys(method, examined):
    def total(*parts):
        return sum(np.sum(np.asarray(x), axis=0, dtype=np.float64) for x in parts)

    totals = jax.tree.map(total, *(sums for _, sums in examined))
    found = method.conclude(totals)["statistics"]
    z = {
        half: np.concatenate([np.asarray(e[half], np.float64) for e, _ in examined])
        for half in ("history", "future")
    }
    z["all"] = np.concatenate([z["history"], z["future"]])
    assert set(found) == set(z) == set(latents.SEGMENTS)
    for segment, values in z.items():
        flat = values.reshape(-1, micro.CHANNELS)
        np.testing.assert_allclose(found[segment]["mean"], flat.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[segment]["std"], flat.std(0), rtol=1e-5)
        assert found[segment]["std"].dtype == np.float32


def test_a_constant_channel_has_no_spread(method):
    count = np.float64(10)
    sums = {"count": count, "sum": np.full(4, 3e3), "squares": np.full(4, 9e5 - 1e-9)}
    found = method.conclude({"history": sums, "future": sums})["statistics"]["all"]
    np.testing.assert_array_equal(found["std"], 0.0)
    z = latents.standardise(jnp.full((2, 4), 300.0), found)
    np.testing.assert_array_equal(z, 0.0)


def test_halves_are_encoded_on_their_own(method, params):
    batch = micro.batch(2)
    encoded = method.encode(params, batch, micro.keys(2))
    for half in ("history", "future"):
        tracks = np.asarray(batch[f"{half}_tracks"]) / [16, 12] - 1
        want = tracks[:, ::4].reshape(2, 3, -1, 2) @ np.asarray(params["vae"]["inward"])
        np.testing.assert_allclose(encoded[half], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(encoded["video"], batch["video"])


def test_pooled_visibility_by_brute_force():
    seen = np.random.default_rng(3).random((2, 9, *G.grid_hw)) > 0.8
    found = np.asarray(latents.latent_visibility(jnp.asarray(seen), G))
    for b in range(2):
        for step, frames in enumerate((range(0, 4), range(4, 8), range(8, 9))):
            for i in range(3):
                for j in range(4):
                    any_seen = any(seen[b, t, i, j] for t in frames)
                    assert found[b, step, i * 4 + j] == float(any_seen)
    assert 0 < found.mean() < 1


def test_specs_are_what_encode_returns(method, params):
    encoded = method.encode(params, micro.batch(2), micro.keys(2))
    spec = method.encoded_spec()
    assert set(spec) == set(encoded)
    for name, entry in spec.items():
        assert encoded[name].shape[1:] == entry.shape, name
        assert encoded[name].dtype == entry.dtype, name


def test_cache_gives_back_what_was_encoded(tmp_path, examined):
    encoded = {k: np.asarray(v) for k, v in examined[0][0].items()}
    with RecordWriter(tmp_path / "cache") as sink:
        for i in range(3):
            sink.write({"id": f"clip{i}", **{k: v[i] for k, v in encoded.items()}})
    source = RecordSource(tmp_path / "cache")
    assert len(source) == 3
    for i in range(3):
        example = source[i]
        assert example.pop("id") == f"clip{i}"
        assert example.keys() == encoded.keys()
        for name, value in example.items():
            np.testing.assert_array_equal(value, encoded[name][i], strict=True)


def test_standardise_and_back():
    table = micro.statistics()["future"]
    z = np.random.default_rng(0).normal(size=(2, 3, 12, 4)).astype(np.float32)
    scaled = latents.standardise(jnp.asarray(z), table)
    want = (z - np.asarray(table["mean"])) / np.asarray(table["std"])
    np.testing.assert_allclose(scaled, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(latents.unstandardise(scaled, table), z, rtol=1e-5, atol=1e-6)


def test_given_latents_are_measured_and_nothing_is_encoded(method, params, examined, caplog):
    s = micro.linear_settings()
    sizes = s.vae, s.geometry, s.features()
    given = latents.GivenLatents(*sizes, "latents")
    (encoded, sums), _ = examined
    cached = {name: np.asarray(array[0]) for name, array in encoded.items()}
    example = given.prepare({"id": "a", "text": np.zeros(3), **cached}, None)
    assert set(example) == {"id", *given.raw_spec()}
    out, found = given.examine({}, encoded, micro.keys(3))
    assert out is encoded
    jax.tree.map(np.testing.assert_array_equal, found, sums)
    totals = jax.tree.map(lambda x: np.sum(np.asarray(x, np.float64), axis=0), found)
    measured = given.conclude(totals)["statistics"]
    table = {k: {f: v[f] + np.float32(1) for f in v} for k, v in measured.items()}
    told = latents.GivenLatents(*sizes, "latents", table).conclude(totals)["statistics"]
    np.testing.assert_array_equal(told["all"]["std"], table["all"]["std"])
    assert "the given statistics are not those of the given latents: z_hist" in caplog.text


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda e: e.pop("video"), "'a' has no 'video', which the model's conditions need"),
        (lambda e: e.update(future=e["future"][:1]), r"'a': 'future' has shape \[1, 12, 4\]"),
    ],
)
def test_a_cache_made_otherwise_is_refused(method, examined, change, words):
    example = {"id": "a", **{name: np.asarray(x[0]) for name, x in examined[0][0].items()}}
    change(example)
    with pytest.raises(ValueError, match=f"cached clip {words}"):
        method.recall(example, None)
