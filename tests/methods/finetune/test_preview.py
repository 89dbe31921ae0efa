"""What is looked at before a training: parameters of the autoencoder, tokens, noise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.engine.method import Phase
from tavid_jax.methods.finetune import preview
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.methods.registry import make_system
from tests.methods.finetune import bases


class Leaf:
    """A parameter outside of the run."""

    def __init__(self, value: float):
        self.value, self.shape = np.full(2, value), (2,)

    def read(self) -> np.ndarray:
        return self.value


class OfCoder(Finetune):
    """A method of which only the autoencoder counts."""

    def __init__(self, init, leaves: dict):
        self.coder, self.leaves = init, leaves

    def phases(self):
        return {"encode": Phase(lambda *_: {}, self.coder, {})}

    def pretrained(self):
        return self.leaves


def test_parameters_of_the_autoencoder():
    nothing = OfCoder(lambda key: {}, {})
    assert preview.coder_params(nothing) == {}  # it needs none

    def init(key):
        return {"conv": {"kernel": jnp.zeros(2)}}

    assert preview.coder_params(OfCoder(init, {})) is None  # there are none
    leaves = {"autoencoder/conv/kernel": Leaf(3.0), "backbone/kernel": Leaf(5.0)}
    found = preview.coder_params(OfCoder(init, leaves))
    assert jax.tree.map(lambda x: x.tolist(), found) == {"conv": {"kernel": [3.0, 3.0]}}


def test_tokens_and_pieces_of_a_caption():
    method = make_system(bases.config()).method("finetune")
    caption, pieces, ids, count = preview._token_row(method.words, "a red disc moves left")
    assert caption == "a red disc moves left" and count == 6
    assert pieces == "a · red · disc · moves · left · end"
    assert len(ids.split()) == 6 and ids.endswith(" 1")
    assert preview._token_row(method.words, "")[0] == "(no caption)"


def test_pixels_come_back_and_noise_grows():
    config = bases.config()
    method = make_system(config).method("finetune")
    video = np.random.default_rng(0).integers(0, 256, (9, 24, 24, 3), dtype=np.uint8)
    np.testing.assert_array_equal(preview._there_and_back(method, {}, video), video)
    film = preview._noised(config, method, {}, Clip("a", (24, 24), 8.0, video))
    assert film.frames == 9 and film.width > 5 * 144
