"""Random adapters in diffusers, PEFT and here, and what models compute with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import peft
import torch

from tavid_jax import weights
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.lora import LoraRule, init_lora, merge
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.weights.table import walk
from tests.models import random_weights

FILE = "pytorch_lora_weights.safetensors"
ATTENTION = LoraRule("blocks/attn/(q|k|v|o)", rank=3, alpha=6)
MIXED = (
    LoraRule("blocks/attn/(q|k)", rank=3, alpha=2, layers=(-1,), name="late"),
    LoraRule("blocks/attn/q|blocks/mlp/fc1", rank=2, alpha=5, layers=slice(0, 1), name="early"),
    LoraRule("out_proj|patch_embed", rank=1, alpha=0.5, name="ends"),
)


def adapted(model, targets, r=3, alpha=6, seed=1, **settings):
    """The model with a random PEFT adapter."""
    model.add_adapter(
        peft.LoraConfig(r=r, lora_alpha=alpha, target_modules=list(targets), **settings)
    )
    return noisy(model, seed)


def noisy(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_" in name:
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return model


def drawn(config, rules, seed=0):
    """Random adapters of rules."""
    shapes = weights.CHECKPOINTS[kind_of(config)].shapes(config)
    adapters = jax.eval_shape(lambda: init_lora(jax.random.key(0), shapes, rules))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(0.3 * rng.normal(size=s.shape), s.dtype), adapters)


def kind_of(config):
    return "cogvideox" if "CogVideoX" in type(config).__name__ else "wan_diffusers"


def inputs(config):
    rng = np.random.default_rng(5)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    return draw(2, 3, 4, 6, config.in_channels), draw(2, config.text_length, config.text_dim)


def their_output(model, config):
    latents, text = (torch.tensor(x) for x in inputs(config))
    time = torch.tensor([999, 40])
    with torch.no_grad():
        if kind_of(config) == "cogvideox":
            out = model(latents.movedim(-1, 2), text, time, return_dict=False)[0]
            return out.movedim(2, -1).numpy()
        out = model(latents.movedim(-1, 1), time, text, return_dict=False)[0]
        return out.movedim(1, -1).numpy()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(config, rules, params, latents, text):
    family = CogVideoX if kind_of(config) == "cogvideox" else Wan
    time = jnp.array([999, 40])
    return family(config, lora=rules).apply({"params": params}, latents, time, text)


def base_arrays(model):
    """The weights beneath the adapters, under their published names."""
    arrays = random_weights.state_arrays(model)
    return {k.replace(".base_layer", ""): v for k, v in arrays.items() if "lora_" not in k}


def our_params(model, config):
    return weights.port(kind_of(config), base_arrays(model), config)


def our_output(model, config, adapters, rules):
    params = our_params(model, config) | {"lora": adapters}
    return _apply(config, rules, params, *inputs(config))


def merged(params, config, adapters, rules):
    """Base and adapters as one, under published names."""
    return weights.export(kind_of(config), merge(params | {"lora": adapters}, rules), config)


def assert_fused(model, config, adapters, rules):
    """Merged here equals fused there."""
    ours = merged(our_params(model, config), config, adapters, rules)
    before = {key: value.copy() for key, value in base_arrays(model).items()}
    model.fuse_lora()
    theirs = base_arrays(model)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert random_weights.relative_error(ours[key], value) < 1e-5, key
    changed = {k.removesuffix(".weight") for k, v in theirs.items() if np.any(v != before[k])}
    assert changed
    return changed


def assert_same(adapters, other, tolerance=0.0):
    flat, more = dict(walk(adapters)), dict(walk(other))
    assert flat.keys() == more.keys()
    for path, leaf in flat.items():
        np.testing.assert_allclose(more[path], leaf, rtol=tolerance, atol=0, err_msg=path)
