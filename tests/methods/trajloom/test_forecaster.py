"""Sampling: phases, solvers, samples of one clip, and what counts as visible."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.methods.trajloom.flow import conditions, draw_source
from tavid_jax.methods.trajloom.forecaster import Forecaster, Sampling
from tavid_jax.methods.trajloom.latents import blank_statistics, encode_batch, standardise
from tavid_jax.models.latte import parts
from tests.methods.trajloom import micro

G = micro.GEOMETRY
RNG = jax.random.key(7)


def linear_params(s):
    batch = micro.batch(1)
    tracks, latents = batch["history_tracks"], jnp.zeros((1, micro.L, micro.N, micro.CHANNELS))
    return {
        "vae": s.vae.init(jax.random.key(0), tracks, method="encode")["params"],
        "flow": {"a": jnp.float32(-1.2), "b": jnp.float32(0.5)},
        "visibility": s.visibility.init(jax.random.key(2), latents)["params"],
        "statistics": micro.statistics(),
    }


def linear(model=None, learn=None, without=(), **sampling) -> Forecaster:
    s = micro.linear_settings(model=model or {}, learn=learn or {})
    params = {k: v for k, v in linear_params(s).items() if k not in without}
    return Forecaster(s, params, Sampling(**{"steps": 4, **sampling}))


@pytest.fixture(scope="module")
def real() -> Forecaster:
    """The real modules with random weights."""
    s = micro.settings()
    latents = jnp.zeros((1, micro.L, micro.N, micro.CHANNELS))
    tracks, time = micro.batch(1)["history_tracks"], jnp.zeros(1)
    video, seen = jnp.zeros((1, micro.L, micro.N, micro.VIDEO_CHANNELS)), latents[..., 0]

    def init(key):
        return {
            "vae": s.vae.init(key, tracks)["params"],
            "flow": s.flow.init(key, latents, time, latents, seen, video)["params"],
            "visibility": s.visibility.init(key, latents)["params"],
        }

    params = micro.random_params(init) | {"statistics": micro.statistics()}
    return Forecaster(s, params, Sampling(steps=3))


@pytest.fixture(scope="module")
def forecast(real):
    return real(micro.batch(2), RNG, 2)


def test_shapes_and_ranges(forecast):
    shape = (2, 2, G.frames, *G.grid_hw)
    assert forecast.tracks.shape == (*shape, 2) and forecast.tracks.dtype == jnp.float32
    assert forecast.visible.shape == forecast.probability.shape == shape
    tracks = np.asarray(forecast.tracks)
    assert tracks.min() >= 0 and tracks[..., 0].max() <= 31 and tracks[..., 1].max() <= 23
    assert np.asarray(forecast.probability).min() >= 0 and forecast.probability.max() <= 1


def test_euler_is_a_loop_and_conditions_are_those_of_training(real):
    """The compiled integration against steps of the whole model with the loss's inputs."""
    s, params, batch = real.settings, real.params, micro.batch(2)
    prepared = real._compiled["prepare"](params, batch)
    found = real.integrate(prepared, RNG, 2)

    encoded = jax.jit(lambda b: encode_batch(s.vae, s.geometry, params["vae"], b))(batch)
    history = standardise(encoded["history"], params["statistics"]["all"])
    np.testing.assert_allclose(prepared.history, history, rtol=1e-4, atol=1e-5)
    given = conditions(encoded, history, s.flow)
    velocity = jax.jit(lambda z, t: s.flow.apply({"params": params["flow"]}, z, t, **given))
    for k in range(2):
        keys = jnp.stack([jax.random.fold_in(jax.random.fold_in(RNG, i), k) for i in range(2)])
        z = draw_source(keys, history, s.flow_losses)
        for step in range(3):
            t = np.clip(np.full(2, step / 3, np.float32), 1e-5, 1 - 1e-5)
            z = z + velocity(z, t) / 3
        np.testing.assert_allclose(found[:, k], z, rtol=2e-4, atol=2e-5)


def test_nothing_compiles_twice(real, forecast):
    compiled = {name: phase._cache_size() for name, phase in real._compiled.items()}
    again = real(micro.batch(2), RNG, 2)
    assert {name: phase._cache_size() for name, phase in real._compiled.items()} == compiled
    np.testing.assert_array_equal(again.tracks, forecast.tracks)  # same seed, same futures


def test_seeds_clips_and_samples_differ(real, forecast):
    other = real(micro.batch(2), jax.random.key(8), 2)
    assert not np.array_equal(other.tracks, forecast.tracks)
    assert not np.array_equal(forecast.tracks[:, 0], forecast.tracks[:, 1])
    same = {k: jnp.stack([v[0], v[0]]) for k, v in micro.batch(2).items()}
    twins = real(same, RNG, 2)
    assert not np.array_equal(twins.tracks[0], twins.tracks[1])


