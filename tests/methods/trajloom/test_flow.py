"""The flow's objective, against numpy on a linear velocity field."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import sources, times
from tavid_jax.engine import trees
from tavid_jax.methods.trajloom.flow import FlowMethod, drop_text
from tests.methods.trajloom import micro

STEP = jnp.zeros((), jnp.int32)
A, B = 0.3, -0.7  # of LinearFlow


def method(cached=True, model=None, **learn) -> FlowMethod:
    rollout = learn.pop("rollout", {})
    options = dict(model=dict(flow=model or {}), learn=dict(flow=dict(**learn, rollout=rollout)))
    s = micro.linear_settings(**options)
    return FlowMethod(s.vae, s.flow, s.geometry, s.flow_losses, cached)


PARAMS = {"flow": {"a": jnp.float32(A), "b": jnp.float32(B)}, "statistics": micro.statistics()}


def run(batch, seed=1, **options):
    found = method(**options).loss(PARAMS, batch, micro.keys(len(batch["future"]), seed), STEP)
    (total, weight), logs = found
    return float(total / weight), {k: float(s / w) for k, (s, w) in logs.items()}


def draw(keys, mode="anchor_first", kind="mixture", table="all", batch=None):
    """Standardised latents, source, time and tube noise of every clip, from the loss's keys."""
    s = jax.tree.map(np.asarray, micro.statistics()[table])
    history, z1 = ((np.asarray(batch[k]) - s["mean"]) / s["std"] for k in ("history", "future"))
    k_time, k_source, k_tube, _ = (
        jnp.stack(part) for part in zip(*(jax.random.split(k, 4) for k in keys), strict=True)
    )
    options = dict(small_prob=0.2, small_max=0.1) if kind == "mixture" else {}
    t = np.asarray(times.sample_times(k_time, kind, **options))
    last = jnp.asarray(history[:, -1], jnp.float32)
    z0 = np.asarray(sources.draw_source(k_source, last, micro.L, mode=mode, std=0.1))
    eps = np.stack([jax.random.normal(k, z0.shape[1:]) for k in k_tube])
    return history, z0, z1, t, eps


def field(z, t, history, batch, video=True, visibility=True):
    given = history.mean((1, 2, 3))
    if visibility:
        given = given + 0.5 * np.asarray(batch["history_visibility"]).mean((1, 2))
    if video:
        given = given + 0.25 * np.asarray(batch["video"]).mean((1, 2, 3))
    wide = (slice(None), None, None, None)
    return A * z + B * t[wide] + given[wide] + 0.1 * history


def weigh(squared, batch, invisible=0.01):
    """Mean over clips of sum(w e) / sum(w)."""
    w = np.where(np.asarray(batch["future_visibility"]) > 0, 1.0, invisible)
    return ((w * squared.mean(-1)).sum((1, 2)) / w.sum((1, 2))).mean()


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(source="anchor_repeat"),
        dict(source="noise"),
        dict(times="uniform"),
        dict(times="logit_normal"),
        dict(statistics="future"),
        dict(statistics="history", invisible_weight=0.3, tube_noise=0.5),
    ],
    ids=lambda o: ",".join(map(str, o.values())) or "defaults",
)
def test_loss_by_hand(options):
    batch = micro.encoded()
    history, z0, z1, t, eps = draw(
        micro.keys(),
        options.get("source", "anchor_first"),
        options.get("times", "mixture"),
        options.get("statistics", "all"),
        batch,
    )
    share = t[:, None, None, None]
    z_t = (1 - share) * z0 + share * z1 + options.get("tube_noise", 0.05) * eps
    error = field(z_t, t, history, batch) - (z1 - z0)
    want = weigh(error**2, batch, options.get("invisible_weight", 0.01))
    loss, logs = run(batch, **options)
    np.testing.assert_allclose(loss, want, rtol=1e-4)
    assert logs == {"flow": pytest.approx(loss)}


def test_unseen_tokens_hardly_count():
    batch = micro.encoded()
    unseen = np.asarray(batch["future_visibility"]) == 0
    moved = {**batch, "future": batch["future"] + 10.0 * unseen[..., None]}
    # With no weight they cannot be felt, with all of it they are.
    assert run(moved, invisible_weight=0.0)[0] == pytest.approx(run(batch, invisible_weight=0.0)[0])
    assert run(moved, invisible_weight=1.0)[0] > 2 * run(batch, invisible_weight=1.0)[0]


def test_conditions_can_be_switched_off():
    batch = micro.encoded()
    changed = {
        "video": {**batch, "video": batch["video"] + 3},
        "history_visibility": {**batch, "history_visibility": 1 - batch["history_visibility"]},
    }
    switch = {"video": "use_video_cond", "history_visibility": "use_hist_vis_cond"}
    for name, other in changed.items():
        assert run(other)[0] != run(batch)[0]
        off = {switch[name]: False}
        assert run(other, model=off)[0] == run(batch, model=off)[0]


def test_text_is_dropped_for_some_clips():
    text = jnp.ones((400, 3)) * jnp.arange(1, 401)[:, None]
    dropped = drop_text(micro.keys(400), text, 0.25)
    gone = np.asarray(dropped == 0).all(axis=1)
    assert 0.15 < gone.mean() < 0.35
    np.testing.assert_array_equal(dropped[~gone], text[~gone])
    np.testing.assert_array_equal(drop_text(micro.keys(400), text, 0.0), text)


