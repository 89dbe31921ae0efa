"""The VAE's objective, against numpy on a linear autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.engine import trees
from tavid_jax.engine.placement import split_trainable
from tavid_jax.methods.trajloom.vae import VAELosses, VAEMethod
from tests.methods.trajloom import micro

G = micro.GEOMETRY
STEP = jnp.zeros((), jnp.int32)
SCALE = np.array([16.0, 12.0])  # pixels per normalised unit, (x, y)


def method(s=None, **weights) -> VAEMethod:
    s = s or micro.linear_settings()
    return VAEMethod(s.vae, s.geometry, VAELosses(**weights))


@pytest.fixture(scope="module")
def params():
    return method().init(jax.random.key(0))


def value(ratio) -> float:
    return float(ratio[0] / ratio[1])


def run(params, batch, seed=1, **weights):
    count = len(batch["history_tracks"])
    (total, weight), logs = method(**weights).loss(params, batch, micro.keys(count, seed), STEP)
    return value((total, weight)), {k: value(v) for k, v in logs.items()}, float(weight)


def huber(e):
    return np.where(np.abs(e) <= 1, 0.5 * e**2, np.abs(e) - 0.5)


def by_hand(params, batch, beta=5e-5, velocity=0.1, neighbour=0.2, seed=1, dense=False):
    """Equation by equation, in float64 and with loops over windows and hops."""
    vae = jax.tree.map(np.asarray, params["vae"])
    xs = np.concatenate([batch["history_tracks"], batch["future_tracks"]]).astype(np.float64)
    ms = np.concatenate([batch["history_visibility"], batch["future_visibility"]]).astype(float)
    xs = xs / SCALE - 1
    split = [jax.random.split(key, 2) for key in micro.keys(len(xs) // 2, seed)]
    keys = [pair[0] for pair in split] + [pair[1] for pair in split]
    terms, px = [], np.zeros(2)
    for x, m, key in zip(xs, ms, keys, strict=True):
        mean = (x[::4].reshape(3, -1, 2)) @ vae["inward"]
        std = np.broadcast_to(vae["spread"], mean.shape)
        z = mean + std * np.asarray(jax.random.normal(key, mean.shape))
        y = np.repeat(z @ vae["outward"], 4, axis=0)[:9].reshape(9, *G.grid_hw, 2)
        if dense:
            x, m, y = (a.repeat(8, axis=1).repeat(8, axis=2) for a in (x, m, y))
            y = y + 0.01 * np.arange(32)[:, None]
        e = y - x
        px += [(np.linalg.norm(e * SCALE, axis=-1) * m).sum(), m.sum()]
        both = m[1:] * m[:-1]
        near = count = 0.0
        for hop, a in ((1, 1.0), (2, 0.5), (4, 0.25)):
            for axis in (1, 2):
                if hop >= e.shape[axis]:
                    continue
                p, q = (np.arange(e.shape[axis] - hop) + k for k in (0, hop))
                pair = a * m.take(p, axis) * m.take(q, axis)
                near += (pair * huber(e.take(q, axis) - e.take(p, axis)).mean(-1)).sum()
                count += pair.sum()
        terms.append(
            {
                "reconstruction": (m[..., None] * huber(e)).sum() / (2 * m.sum()),
                "kl": (0.5 * (std**2 + mean**2 - 1) - np.log(std)).mean(),
                "velocity": (both * huber(e[1:] - e[:-1]).mean(-1)).sum() / both.sum(),
                "neighbour": near / count,
            }
        )
    logs = {name: np.mean([t[name] for t in terms]) for name in terms[0]}
    loss = logs["reconstruction"] + beta * logs["kl"]
    loss += velocity * logs["velocity"] + neighbour * logs["neighbour"]
    return loss, logs | {"vepe_px": px[0] / px[1]}


@pytest.mark.parametrize("field", ["cells", "dense"])
def test_loss_is_the_papers(params, field):
    batch = micro.batch(2)
    loss, logs, weight = run(params, batch, beta=0.03, field=field)
    want, parts = by_hand(params, batch, beta=0.03, dense=field == "dense")
    assert weight == 4  # two windows per clip
    assert logs.keys() == parts.keys()
    for name, number in parts.items():
        np.testing.assert_allclose(logs[name], number, rtol=2e-4, err_msg=name)
    np.testing.assert_allclose(loss, want, rtol=2e-4)


def test_unseen_windows_have_no_weight(params):
    batch = micro.batch(2)
    blind = {**batch, "future_visibility": jnp.zeros_like(batch["future_visibility"])}
    loss, logs, weight = run(params, blind)
    assert weight == 2 and np.isfinite(loss)
    # What such a window holds changes nothing.
    far = {**blind, "future_tracks": blind["future_tracks"] + 50}
    assert run(params, far)[:2] == (loss, logs)
    assert run(params, {**batch, "future_tracks": far["future_tracks"]})[0] != loss


def test_nothing_seen_at_all_is_no_loss(params):
    batch = micro.batch(1)
    nothing = {k: jnp.zeros_like(v) if "visib" in k else v for k, v in batch.items()}
    (total, weight), _ = method().loss(params, nothing, micro.keys(1), STEP)
    assert (float(total), float(weight)) == (0.0, 0.0)


def test_unseen_points_do_not_matter(params):
    batch = micro.batch(1)
    moved = dict(batch)
    for half in ("history", "future"):
        # The linear model encodes frames 0, 4 and 8 only: the others are targets alone.
        unseen = ~np.asarray(batch[f"{half}_visibility"])
        unseen[:, ::4] = False
        moved[f"{half}_tracks"] = batch[f"{half}_tracks"] + 30.0 * unseen[..., None]
    assert run(params, moved)[0] == run(params, batch)[0]


def test_terms_can_be_left_out(params):
    batch = micro.batch(1)
    full, logs, _ = run(params, batch)
    loss, fewer, _ = run(params, batch, velocity=0.0, neighbour=0.0)
    assert set(logs) - set(fewer) == {"velocity", "neighbour"}
    rest = 0.1 * logs["velocity"] + 0.2 * logs["neighbour"]
    np.testing.assert_allclose(full - loss, rest, rtol=1e-3)


def test_the_mean_has_no_kl_and_no_noise(params):
    batch = micro.batch(1)
    first, logs, _ = run(params, batch, seed=1, sample=False)
    assert "kl" not in logs
    assert first == run(params, batch, seed=2, sample=False)[0]
    assert run(params, batch, seed=1)[0] != run(params, batch, seed=2)[0]


def test_both_windows_of_a_clip_have_noise_of_their_own(params):
    batch = micro.batch(1)
    same = {
        **batch,
        "future_tracks": batch["history_tracks"],
        "future_visibility": batch["history_visibility"],
    }
    noisy = method().loss(params, same, micro.keys(1), STEP)[1]["reconstruction"][0]
    flipped = {k: same[k] for k in same} | {
        "future_visibility": jnp.zeros_like(same["future_visibility"])
    }
    alone = method().loss(params, flipped, micro.keys(1), STEP)[1]["reconstruction"][0]
    assert abs(float(noisy) - 2 * float(alone)) > 1e-6


def test_field_is_checked():
    with pytest.raises(ValueError, match="learn.vae.field 'pixels' is neither"):
        VAELosses(field="pixels")


def test_gradient_reaches_all_but_the_fixed_tables():
    real = method(micro.settings())
    params = micro.random_params(real.init)
    trainable, frozen = split_trainable(real, params)
    names = set(trees.flatten(frozen))
    assert {"vae/pos_embed", "vae/temp_embed_in", "vae/patch_pos_lff/w"} <= names
    assert all("norm2" in n for n in names if "blocks" in n)

    @jax.jit
    @jax.grad
    def grad(weights):
        total, weight = real.loss(
            trees.merge(frozen, weights), micro.batch(1), micro.keys(1), STEP
        )[0]
        return total / weight

    flat = trees.flatten(grad(trainable))
    silent = [path for path, g in flat.items() if not np.abs(g).max() > 0]
    # Softmax does not feel a shift of its logits, so biases of keys may be silent: qkv are fused.
    assert silent == [] and not names & set(flat)


def test_prepare_gives_what_loss_reads(params):
    real = method()
    example = real.prepare(micro.clip(0), np.random.default_rng(0))
    assert {k for k in example if k != "id"} == set(real.raw_spec()) == set(real.encoded_spec())