def test_samples_share_a_context_and_change_nothing():
    model = linear()
    prepared = model._compiled["prepare"](model.params, micro.batch(2))
    together = model.integrate(prepared, RNG, 3)
    for k in range(3):
        keys = jnp.stack([jax.random.fold_in(jax.random.fold_in(RNG, i), k) for i in range(2)])
        alone = model._compiled["integrate"](
            model.params, prepared, keys[:, None], solver="euler", steps=4
        )
        np.testing.assert_allclose(together[:, k], alone[:, 0], rtol=1e-6, atol=1e-6)
    # More samples do not change the first ones.
    np.testing.assert_allclose(model.integrate(prepared, RNG, 2), together[:, :2], atol=1e-6)


def exact(model, prepared, keys):
    """dz/dt = a z + b t + c by its closed form."""
    a, b = (float(model.params["flow"][k]) for k in "ab")
    z0 = draw_source(keys, prepared.history, model.settings.flow_losses)
    c = prepared.context.condition[:, :, None, None] + 0.1 * prepared.history
    particular = -b / a - c / a - b / a**2
    return (z0 + c / a + b / a**2) * np.exp(a) + particular


def test_solvers_agree_on_a_smooth_field():
    model = linear(steps=64, solver="heun")
    prepared = model._compiled["prepare"](model.params, micro.batch(2))
    keys = jnp.stack([jax.random.fold_in(jax.random.fold_in(RNG, i), 0) for i in range(2)])
    want = exact(model, prepared, keys)
    solutions = {}
    for solver, steps, tolerance in (("euler", 256, 2e-2), ("heun", 64, 1e-3), ("dopri5", 1, 1e-3)):
        z = model._compiled["integrate"](
            model.params, prepared, keys[:, None], solver=solver, steps=steps
        )
        solutions[solver] = z[:, 0]
        np.testing.assert_allclose(z[:, 0], want, atol=tolerance, rtol=1e-3, err_msg=solver)
    error = {k: float(jnp.abs(z - want).max()) for k, z in solutions.items()}
    assert error["heun"] < error["euler"] / 10


def test_history_visibility_can_be_withheld():
    batch = micro.batch(2)
    blind = {**batch, "history_visibility": jnp.zeros_like(batch["history_visibility"])}
    given, zeros = linear(), linear(history_visibility="zeros")
    assert not np.array_equal(given(batch, RNG).tracks, given(blind, RNG).tracks)
    np.testing.assert_array_equal(zeros(batch, RNG).tracks, zeros(blind, RNG).tracks)
    np.testing.assert_array_equal(zeros(batch, RNG).tracks, given(blind, RNG).tracks)


def latents_at(model, xy):
    """Standardised latents that decode to one point (px) everywhere, or nearly so."""
    outward = np.asarray(model.params["vae"]["outward"], np.float64)
    field = np.asarray(xy) / [16, 12] - 1
    z = field @ np.linalg.pinv(outward)
    table = jax.tree.map(np.asarray, model.params["statistics"]["all"])
    scaled = ((z - table["mean"]) / table["std"]).astype(np.float32)
    return jnp.broadcast_to(scaled, (1, 1, micro.L, micro.N, micro.CHANNELS))


def decode(model, xy):
    latents = latents_at(model, xy)
    return model._compiled["decode"](model.params, jnp.zeros_like(latents[:, 0]), latents)


@pytest.mark.parametrize(
    ("xy", "inside", "shown"),
    [
        ((10.0, 20.0), True, (10.0, 20.0)),
        ((30.9, 22.9), True, (30.9, 22.9)),
        ((31.5, 5.0), False, (30.999, 5.0)),  # between the last pixel's centre and the edge
        ((50.0, 40.0), False, (30.999, 22.999)),
        ((-9.0, 5.0), True, (0.0, 5.0)),  # clamped to the border, which belongs to the frame
    ],
)
def test_what_leaves_the_frame_is_clipped_and_unseen(xy, inside, shown):
    model = linear(without=("visibility",))
    found = decode(model, xy)
    np.testing.assert_allclose(found.tracks[0, 0, 3, 1, 2], shown, atol=2e-3)
    assert bool(found.visible.all()) == inside and bool(found.visible.any()) == inside
    np.testing.assert_array_equal(found.probability, 1.0)


