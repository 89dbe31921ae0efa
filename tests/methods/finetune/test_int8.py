"""Training on a frozen base in 8 bits: what is rounded, and that adapters learn through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.finetune import get_config
from tavid_jax.engine import trees
from tavid_jax.engine.placement import initialise
from tavid_jax.engine.program import Program
from tavid_jax.methods.finetune.method import Finetune
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import is_in_few_bits
from tavid_jax.pipelines.int8 import rounded
from tavid_jax.weights import quantised
from tests.methods.finetune import tiny

pytest.importorskip("qwix")


def narrow(config: ConfigDict, dtype: str = "int8") -> Finetune:
    config.stages.finetune.frozen_dtype = dtype
    return make_system(config).method("finetune")


@pytest.mark.parametrize("name", ["wan t2v", "cogvideox i2v"])
def test_large_frozen_kernels_and_nothing_else(name: str):
    config = tiny.config(name)
    method = narrow(config)
    program = Program(method, config.stages.finetune, make_mesh())
    trainable, frozen = program.abstract_params()
    few = {p for p, leaf in trees.flatten(frozen).items() if is_in_few_bits(leaf)}
    assert few == {p for p in trees.flatten(frozen) if p.startswith("backbone/blocks") and
                   p.endswith("kernel")}  # fmt: skip
    assert all(leaf.dtype == jnp.float32 for leaf in trees.flatten(trainable).values())
    kernel = trees.flatten(frozen)["backbone/blocks/attn/q/kernel"]
    assert kernel.qvalue.dtype == jnp.int8 and kernel.scale.shape == (2, 1, kernel.shape[-1])


def test_gradients_are_those_of_the_rounded_weights():
    config = tiny.config("wan t2v")
    method, wide = narrow(config), narrow(tiny.config("wan t2v"), "")
    params = tiny.random_params(wide)
    few = rounded(params, method._is_frozen)
    again = few | {"backbone": quantised.dequantise(few["backbone"])}
    batch = tiny.batch_of(method.encoded_spec())
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    def gradients(params):
        def loss(lora):
            base = {**params["backbone"], "lora": lora}
            (total, _), _ = method.loss(params | {"backbone": base}, batch, keys, jnp.int32(0))
            return total

        return jax.grad(loss)(params["backbone"]["lora"])

    got, want = gradients(few), gradients(again)
    for path, leaf in trees.flatten(want).items():
        size = float(jnp.linalg.norm(leaf))
        assert size > 0, path
        assert float(jnp.linalg.norm(trees.flatten(got)[path] - leaf)) < 1e-4 * size, path


def test_a_checkpoint_is_rounded_as_it_is_read():
    config = get_config("demo")
    method = narrow(config)
    params = trees.flatten(initialise(method, jax.random.key(0), make_mesh(), {}))
    published = method.published()
    path = "backbone/blocks/attn/q/kernel"
    want = quantised.quantise_leaf(published[path].read())
    np.testing.assert_array_equal(params[path].qvalue, want.qvalue)
    np.testing.assert_allclose(params[path].scale, want.scale)
    # The text encoder is frozen, too; what stands outside of blocks stays as it is.
    assert is_in_few_bits(params["text_encoder/blocks/attn/q/kernel"])
    assert not is_in_few_bits(params["backbone/patch_embed/kernel"])
    assert "backbone/lora/default/blocks/attn/q/a" in params


def test_what_trains_everything_has_nothing_to_round():
    config = tiny.config("wan t2v", lora=())
    program = Program(narrow(config), config.stages.finetune, make_mesh())
    with pytest.raises(ValueError, match="frozen_dtype 'int8': Finetune has no frozen kernels"):
        program.abstract_params()
