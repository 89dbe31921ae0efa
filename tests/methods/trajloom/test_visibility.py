"""The visibility head's objective, against numpy on a linear head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.methods.trajloom.visibility import VisibilityLosses, VisibilityMethod
from tests.methods.trajloom import micro

STEP = jnp.zeros((), jnp.int32)
BOTH = ("history", "future")


def method(cached=True, model=None, **learn) -> VisibilityMethod:
    options = dict(model=dict(visibility=model or {}), learn=dict(visibility=learn))
    s = micro.linear_settings(**options)
    return VisibilityMethod(s.vae, s.visibility, s.geometry, s.visibility_losses, cached)


@pytest.fixture(scope="module")
def params():
    return method().init(jax.random.key(0)) | {"statistics": micro.statistics()}


def run(params, batch, **options):
    (total, weight), logs = method(**options).loss(params, batch, micro.keys(), STEP)
    return float(total / weight), float(logs["accuracy"][0] / logs["accuracy"][1])


def by_hand(params, batch, segments, pos_weight=1.0, table="all", last=None):
    s = jax.tree.map(np.asarray, params["statistics"][table])
    w = np.asarray(params["visibility"]["weight"])
    losses, right = [], []
    for segment in segments:
        logits = ((np.asarray(batch[segment]) - s["mean"]) / s["std"]) @ w
        logits = logits if last is None else logits + last[:, None]
        p, y = 1 / (1 + np.exp(-logits)), np.asarray(batch[f"{segment}_visibility"])
        losses.append(-(pos_weight * y * np.log(p) + (1 - y) * np.log(1 - p)).mean())
        right.append((p > 0.5) == (y > 0.5))
    return np.mean(losses), np.mean(right)


@pytest.mark.parametrize(
    ("segments", "pos_weight", "table"),
    [(BOTH, 0.0, "all"), (("future",), 0.0, "future"), (("history",), 3.0, "all")],
)
def test_loss_by_hand(params, segments, pos_weight, table):
    batch = micro.encoded()
    found = run(params, batch, segments=segments, pos_weight=pos_weight, statistics=table)
    want = by_hand(params, batch, segments, pos_weight or 1.0, table)
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_head_that_reads_the_last_history_latent(params):
    batch, s = micro.encoded(), jax.tree.map(np.asarray, micro.statistics()["all"])
    last = ((np.asarray(batch["history"]) - s["mean"]) / s["std"])[:, -1].mean(-1)
    model = dict(use_hist_last=True)
    found = run(params, batch, model=model, segments=("future",))
    np.testing.assert_allclose(found, by_hand(params, batch, ("future",), last=last), rtol=1e-4)
    with pytest.raises(ValueError, match=r"set learn.visibility.segments=\('future',\)"):
        method(model=model)


def test_segments_are_checked():
    for wrong in ((), ("past",), ("future", "past")):
        with pytest.raises(ValueError, match="learn.visibility.segments"):
            VisibilityLosses(segments=wrong)


def test_statistics_are_checked():
    with pytest.raises(ValueError, match="learn.visibility.statistics 'test'"):
        VisibilityLosses(statistics="test")


def test_encoding_in_the_step_needs_the_autoencoder():
    inside = method(cached=False)
    params = inside.init(jax.random.key(0))
    assert set(params) == {"vae", "visibility", "statistics"}
    clips = {k: v for k, v in micro.batch(2).items() if k != "video"}
    assert set(clips) == set(inside.raw_spec())
    encoded = inside.encode(params, clips, micro.keys(2))
    assert set(encoded) == set(inside.encoded_spec())
    assert np.isfinite(float(inside.loss(params, encoded, micro.keys(2), STEP)[0][0]))