def test_text_enters_the_loss():
    text = np.random.default_rng(0).normal(size=(3, 6))
    batch, plain = micro.encoded(text=text), micro.encoded()
    model = dict(use_text_cond=True, text_dim=6)
    assert run(batch, model=model, text_dropout=0.0)[0] != run(plain)[0]
    # All dropped is zeros, which is nothing for the linear field.
    assert run(batch, model=model, text_dropout=1.0)[0] == run(plain)[0]
    assert run(batch)[0] == run(plain)[0]  # not asked for


def test_on_policy_terms_by_hand():
    batch = micro.encoded(4)
    options = dict(on_policy=0.7, endpoint=0.3, rollout_share=0.5)
    loss, logs = run(batch, **options)
    plain, _ = run(batch)
    assert logs["flow"] == pytest.approx(plain)
    want = plain + 0.7 * (logs["rollout"] + 0.3 * logs["endpoint"])
    np.testing.assert_allclose(loss, want, rtol=1e-5)

    history, z0, z1, _, _ = draw(micro.keys(4), batch=batch)
    some = {k: np.asarray(v)[::2] for k, v in batch.items()}
    history, z0, z1 = history[::2], z0[::2], z1[::2]
    grid = 1 / (1 + np.exp(-np.linspace(np.log(0.02 / 0.98), np.log(0.98 / 0.02), 3)))
    z = (1 - grid[0]) * z0 + grid[0] * z1
    rollout, endpoint = [], []
    for t, later in zip(grid[:-1], grid[1:], strict=True):
        v = field(z, np.full(2, t), history, some)
        to_data, to_source = (z1 - z) / max(1 - t, 0.05), (z - z0) / max(t, 0.05)
        rollout.append(weigh((v - to_data) ** 2 + 0.25 * (v - to_source) ** 2, some))
        ends = (z + (1 - t) * v - z1) ** 2 + (z - t * v - z0) ** 2
        endpoint.append(ends.mean())
        z = z + (later - t) * v
    np.testing.assert_allclose(logs["rollout"], np.mean(rollout), rtol=1e-4)
    np.testing.assert_allclose(logs["endpoint"], np.mean(endpoint), rtol=1e-4)


def test_on_policy_of_no_weight_is_the_same_program():
    batch, keys = micro.encoded(), micro.keys()

    def program(m):
        # Addresses of functions are no part of a program.
        return str(jax.make_jaxpr(lambda p: m.loss(p, batch, keys, STEP))(PARAMS))

    off = method(on_policy=0.0, endpoint=5.0, rollout_share=1.0, rollout=dict(steps=3))
    assert program(off) == program(method())
    assert program(off) != program(method(on_policy=1e-9))
    assert run(batch, on_policy=0.0) == run(batch)


def test_one_clip_is_rolled_out_at_least():
    assert set(run(micro.encoded(1), on_policy=0.1, rollout_share=0.01)[1]) == {
        "flow",
        "rollout",
        "endpoint",
    }


def test_cached_and_encoded_in_the_step_are_the_same():
    clips, keys = micro.batch(2), micro.keys(2)
    inside = method(cached=False)
    params = inside.init(jax.random.key(0)) | {"statistics": micro.statistics()}
    encoded = inside.encode(params, clips, keys)
    inside_loss = inside.loss(params, encoded, keys, STEP)[0][0]
    without_vae = {k: v for k, v in params.items() if k != "vae"}
    assert set(method().init(jax.random.key(0))) == set(without_vae)
    assert method().loss(without_vae, encoded, keys, STEP)[0][0] == inside_loss
    assert set(inside.encoded_spec()) == set(encoded)


def test_init_is_one_of_the_real_models():
    s = micro.settings()
    real = FlowMethod(s.vae, s.flow, s.geometry, s.flow_losses, cached=False)
    shapes = trees.flatten(jax.eval_shape(real.init, jax.random.key(0)))
    assert {path.split("/")[0] for path in shapes} == {"flow", "vae", "statistics"}
    assert shapes["statistics/all/std"].shape == (micro.CHANNELS,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(source="anchor"), "learn.flow.source 'anchor'"),
        (dict(times="beta"), "learn.flow.times 'beta'"),
        (dict(statistics="train"), "learn.flow.statistics 'train'"),
        (dict(rollout_share=0.0), "learn.flow.rollout_share 0.0"),
    ],
)
def test_unknown_options(options, words):
    with pytest.raises(ValueError, match=words):
        run(micro.encoded(), **options)


def test_sampling_step_is_euler_on_the_trained_field():
    batch = micro.encoded(3)
    _, z, _, _, _ = draw(micro.keys(3, 1), batch=batch)
    time, length = jnp.array([0.0, 0.3, 0.9]), jnp.array([0.5, 0.1, 0.1])
    given = {"state": jnp.asarray(z), "time": time, "length": length}
    made = method()
    names = set(made.sample_spec())
    assert names == {"history", "history_visibility", "video", "state", "time", "length"}
    inputs = {name: x for name, x in {**batch, **given}.items() if name in names}
    for name, spec in made.sample_spec().items():
        assert inputs[name].shape == (3, *spec.shape), name
    new = made.sample_step(PARAMS, inputs, micro.keys(3, 2))
    table = jax.tree.map(np.asarray, micro.statistics()["all"])
    history = (np.asarray(batch["history"]) - table["mean"]) / table["std"]
    velocity = field(z, np.asarray(time), history, batch)
    expected = z + np.asarray(length)[:, None, None, None] * velocity
    np.testing.assert_allclose(new["state"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(new["time"], time + length, rtol=1e-6)
