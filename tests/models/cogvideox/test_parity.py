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
    if config.learned_positions and model.patch_embed.pos_embedding.grad is not None:
        gradients["patch_embed.pos_embedding"] = model.patch_embed.pos_embedding.grad.numpy()
    gradients["latents"] = np.moveaxis(latents.grad.numpy(), 2, -1)
    gradients["text"] = text.grad.numpy()
    return np.moveaxis(prediction.detach().numpy(), 2, -1), gradients


@functools.cache
def compiled(config, gradients=True, **options):
    """prediction, or (prediction, gradients by parameters, latents and text)."""
    model = CogVideoX(config, **options)

    def loss(params, latents, text, timesteps, target):
        prediction = model.apply({"params": params}, latents, timesteps, text)
        return jnp.mean((prediction - target) ** 2), prediction

    if not gradients:
        return jax.jit(lambda *args: (loss(*args), None))
    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))


def compare(name, seed, gradients=True, shrunk=tiny.SHRUNK, **options):
    """Runs both on the same weights and inputs."""
    variant = tiny.VARIANTS[name]
    model = tiny.torch_model(variant.config, seed, shrunk)
    params = weights.port("cogvideox", random_weights.state_arrays(model), variant.config)
    latents, text, target = tiny.inputs(variant.config, variant.size, seed)
    (_, prediction), found = compiled(variant.config, gradients, **options)(
        params, latents, text, jnp.array(TIMESTEPS[seed]), target
    )
    want, want_gradients = run_torch(model, variant, seed)
    error = random_weights.relative_error(prediction, want)
    assert error <= VALUE, f"value {error:.1e}"
    if gradients:
        by_params, by_latents, by_text = found
        got = weights.export("cogvideox", by_params, variant.config)
        got |= {"latents": np.asarray(by_latents), "text": np.asarray(by_text)}
        errors = random_weights.gradient_errors(got, want_gradients)
        assert got.keys() == errors.keys()
        assert max(errors.values()) <= GRADIENT, random_weights.worst(errors)


# These differ from the others in what those differ in from each other.
_LIKE_OTHERS = ("5b", "1.5-t2v")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in _LIKE_OTHERS else ())
        for name in tiny.PUBLISHED
    ],
)
def test_published(name, seed):
    compare(name, seed)


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("name", sorted(set(tiny.VARIANTS) - set(tiny.PUBLISHED)))
def test_at_other_sizes(name, seed):
    compare(name, seed, gradients=False)


def test_where_tokens_stay_small():
    """So small that the epsilon of the norm behind the last block shows."""
    compare("5b cropped", 0, gradients=False, shrunk=(r"^patch_embed", r"norm\d\.linear"))


@pytest.mark.parametrize(
    "options",
    [
        dict(scan=False, remat="full"),
        pytest.param(dict(remat="names=query,mlp_hidden"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_however_depth_is_walked(options):
    compare("5b-i2v", 1, **options)
