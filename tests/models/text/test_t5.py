"""T5 and umT5 equal transformers' encoders in values and in all gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import gradient_errors, gradients, relative_error, state_arrays, worst
from t5_reference import CONFIGS, T5, UMT5, ported, prompts, torch_model

from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.weights.streaming import export_table
from tavid_jax.weights.t5 import t5_shapes, t5_table

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

# config, seed, real tokens of each row, tokens, mask given
CASES = {
    "t5": ("t5", 0, (160, 7), 160, False),
    "t5, masked": ("t5", 1, (226, 1, 101), 226, True),
    "umt5": ("umt5", 2, (97,), 197, False),
    "umt5, masked": ("umt5", 3, (160, 12), 160, True),
    "wide heads": ("t5, wide heads", 4, (40, 33), 40, True),
    "other buckets": ("umt5, other buckets", 5, (70, 5), 70, True),
    "one block, one token": ("t5, one block", 6, (1, 1), 1, False),
    "long": ("umt5, other buckets", 7, (300,), 512, True),
}


def torch_features(model, ids, mask):
    """What transformers computes in float64, from which it is almost 1e-5 away in float32."""
    model.double()
    mask = None if mask is None else torch.from_numpy(mask).long()
    return model(torch.from_numpy(ids).long(), attention_mask=mask).last_hidden_state


@functools.partial(jax.jit, static_argnums=0)
def features(model: T5Encoder, params, ids, mask=None):
    return model.apply({"params": params}, ids, mask)


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
def test_equals_transformers(case: str):
    kind, seed, lengths, total, masked = CASES[case]
    config = CONFIGS[kind]
    model = torch_model(config, seed)
    ids, mask = prompts(config, lengths, total, seed)
    mask = mask if masked else None
    with torch.no_grad():
        want = torch_features(model, ids, mask).numpy()
    got = features(T5Encoder(config), ported(model, config), ids, mask)
    assert got.dtype == jnp.float32
    assert relative_error(got, want) <= 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("config", [T5, UMT5], ids=["t5", "umt5"])
def test_gradients_equal_transformers(config):
    model = torch_model(config)
    ids, mask = prompts(config, (140, 9), 140)
    target = np.random.default_rng(1).standard_normal((*ids.shape, config.dim)).astype(np.float32)
    real = mask[..., None].astype(np.float32)
    out = torch_features(model, ids, mask)
    torch.sum(torch.from_numpy(real) * (out - torch.from_numpy(target)) ** 2).backward()

    def loss(params):
        return jnp.sum(real * (features(T5Encoder(config), params, ids, mask) - target) ** 2)

    got = jax.jit(jax.grad(loss))(ported(model, config))
    ours = export_table(t5_table(config), got, t5_shapes(config))
    theirs = {name: g for name, g in gradients(model).items() if name in ours}
    assert set(theirs) == set(ours)
    errors = gradient_errors(ours, theirs)
    assert max(errors.values()) <= 1e-4, worst(errors)


@pytest.fixture(scope="module", params=[T5, UMT5], ids=["t5", "umt5"])
def small(request):
    """(config, parameters, ids, mask) of each kind."""
    config = request.param
    return config, ported(torch_model(config), config), *prompts(config, (30, 5), 40)


def test_unrolled_is_the_same(small):
    config, params, ids, mask = small
    want = features(T5Encoder(config), params, ids, mask)
    got = features(T5Encoder(config, scan=False), params, ids, mask)
    assert relative_error(got, want) <= 1e-6


def test_blocks_of_scores_are_the_same(small):
    config, params, ids, mask = small
    want = features(T5Encoder(config, attention="xla"), params, ids, mask)
    got = features(T5Encoder(config, attention="chunked"), params, ids, mask)
    assert relative_error(got, want) <= 1e-5


def test_bfloat16_is_near_float32(small):
    config, params, ids, mask = small
    want = features(T5Encoder(config), params, ids, mask)
    got = features(T5Encoder(config, dtype=jnp.bfloat16), params, ids, mask)
    assert got.dtype == jnp.bfloat16
    difference = (got.astype(jnp.float32) - want)[mask]
    assert 1e-3 < np.sqrt(np.mean(difference**2) / np.mean(want[mask] ** 2)) < 3e-2


@pytest.mark.parametrize("total", [31, 64, 200])
def test_real_positions_do_not_depend_on_the_padding(small, total: int):
    config, params, ids, mask = small
    want = features(T5Encoder(config), params, ids, mask)
    longer = np.full((2, total), 3, np.int32)  # what the padding is does not matter either
    seen = np.zeros((2, total), bool)
    longer[:, :30], seen[:, :30] = np.where(mask, ids, 3)[:, :30], mask[:, :30]
    got = features(T5Encoder(config), params, longer, seen)
    assert relative_error(got[:, :30][mask[:, :30]], want[mask]) <= 1e-5
    unmasked = features(T5Encoder(config), params, longer)
    assert relative_error(unmasked[1, :5], want[1, :5]) > 1e-2


def test_rows_do_not_depend_on_one_another(small):
    config, params, ids, mask = small
    both = features(T5Encoder(config), params, ids, mask)
    alone = features(T5Encoder(config), params, ids[1:], mask[1:])
    assert relative_error(alone[0, :5], both[1, :5]) <= 1e-5


def test_an_unknown_id_is_loud(small):
    config, params, ids, _ = small
    got = features(T5Encoder(config), params, np.where(ids == ids[0, 0], config.vocab_size, ids))
    assert np.isnan(got[0]).all()


def test_a_mask_of_another_length_is_refused(small):
    config, params, ids, mask = small
    with pytest.raises(ValueError, match=r"mask of shape \(2, 39\) for ids of shape \(2, 40\)"):
        features(T5Encoder(config), params, ids, mask[:, 1:])


def test_parameters_have_the_asked_dtype(small):
    config, _, ids, _ = small
    model = T5Encoder(config, param_dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(ids))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.bfloat16)}


def test_state_dicts_name_the_same_tensors():
    """What is tied there is one parameter here."""
    for config in (T5, UMT5):
        keys = set(state_arrays(torch_model(config))) - {"encoder.embed_tokens.weight"}
        assert keys == set(t5_table(config).keys())
