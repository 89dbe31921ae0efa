"""TrackVAE: folded path, execution options, initial values, bad configs and inputs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.latte.vae import Posterior, TrackVAE, TrackVAEConfig

CONFIG = TrackVAEConfig(
    size_hw=(6, 9),
    patch=3,
    num_frames=5,
    latent_channels=5,
    hidden=12,
    heads=2,
    mlp_ratio=2.0,
    encoder_depth=4,
    decoder_depth=2,
    pos_embed_dim=6,
    query_row_col=(1, 2),
)


@pytest.fixture(scope="module")
def cells():
    return jax.random.uniform(jax.random.key(1), (2, 5, 2, 3, 2), minval=-1.0, maxval=1.0)


@pytest.fixture(scope="module")
def params(cells, randomised):
    return randomised(jax.jit(TrackVAE(CONFIG).init)(jax.random.key(0), cells)["params"])


def run(model, params, *args, method=None):
    return jax.jit(lambda p, *a: model.apply({"params": p}, *a, method=method))(params, *args)


def test_folded_encode_equals_dense_encode(params, cells, relative_error):
    model = TrackVAE(CONFIG)
    field = jnp.repeat(jnp.repeat(cells, 3, axis=2), 3, axis=3)
    folded = run(model, params, cells, method=model.encode)
    dense = run(model, params, field, method=model.encode_dense)
    assert relative_error(folded.mean, dense.mean) < 1e-5
    assert relative_error(folded.std, dense.std) < 1e-5


def test_decode_reads_pixels_of_the_dense_field(params):
    model = TrackVAE(CONFIG)
    z = jax.random.normal(jax.random.key(2), (2, 2, 6, 5))
    field = run(model, params, z, method=model.decode_dense)
    for row_col in ((0, 0), (2, 0)):
        pixel = jax.jit(
            lambda z, row_col=row_col: model.apply(
                {"params": params}, z, row_col, method=model.decode
            )
        )(z)
        np.testing.assert_allclose(pixel, field[:, :, row_col[0] :: 3, row_col[1] :: 3], atol=1e-5)
    default = run(model, params, z, method=model.decode)
    np.testing.assert_allclose(default, field[:, :, 1::3, 2::3], atol=1e-5)


def loss_and_grad(model, params, cells):
    def loss(p):
        posterior = model.apply({"params": p}, cells, method=model.encode)
        recon = model.apply({"params": p}, posterior.mean, method=model.decode)
        return jnp.mean(jnp.square(recon - cells)) + 1e-3 * posterior.kl().mean()

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.slow
def test_scan_unroll_and_remat_agree(cells, randomised):
    # Two pairs of encoder blocks per stage: a loop of one pair would not be a loop.
    config = TrackVAEConfig(**{**vars(CONFIG), "encoder_depth": 8})
    params = randomised(jax.jit(TrackVAE(config).init)(jax.random.key(0), cells)["params"])
    scanned = str(jax.make_jaxpr(lambda p: TrackVAE(config).apply({"params": p}, cells))(params))
    assert scanned.count("scan[") == 2
    value, grad = loss_and_grad(TrackVAE(config), params, cells)
    for model in (
        TrackVAE(config, scan=False),
        TrackVAE(config, remat="full"),
        TrackVAE(config, remat="names=attention,mlp_hidden"),
        TrackVAE(config, remat="groups=2"),
    ):
        other_value, other_grad = loss_and_grad(model, params, cells)
        np.testing.assert_allclose(other_value, value, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * (1 + np.abs(b).max())),
            other_grad,
            grad,
        )


def test_only_frozen_parameters_have_no_gradient(params, cells):
    _, grad = loss_and_grad(TrackVAE(CONFIG), params, cells)
    flat, _ = jax.tree_util.tree_flatten_with_path(grad)
    for path, leaf in flat:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        frozen = any(re.search(p, name) for p in TrackVAE.frozen_paths)
        assert frozen or float(jnp.abs(leaf).max()) > 0, name
        if "norm2" in name:
            assert float(jnp.abs(leaf).max()) == 0


def test_bfloat16_compute_stays_close_with_float32_ends(params, cells, relative_error):
    model = TrackVAE(CONFIG, dtype=jnp.bfloat16)
    posterior = run(model, params, cells, method=model.encode)
    exact = run(TrackVAE(CONFIG), params, cells, method=model.encode)
    assert posterior.mean.dtype == posterior.std.dtype == jnp.float32
    assert 1e-5 < relative_error(posterior.mean, exact.mean) < 0.1
    assert run(model, params, cells).dtype == jnp.float32


def test_coordinates_keep_float32_resolution_under_bfloat16(cells):
    """At initialisation the decoder gives the anchors themselves, to the last float32 bit."""
    model = TrackVAE(CONFIG, dtype=jnp.bfloat16)
    fresh = jax.jit(model.init)(jax.random.key(0), cells)["params"]
    out = run(model, fresh, cells)
    x = (2 * (np.arange(2, 9, 3, dtype=np.float32) + 0.5) / 9 - 1).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(out)[0, 0, 0, :, 0], x)


def test_offsets_off_is_absolute(cells):
    config = TrackVAEConfig(**{**vars(CONFIG), "use_offsets": False})
    model = TrackVAE(config)
    fresh = jax.jit(model.init)(jax.random.key(0), cells)["params"]
    assert float(jnp.abs(run(model, fresh, cells)).max()) == 0


def test_parameter_count_of_the_released_model():
    config = TrackVAEConfig()
    tracks = jax.ShapeDtypeStruct((1, 81, *config.grid_hw, 2), jnp.float32)
    shapes = jax.eval_shape(TrackVAE(config).init, jax.random.key(0), tracks)["params"]
    leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
    sizes = {jax.tree_util.keystr(p, simple=True, separator="/"): a.size for p, a in leaves}
    assert sum(sizes.values()) == 106_996_128
    tables = sum(sizes[name] for name in ("pos_embed", "temp_embed_in", "patch_pos_lff/w"))
    assert tables == 241_216
    frozen = sum(n for k, n in sizes.items() if any(re.search(p, k) for p in TrackVAE.frozen_paths))
    assert frozen == tables + 32 * 512  # and the unused norms
    assert all(leaf.dtype == jnp.float32 for _, leaf in leaves)


def test_initial_values(cells):
    params = jax.jit(TrackVAE(CONFIG).init)(jax.random.key(0), cells)["params"]
    blocks = params["encoder_blocks"]
    for name in ("gate_msa", "gate_mlp"):
        assert float(jnp.abs(blocks[name]).max()) == 0
    for name in ("norm1", "norm2", "norm3"):
        assert float(jnp.abs(blocks[name]["scale"] - 1).max()) == 0
    assert float(jnp.abs(params["final_layer"]["kernel"]).max()) == 0
    assert float(jnp.abs(blocks["mlp"]["fc1"]["bias"]).max()) == 0
    # Xavier: uniform, so the largest of many entries is close to the limit.
    for kernel, fans in (
        (blocks["mlp"]["fc1"]["kernel"], 12 + 24),
        (params["x_embedder"]["kernel"], 2 * 9 + 12),
    ):
        limit = (6 / fans) ** 0.5
        assert 0.9 * limit < float(jnp.abs(kernel).max()) <= limit
    limit = (7 * 12) ** -0.5
    for name in ("temp_compressor", "temp_expander"):
        assert 0.9 * limit < float(jnp.abs(params[name]["kernel"]).max()) <= limit
        assert float(jnp.abs(params[name]["bias"]).max()) > 0
    assert not np.allclose(blocks["attn"]["qkv"]["kernel"][0], blocks["attn"]["qkv"]["kernel"][1])


def test_fixed_tables(cells):
    params = jax.jit(TrackVAE(CONFIG).init)(jax.random.key(0), cells)["params"]
    frame, frequency = 3, 10000 ** (-2 / 6)
    table = np.asarray(params["temp_embed_in"])
    np.testing.assert_allclose(
        table[frame, [2, 8]], [np.sin(3 * frequency), np.cos(3 * frequency)], rtol=1e-6
    )
    # Token 5 is row 1, column 2: the first half of the table encodes the column.
    token = np.asarray(params["pos_embed"])[5]
    np.testing.assert_allclose(
        token[[0, 3, 6, 9]], [np.sin(2), np.cos(2), np.sin(1), np.cos(1)], rtol=1e-6
    )


def test_posterior():
    posterior = Posterior(mean=jnp.full((2, 3, 4, 5), 2.0), std=jnp.full((2, 3, 4, 5), 0.5))
    want = 0.5 * (0.25 + 4 - 1) - np.log(0.5)
    np.testing.assert_allclose(posterior.kl(), [want, want], rtol=1e-6)
    sample = posterior.sample(jax.random.key(0))
    assert abs(float(sample.mean()) - 2) < 0.2 and 0.35 < float(sample.std()) < 0.65


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_frames=8), r"num_frames must be 4\*k \+ 1.*got 8; use 5 or 9"),
        (dict(size_hw=(10, 9)), "height 10 is not divisible by patch 3"),
        (dict(size_hw=(6, 10)), "width 10 is not divisible by patch 3"),
        (dict(heads=5), "hidden 12 is not divisible by heads 5"),
        (dict(hidden=6), "hidden 6 is not divisible by four 4"),
        (dict(encoder_depth=3), "encoder_depth 3 is not divisible by two 2"),
        (dict(pos_embed_dim=5), "pos_embed_dim 5"),
        (dict(latent_channels=0), "latent_channels must be a positive integer, got 0"),
        (dict(query_row_col=(0, 3)), r"must lie in 0..2 .* got \(0, 3\)"),
    ],
)
def test_bad_configs_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        TrackVAEConfig(**{**vars(CONFIG), **changes})


def test_config_is_hashable_even_from_lists():
    config = TrackVAEConfig(**{**vars(CONFIG), "size_hw": [6, 9], "query_row_col": [1, 2]})
    assert hash(config) == hash(CONFIG) and config == CONFIG


def test_wrong_input_shapes_are_named(params, cells):
    model = TrackVAE(CONFIG)
    with pytest.raises(ValueError, match=r"tracks must have shape \(any, 5, 2, 3, 2\)"):
        model.apply({"params": params}, cells[:, :4], method=model.encode)
    with pytest.raises(ValueError, match=r"z must have shape \(any, 2, 6, 5\)"):
        model.apply({"params": params}, jnp.zeros((1, 3, 6, 5)), method=model.decode)
    with pytest.raises(ValueError, match="must lie in"):
        model.apply({"params": params}, jnp.zeros((1, 2, 6, 5)), (3, 0), method=model.decode)
    with pytest.raises(ValueError, match='remat is "none", "full", .*got .some.'):
        TrackVAE(CONFIG, remat="some").init(jax.random.key(0), cells)
    with pytest.raises(ValueError, match="no activation is named 'hidden'; there are block_input"):
        TrackVAE(CONFIG, remat="names=query,hidden").init(jax.random.key(0), cells)
