"""Equality with diffusers' CogVideoX: values and all gradients, every published kind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tests.models import random_weights
from tests.models.cogvideox import tiny

pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.parity

VALUE, GRADIENT = 1e-5, 1e-4
# Of the two examples of each batch, by seed.
TIMESTEPS = {0: (0, 999), 1: (1, 500), 2: (998, 37)}


def torch_rotary(config, size):
    """What the published pipelines give the model as rotary tables."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    if not config.rotary:
        return None
    f, h, w = config.grid(size)
    base_h, base_w = (extent // config.patch_size[1] for extent in config.sample_hw)
    if config.patch_size[0] == 1:
        crops = get_resize_crop_region_for_grid((h, w), base_w, base_h)
        return get_3d_rotary_pos_embed(config.head_dim, crops, (h, w), f)
    return get_3d_rotary_pos_embed(
        config.head_dim, None, (h, w), f, grid_type="slice", max_size=(base_h, base_w)
    )


def run_torch(model, variant, seed):
    """(prediction, gradients of the loss by every parameter, by latents and text)."""
    config, size = variant.config, variant.size
    latents, text, target = tiny.inputs(config, size, seed)
    latents = torch.tensor(np.moveaxis(latents, -1, 2)).requires_grad_()
    text = torch.tensor(text).requires_grad_()
    if config.learned_positions:
        model.patch_embed.pos_embedding.requires_grad_()
    prediction = model(
        latents,
        text,
        torch.tensor(TIMESTEPS[seed]),
        ofs=None if config.ofs_dim is None else torch.full((2,), 2.0),
        image_rotary_emb=torch_rotary(config, size),
        return_dict=False,
    )[0]
    ((prediction - torch.tensor(np.moveaxis(target, -1, 2))) ** 2).mean().backward()
    gradients = random_weights.gradients(model)
    if config.learned_positions:
        grad = model.patch_embed.pos_embedding.grad
        table = model.patch_embed.pos_embedding if grad is None else grad
        gradients["patch_embed.pos_embedding"] = (0 * table if grad is None else grad).detach()
        gradients["patch_embed.pos_embedding"] = gradients["patch_embed.pos_embedding"].numpy()
    gradients["latents"] = np.moveaxis(latents.grad.numpy(), 2, -1)
    gradients["text"] = text.grad.numpy()
    return np.moveaxis(prediction.detach().numpy(), 2, -1), gradients


@functools.cache
def step(config, **options):
    """Compiled: (prediction, gradients by parameters, latents and text)."""
    model = CogVideoX(config, **options)

    def loss(params, latents, text, timesteps, target):
        prediction = model.apply({"params": params}, latents, timesteps, text)
        return jnp.mean((prediction - target) ** 2), prediction

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))


def run_ours(params, variant, seed, **options):
    latents, text, target = tiny.inputs(variant.config, variant.size, seed)
    (_, prediction), (by_params, by_latents, by_text) = step(variant.config, **options)(
        params, latents, text, jnp.array(TIMESTEPS[seed]), target
    )
    gradients = weights.export("cogvideox", by_params, variant.config)
    return prediction, gradients | {"latents": by_latents, "text": by_text}


def compare(ours, theirs, value=VALUE, gradient=GRADIENT):
    error = random_weights.relative_error(ours[0], theirs[0])
    got = {name: np.asarray(g) for name, g in ours[1].items()}
    errors = random_weights.gradient_errors(got, theirs[1])
    assert got.keys() == errors.keys()
    print("ERR", f"{error:.2e}", random_weights.worst(errors))
    assert error <= value, f"value {error:.1e}"
    assert max(errors.values()) <= gradient, random_weights.worst(errors)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", tiny.VARIANTS)
def test_equals_diffusers(name, seed):
    variant = tiny.VARIANTS[name]
    model = tiny.torch_model(variant.config, seed)
    params = weights.port("cogvideox", random_weights.state_arrays(model), variant.config)
    compare(run_ours(params, variant, seed), run_torch(model, variant, seed))
