"""Each loss against loops or closed forms, and sums of parts against the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.diffusion import losses

B, T, H, W = 4, 5, 6, 7


def _fields(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    predicted = scale * rng.normal(size=(B, T, H, W, 2)).astype(np.float32)
    target = scale * rng.normal(size=(B, T, H, W, 2)).astype(np.float32)
    mask = rng.random((B, T, H, W)) < np.array([0.9, 0.4, 0.1, 0.0])[:, None, None, None]
    return jnp.asarray(predicted), jnp.asarray(target), jnp.asarray(mask)


def _rho(error, kind):
    size = np.abs(error)
    huber = np.where(size <= 1, size**2 / 2, size - 0.5)
    return {"l1": size, "l2": size**2, "huber": huber}[kind]


@pytest.mark.parametrize("kind", ["l1", "l2", "huber"])
def test_rho(kind):
    error = np.linspace(-3, 3, 25, dtype=np.float32)
    np.testing.assert_allclose(losses.rho(jnp.asarray(error), kind), _rho(error, kind), rtol=1e-6)


def test_rho_names_unknown_penalty():
    with pytest.raises(ValueError, match="'l3'"):
        losses.rho(jnp.zeros(2), "l3")


def test_reconstruction_is_the_masked_mean_over_coordinates():
    y, x, m = _fields()
    total, weight = losses.reconstruction(y, x, m)
    values = []
    for b in range(B):
        h = _rho(np.asarray(y - x)[b], "huber") * np.asarray(m)[b][..., None]
        values.append(h.sum() / max(2 * np.asarray(m)[b].sum(), 1))
    np.testing.assert_allclose(total, np.sum(values), rtol=1e-5)
    assert float(weight) == B and values[3] == 0
    total, weight = losses.reconstruction(y, x)
    np.testing.assert_allclose(total / weight, _rho(np.asarray(y - x), "huber").mean(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["l1", "l2", "huber"])
def test_velocity_against_loops(kind):
    y, x, m = _fields()
    y_, x_, m_ = np.asarray(y), np.asarray(x), np.asarray(m, np.float32)
    values = []
    for b in range(B):
        total = count = 0.0
        for t in range(T - 1):
            both = m_[b, t] * m_[b, t + 1]
            error = (y_[b, t + 1] - y_[b, t]) - (x_[b, t + 1] - x_[b, t])
            total += (both * _rho(error, kind).mean(-1)).sum()
            count += both.sum()
        values.append(total / max(count, 1))
    result = losses.velocity(y, x, m, kind=kind)
    np.testing.assert_allclose(losses.divide(result), np.mean(values), rtol=1e-5)


@pytest.mark.parametrize("kind", ["l1", "l2", "huber"])
@pytest.mark.parametrize("hops", [losses.HOPS, ((1, 1.0),), ((2, 0.5), (6, 3.0), (9, 1.0))])
def test_neighbours_against_loops(kind, hops):
    y, x, m = _fields()
    e, m_ = np.asarray(y - x), np.asarray(m, np.float32)
    values = []
    for b in range(B):
        total = count = 0.0
        for hop, alpha in hops:
            for i in range(H):
                for j in range(W):
                    for k, n in ((i + hop, j), (i, j + hop)):
                        if k >= H or n >= W:
                            continue
                        both = alpha * m_[b, :, i, j] * m_[b, :, k, n]
                        error = e[b, :, k, n] - e[b, :, i, j]
                        total += (both * _rho(error, kind).mean(-1)).sum()
                        count += both.sum()
        values.append(total / max(count, 1))
    result = losses.neighbours(y, x, m, kind=kind, hops=hops)
    np.testing.assert_allclose(losses.divide(result), np.mean(values), rtol=1e-5)


def test_hops_beyond_the_grid_are_no_pairs_and_zero_hops_an_error():
    y, x, m = _fields()
    assert float(losses.neighbours(y, x, m, hops=((8, 1.0),))[0]) == 0
    with pytest.raises(ValueError, match="at least 1"):
        losses.neighbours(y, x, m, hops=((0, 1.0),))


def test_regularisers_do_not_see_a_common_shift():
    _, x, m = _fields()
    shift = jnp.array([0.3, -0.2])
    assert float(losses.velocity(x + shift, x, m)[0]) < 1e-10
    assert float(losses.neighbours(x + shift, x, m)[0]) < 1e-10
    ramp = x + jnp.arange(T)[None, :, None, None, None] * shift
    assert float(losses.neighbours(ramp, x, m)[0]) < 1e-10
    assert float(losses.velocity(ramp, x, m)[0]) > 1e-3


def test_kl_against_closed_form():
    mu, std = jnp.full((2, 3, 4, 5), 0.5), jnp.full((2, 3, 4, 5), 2.0)
    total, weight = losses.gaussian_kl(mu, std)
    np.testing.assert_allclose(total, 2 * ((4 + 0.25 - 1) / 2 - np.log(2)), rtol=1e-6)
    assert float(weight) == 2
    assert float(losses.gaussian_kl(jnp.zeros((2, 3)), jnp.ones((2, 3)))[0]) == 0


def _latents(seed=0):
    rng = np.random.default_rng(seed)
    v, u = rng.normal(size=(2, B, 3, 6, 5)).astype(np.float32)
    visible = rng.random((B, 3, 6)) < np.array([0.9, 0.4, 0.1, 0.0])[:, None, None]
    return jnp.asarray(v), jnp.asarray(u), jnp.asarray(visible)


def test_flow_loss_normalises_weights_in_each_clip():
    v, u, visible = _latents()
    weights = losses.token_weights(visible, 0.01)
    assert set(np.unique(weights)) == {np.float32(0.01), np.float32(1.0)}
    w = np.asarray(weights, np.float64)
    squared = (np.asarray(v - u, np.float64) ** 2).mean(-1)
    expected = [(w[b] / w[b].sum() * squared[b]).sum() for b in range(B)]
    total, weight = losses.flow_matching(v, u, weights)
    np.testing.assert_allclose(total, np.sum(expected), rtol=1e-5)
    assert float(weight) == B
    # A clip without a visible token counts as much as any other.
    np.testing.assert_allclose(expected[3], squared[3].mean(), rtol=1e-6)
    np.testing.assert_allclose(losses.divide(losses.flow_matching(v, u)), squared.mean(), rtol=1e-5)


def test_binary_cross_entropy():
    logits = jnp.array([[2.0, -1.0], [30.0, -200.0]])
    visible = jnp.array([[True, True], [True, False]])
    p = 1 / (1 + np.exp(-np.array([2.0, -1.0])))
    total, weight = losses.binary_cross_entropy(logits, visible)
    np.testing.assert_allclose(total, -np.log(p).mean(), rtol=1e-5)
    assert float(weight) == 2
    doubled, _ = losses.binary_cross_entropy(logits, visible, pos_weight=2.0)
    np.testing.assert_allclose(doubled, 2 * total, rtol=1e-5)


@jax.jit
def _all_losses(y, x, m, v, u, visible, clip_weight=None):
    weights = losses.token_weights(visible)
    std = 0.1 + jnp.abs(u)
    return {
        "reconstruction": losses.reconstruction(y, x, m, clip_weight),
        "velocity": losses.velocity(y, x, m, clip_weight),
        "neighbours": losses.neighbours(y, x, m, clip_weight),
        "kl": losses.gaussian_kl(v, std, clip_weight),
        "flow": losses.flow_matching(v, u, weights, clip_weight),
        "bce": losses.binary_cross_entropy(v[..., 0], visible, 1.5, clip_weight),
        "sum": losses.combine(
            [
                (1.0, losses.reconstruction(y, x, m, clip_weight)),
                (0.1, losses.velocity(y, x, m, clip_weight)),
                (0.2, losses.neighbours(y, x, m, clip_weight)),
            ]
        ),
    }


def test_accumulated_pairs_equal_the_big_batch_under_uneven_masks():
    arrays = (*_fields(), *_latents())
    whole = _all_losses(*arrays)
    parts = [_all_losses(*(a[s] for a in arrays)) for s in (slice(0, 1), slice(1, 4))]
    for name, (total, weight) in whole.items():
        accumulated = sum(part[name][0] for part in parts), sum(part[name][1] for part in parts)
        np.testing.assert_allclose(accumulated[0] / accumulated[1], total / weight, rtol=1e-5)
        # Averaging the parts' means would have been wrong, so the test can tell.
        naive = np.mean([losses.divide(part[name]) for part in parts])
        assert abs(naive - total / weight) > 1e-4 * abs(total / weight), name


def test_accumulated_gradients_equal_the_big_batch():
    y, x, m = _fields()

    def loss(scale, y, x, m):
        terms = losses.reconstruction(scale * y, x, m), losses.neighbours(scale * y, x, m)
        return losses.combine([(1.0, terms[0]), (0.2, terms[1])])

    gradient = jax.jit(jax.grad(lambda scale, *arrays: loss(scale, *arrays)[0]))
    whole = gradient(1.0, y, x, m) / 4
    parts = sum(gradient(1.0, y[s], x[s], m[s]) for s in (slice(0, 2), slice(2, 4))) / 4
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_padding_clips_count_nothing():
    arrays = (*_fields(), *_latents())
    padded = _all_losses(*arrays, clip_weight=jnp.array([1.0, 1.0, 0.0, 0.0]))
    alone = _all_losses(*(a[:2] for a in arrays))
    for name, (total, weight) in alone.items():
        np.testing.assert_allclose(padded[name][0], total, rtol=1e-5, err_msg=name)
        assert float(padded[name][1]) == float(weight) == 2


def test_combine_joins_a_sub_batch_at_its_own_mean():
    total, weight = losses.combine(
        [(1.0, (jnp.float32(16), jnp.float32(8))), (0.1, (jnp.float32(12), jnp.float32(4)))]
    )
    np.testing.assert_allclose(total / weight, 2 + 0.1 * 3, rtol=1e-6)
    assert float(losses.divide((jnp.float32(0), jnp.float32(0)))) == 0


def test_losses_are_float32_under_bfloat16():
    y, x, m = _fields()
    total, weight = losses.reconstruction(y.astype(jnp.bfloat16), x.astype(jnp.bfloat16), m)
    assert total.dtype == weight.dtype == jnp.float32
