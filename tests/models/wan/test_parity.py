"""Every kind of Wan transformer equals diffusers' in values and in all gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import gradient_errors, gradients, relative_error, worst
from wan_reference import BATCH, CONFIGS, GRID, T2V, channels_first, inputs, ported, torch_model

from tavid_jax import weights
from tavid_jax.models.wan.transformer import Wan, initialisers

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytestmark = pytest.mark.parity

FRAME_TOKENS = GRID[1] * GRID[2]


def per_token(last: float) -> np.ndarray:
    """The first latent frame is clean, as the image-to-video use of TI2V has it."""
    t = np.full((BATCH, GRID[0] * FRAME_TOKENS), last, np.float32)
    t[:, :FRAME_TOKENS] = 0
    t[1] += np.linspace(0, 7, t.shape[1], dtype=np.float32)
    return t


# kind, seed, our timesteps; diffusers' are the same, repeated over the tokens of each group.
TRAINING = {
    "t2v": ("t2v", 0, np.array([999.0, 0.5], np.float32)),
    "t2v, ends of the schedule": ("t2v", 1, np.array([1000, 0], np.float32)),
    "ti2v, per token": ("ti2v", 4, per_token(937.0)),
    "i2v": ("i2v", 6, np.array([999.0, 250.0], np.float32)),
    "flf2v": ("flf2v", 7, np.array([500.0, 0.5], np.float32)),
    "i2v-a14b": ("i2v-a14b", 8, np.array([900.0, 0.0], np.float32)),
}
SAMPLING = {
    "ti2v": ("ti2v", 3, np.array([640.0, 1000.0], np.float32)),
    "ti2v, per frame": ("ti2v", 5, np.array([[0, 999, 999], [0, 0.5, 31]], np.float32)),
    "other patches": ("patches of two frames", 9, np.array([12.0, 812.0], np.float32)),
}


def torch_loss(model, given, timestep, tokens: int):
    """(diffusers' output, channels last; all gradients of the mean squared error)."""
    timestep = torch.from_numpy(timestep)
    if timestep.ndim == 2:
        timestep = timestep.repeat_interleave(tokens // timestep.shape[1], dim=1)
    image = given.get("image")
    if image is not None and model.config.pos_embed_seq_len is not None:
        image = image.reshape(2 * BATCH, -1, image.shape[-1])  # two images of each example
    out = model(
        torch.from_numpy(channels_first(given["latents"])),
        timestep,
        torch.from_numpy(given["text"]),
        None if image is None else torch.from_numpy(image),
    ).sample
    torch.mean((out - torch.from_numpy(channels_first(given["target"]))) ** 2).backward()
    return np.moveaxis(out.detach().numpy(), 1, -1), gradients(model)


@functools.partial(jax.jit, static_argnums=0)
def our_loss(model: Wan, params, given, timestep):
    """((loss, output), all gradients)."""

    def loss(params):
        out = model.apply(
            {"params": params}, given["latents"], timestep, given["text"], image=given.get("image")
        )
        return jnp.mean((out - given["target"]) ** 2), out

    return jax.value_and_grad(loss, has_aux=True)(params)


@pytest.mark.parametrize("case", TRAINING)
def test_equals_diffusers(case: str):
    kind, seed, timestep = TRAINING[case]
    config = CONFIGS[kind]
    published, given = torch_model(config, seed), inputs(config, seed)
    tokens = int(np.prod(config.grid(given["latents"].shape[1:4])))
    want, want_gradients = torch_loss(published, given, timestep, tokens)
    (_, got), got_gradients = our_loss(Wan(config), ported(published, config), given, timestep)
    assert got.dtype == jnp.float32
    assert relative_error(got, want) <= 1e-5
    ours = weights.export("wan_diffusers", got_gradients, config)
    assert set(ours) == set(want_gradients)
    errors = gradient_errors(ours, want_gradients)
    assert max(errors.values()) <= 1e-4, worst(errors)


@functools.partial(jax.jit, static_argnums=0)
def predict(model: Wan, params, given, timestep):
    return model.apply({"params": params}, given["latents"], timestep, given["text"])


@pytest.mark.parametrize("case", SAMPLING)
def test_values_equal_diffusers(case: str):
    kind, seed, timestep = SAMPLING[case]
    config = CONFIGS[kind]
    published, given = torch_model(config, seed), inputs(config, seed)
    tokens = int(np.prod(config.grid(given["latents"].shape[1:4])))
    want, _ = torch_loss(published, given, timestep, tokens)
    got = predict(Wan(config), ported(published, config), given, timestep)
    assert relative_error(got, want) <= 1e-5


@pytest.fixture(scope="module")
def small():
    """(parameters, inputs, timestep) of the plain kind."""
    return ported(torch_model(T2V), T2V), inputs(T2V), np.array([999.0, 0.5], np.float32)


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(False, "names=query,key,value,attention,mlp_hidden"), (True, "offload=block_input")],
)
def test_walking_and_remembering_otherwise_change_nothing(small, scan: bool, remat: str):
    (_, want), want_gradients = our_loss(Wan(T2V), *small)
    (_, got), got_gradients = our_loss(Wan(T2V, scan=scan, remat=remat), *small)
    assert relative_error(got, want) <= 1e-6
    errors = jax.tree.map(relative_error, got_gradients, want_gradients)
    assert max(jax.tree.leaves(errors)) <= 2e-5