def test_without_the_clamp_the_left_border_is_left_too():
    model = linear(without=("visibility",), clamp=False)
    found = decode(model, (-9.0, 5.0))
    np.testing.assert_allclose(found.tracks[0, 0, 3, 1, 2], (0.0, 5.0), atol=2e-3)
    assert not found.visible.any()


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_visible_is_probable_enough_and_inside(threshold):
    model = linear(threshold=threshold)
    rng = np.random.default_rng(1)
    latents = jnp.asarray(rng.normal(size=(2, 3, micro.L, micro.N, 4)), jnp.float32)
    found = model._compiled["decode"](model.params, latents[:, 0], latents)
    logits = np.asarray(latents) @ np.asarray(model.params["visibility"]["weight"])
    want = (1 / (1 + np.exp(-logits))).repeat(4, axis=2)[:, :, :9].reshape(2, 3, 9, *G.grid_hw)
    np.testing.assert_allclose(found.probability, want, rtol=1e-4, atol=1e-6)
    table = jax.tree.map(np.asarray, model.params["statistics"]["all"])
    z = np.asarray(latents) * table["std"] + table["mean"]
    field = (z @ np.asarray(model.params["vae"]["outward"])).repeat(4, axis=2)[:, :, :9]
    pixels = (np.clip(field, -1, 1).reshape(2, 3, 9, *G.grid_hw, 2) + 1) * [16, 12]
    inside = ((pixels >= 0) & (pixels <= [31, 23])).all(-1)
    np.testing.assert_array_equal(found.visible, (want > threshold) & inside)
    assert 0 < np.asarray(found.visible).mean() < 1 and not inside.all()


def test_head_that_reads_the_last_history_latent():
    learn = dict(visibility=dict(segments=("future",)))
    model = linear(model=dict(visibility=dict(use_hist_last=True)), learn=learn)
    rng = np.random.default_rng(2)
    history, latents = (
        jnp.asarray(rng.normal(size=s), jnp.float32)
        for s in ((2, micro.L, micro.N, 4), (2, 3, micro.L, micro.N, 4))
    )
    found = model._compiled["decode"](model.params, history, latents)
    logits = np.asarray(latents) @ np.asarray(model.params["visibility"]["weight"])
    logits = logits + np.asarray(history)[:, None, -1:].mean(-1)  # its clip's own
    want = 1 / (1 + np.exp(-logits))
    got = np.asarray(found.probability).reshape(2, 3, 9, micro.N)[:, :, ::4]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_the_first_latent_can_be_held():
    model = linear(learn=dict(flow=dict(fix_first=True)))
    prepared = model._compiled["prepare"](model.params, micro.batch(2))
    z = model.integrate(prepared, RNG, 2)
    for k in range(2):
        np.testing.assert_array_equal(z[:, k, 0], prepared.history[:, -1])
    assert not np.allclose(z[:, :, 1], prepared.history[:, None, -1])


def test_reconstruct_goes_through_the_mean():
    model = linear()
    tracks = np.asarray(micro.batch(2)["future_tracks"])
    vae = jax.tree.map(np.asarray, model.params["vae"])
    field = (tracks / [16, 12] - 1)[:, ::4] @ vae["inward"] @ vae["outward"]
    want = (np.clip(field.repeat(4, axis=1)[:, :9], -1, 1) + 1) * [16, 12]
    np.testing.assert_allclose(model.reconstruct(tracks), want, rtol=1e-4, atol=1e-3)


def test_blank_statistics_standardise_nothing():
    model = linear()
    model.params = model.params | {"statistics": blank_statistics(micro.CHANNELS)}
    prepared = model._compiled["prepare"](model.params, micro.batch(1))
    raw = model.settings.vae.apply(
        {"params": model.params["vae"]},
        micro.batch(1)["history_tracks"] / jnp.array([16.0, 12.0]) - 1,
        method="encode",
    ).mean
    np.testing.assert_allclose(prepared.history, raw, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(history_visibility="none"), "sampling.history_visibility 'none' is neither"),
        (dict(solver="midpoint"), "sampling.solver 'midpoint' is none of"),
        (dict(steps=0), "sampling.steps is 0, must be at least 1"),
        (dict(samples=0), "sampling.samples is 0, must be at least 1"),
    ],
)
def test_sampling_is_checked(changes, words):
    with pytest.raises(ValueError, match=words):
        Sampling(**changes)
    assert dataclasses.asdict(Sampling())["steps"] == 10


def test_fields_in_parts_give_the_same_forecast(real, forecast, monkeypatch):
    """As on a CPU at the paper's size, where a field does not fit a cache."""
    monkeypatch.setitem(parts.NUMBERS, "cpu", 100)
    walked = Forecaster(real.settings, real.params, real.sampling)(micro.batch(2), RNG, 2)
    np.testing.assert_allclose(walked.tracks, forecast.tracks, atol=1e-3)
    np.testing.assert_allclose(walked.probability, forecast.probability, atol=1e-5)
