"""The text probe: errors against a network whose answer is known, and on real tiny models."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.data.clip import Clip
from tavid_jax.diffusion import vprediction
from tavid_jax.diffusion.paths import over_time
from tavid_jax.methods.finetune import probe
from tavid_jax.pipelines.backbones import CogVideoXBackbone, WanBackbone
from tests.pipelines import trained

CAPTIONS = ["a red disc", "a red disc", "a teal disc", "a pink hoop"]


class Wan(WanBackbone):
    """Says the text's first number wherever it is asked for the clean latent."""

    def __init__(self, given_frames: int = 0):
        object.__setattr__(self, "given_frames", given_frames)

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other) -> bool:
        return self is other

    def predict(self, params, state, timestep, batch):
        del params
        clean = batch["text"][:, :1, :1, None, None]
        return (state - clean) / over_time(timestep / 1000.0, state.ndim)


class CogVideoX(CogVideoXBackbone):
    """The same as v of a variance-preserving path."""

    snr_shift = 1.0
    given_frames = 0
    __init__, __hash__, __eq__ = object.__init__, Wan.__hash__, Wan.__eq__

    def predict(self, params, state, timestep, batch):
        del params
        alpha = over_time(vprediction.alpha_at(timestep), state.ndim)
        clean = batch["text"][:, :1, :1, None, None]
        return (jnp.sqrt(alpha) * state - clean) / jnp.sqrt(1.0 - alpha)


@pytest.mark.parametrize("network", [Wan(), CogVideoX()], ids=["wan", "cogvideox"])
@pytest.mark.parametrize("sigma", probe.SIGMAS)
def test_the_error_is_that_of_the_clean_latent(network, sigma: float):
    video = jnp.full((2, 3, 4, 4, 1), 0.5)
    text = jnp.asarray([0.5, -0.25])[:, None, None]
    keys = jax.random.split(jax.random.key(0), 2)
    errors = probe._errors(network, {}, {"video": video, "text": text}, keys, jnp.float32(sigma))
    np.testing.assert_allclose(errors, [0.0, 0.75**2], atol=1e-5)


def test_given_frames_have_no_share():
    video = jnp.zeros((1, 3, 2, 2, 1)).at[:, 0].set(9.0)
    batch = {"video": video, "text": jnp.zeros((1, 1, 1))}
    keys = jax.random.split(jax.random.key(0), 1)
    errors = probe._errors(Wan(given_frames=1), {}, batch, keys, jnp.float32(0.75))
    np.testing.assert_allclose(errors, [0.0], atol=1e-6)


def test_another_caption_is_really_another():
    assert probe.other_captions(CAPTIONS).tolist() == [2, 2, 3, 0]
    with pytest.raises(ValueError, match="at least two captions that differ"):
        probe.other_captions(["a", "a"])


@pytest.mark.parametrize("family", ["wan", "cogvideox"])
def test_a_whole_model(family: str):
    pipeline = trained.in_memory(family)
    rng = np.random.default_rng(0)
    clips = [
        Clip(str(i), (16, 16), 8.0, rng.integers(0, 256, (9, 16, 16, 3), np.uint8), caption=words)
        for i, words in enumerate(CAPTIONS)
    ]
    found = probe.text_probe(pipeline, clips, batch_size=3, seed=0, resamples=100)
    assert found["sigma"] == list(probe.SIGMAS) and found["scenes"] == 4
    for name in ("right", "permuted", "difference", "interval"):
        assert len(found[name]) == 4 and np.isfinite(found[name]).all()
    gaps = np.subtract(found["permuted"], found["right"])
    np.testing.assert_allclose(found["difference"], gaps, rtol=1e-4, atol=1e-6)
    assert np.abs(gaps).max() > 0  # the words reach the network
    again = probe.text_probe(pipeline, clips, batch_size=4, seed=0, resamples=100)
    np.testing.assert_allclose(again["right"], found["right"], rtol=1e-4)  # whatever the batch