@pytest.mark.parametrize("residual", [jnp.float32, jnp.bfloat16])
def test_bfloat16_is_near_float32(small, residual):
    want = predict(Wan(T2V), *small)
    model = Wan(T2V, dtype=jnp.bfloat16, residual_dtype=residual)
    got = predict(model, *small)
    assert got.dtype == jnp.float32
    assert 1e-3 < np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)) < 1e-2
    _, slopes = jax.eval_shape(functools.partial(our_loss, model), *small)
    assert {slope.dtype for slope in jax.tree.leaves(slopes)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("residual", [None, jnp.float32])
def test_residual_dtype_is_that_of_the_tokens(small, residual):
    params, given, timestep = small

    def tokens(params, given, timestep):
        model = Wan(T2V, dtype=jnp.bfloat16, residual_dtype=residual).bind({"params": params})
        video = {"video": model.embed_video(given["latents"])}
        times = {"video": model.embed_time(timestep)}
        text = {"text": model.embed_text(given["text"])}
        return model.blocks(video, times, text, GRID).streams["video"]

    assert jax.eval_shape(tokens, params, given, timestep).dtype == (residual or jnp.bfloat16)


def test_the_time_path_is_float32_in_any_case(small):
    params, _, timestep = small

    def times(dtype):
        bound = Wan(T2V, dtype=dtype).bind({"params": params})
        return bound.embed_time(jnp.asarray(timestep))

    for ours, wide in zip(times(jnp.bfloat16), times(jnp.float32), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_array_equal(ours, wide)


def test_timesteps_may_be_integers(small):
    params, given, _ = small
    whole = np.array([1000, 3])
    np.testing.assert_array_equal(
        predict(Wan(T2V), params, given, whole.astype(np.int32)),
        predict(Wan(T2V), params, given, whole.astype(np.float32)),
    )


def test_stored_in_bfloat16_the_parameters_are_so_and_serve(small):
    _, given, timestep = jax.tree.map(jnp.asarray, small)
    model = Wan(T2V, param_dtype=jnp.bfloat16, dtype=jnp.bfloat16)
    given = given["latents"], timestep, given["text"]
    variables = jax.eval_shape(model.init, jax.random.key(0), *given)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.bfloat16)}
    assert jax.eval_shape(model.apply, variables, *given).dtype == jnp.float32


def test_initialised_from_scratch_it_has_the_published_form():
    config = dataclasses.replace(CONFIGS["flf2v"], num_heads=4)
    names = ("text_embed", "blocks", "out_proj", "out_modulation")
    inits = {name: initialisers(config)[name] for name in names}
    params = {name: init(jax.random.key(0)) for name, init in inits.items()}
    assert not np.any(params["out_proj"]["kernel"])
    assert np.std(params["text_embed"]["fc1"]["kernel"]) == pytest.approx(0.02, rel=0.1)
    for table in (params["blocks"]["modulation"], params["out_modulation"]):
        assert np.std(table) == pytest.approx(config.dim**-0.5, rel=0.15)
    bound = np.sqrt(6 / (2 * config.dim))
    kernel = params["blocks"]["attn"]["q"]["kernel"]
    assert np.abs(kernel).max() == pytest.approx(bound, rel=0.01)
    assert not np.array_equal(kernel[0], kernel[1])
