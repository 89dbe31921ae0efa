"""The padding of prompts, merged into one key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wan_reference import BATCH, I2V, inputs, ported, torch_model

from tavid_jax.models.layers.ports import Ports, Probe
from tavid_jax.models.wan.text import merge_padding
from tavid_jax.models.wan.transformer import Wan

pytest.importorskip("torch")
pytest.importorskip("diffusers")

LENGTHS = (7, 3)  # of the two prompts


@pytest.fixture(scope="module")
def padded():
    """(parameters, inputs, 512 text features of which few are real)."""
    given = inputs(I2V)
    text = jnp.asarray(given["text"])
    real = jnp.arange(text.shape[1]) < jnp.array(LENGTHS)[:, None]
    return ported(torch_model(I2V), I2V), given, jnp.where(real[..., None], text, 0.0)


@jax.jit
def predict(params, given, text, text_bias=None):
    return Wan(I2V).apply(
        {"params": params},
        given["latents"],
        jnp.array([999.0, 20.0]),
        text,
        image=given["image"],
        text_bias=text_bias,
    )


def error(got, want) -> float:
    """Relative, of all values together."""
    return float(jnp.sqrt(jnp.mean((got - want) ** 2) / jnp.mean(want**2)))


@pytest.mark.parametrize("keep", [max(LENGTHS), 40])
def test_merging_the_padding_is_exact(padded, keep: int):
    params, given, text = padded
    want = predict(params, given, text)
    merged, bias = merge_padding(text, keep)
    assert merged.shape == (BATCH, keep + 1, 24)
    np.testing.assert_allclose(bias, [*keep * [0.0], np.log(512 - keep)], rtol=1e-6)
    assert error(predict(params, given, merged, bias), want) <= 1e-6
    # Pads take part: counted as one, or as a few less, they give another result.
    for other in (jnp.zeros_like(bias), bias * 0.999):
        assert error(predict(params, given, merged, other), want) > 1e-5


@pytest.mark.parametrize("keep", [-1, 512, 600])
def test_keep_must_leave_padding(keep: int):
    with pytest.raises(ValueError, match=f"keep={keep} of 512 text positions"):
        merge_padding(jnp.zeros((1, 512, 4)), keep)


def test_a_probe_wants_the_whole_text(padded):
    params, given, text = padded
    merged, bias = merge_padding(text, keep=8)
    probe = Probe(layers=jnp.ones(2), columns=jnp.ones((BATCH, 9)), score=jnp.sum, rows=(0, 6))
    model = Wan(I2V).bind({"params": params})
    with pytest.raises(ValueError, match="does not know text_bias"):
        model.predict(
            jnp.asarray(given["latents"]),
            jnp.zeros((BATCH,)),
            merged,
            image=jnp.asarray(given["image"]),
            text_bias=bias,
            ports=Ports(probe=probe),
        )
