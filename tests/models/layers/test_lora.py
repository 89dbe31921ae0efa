"""Low-rank rules: what they select, store, compute and merge into."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.linear import project
from tavid_jax.models.layers.lora import (
    LoraRule,
    attach,
    init_lora,
    merge,
    projections,
    targets,
    unmerge,
)

DEPTH, WIDTH, HIDDEN = 4, 6, 9


@pytest.fixture
def tree(rng):
    """A small transformer's parameters: stacked and single projections, and what is none."""

    def linear(*shape):
        return {
            "kernel": jnp.asarray(rng.normal(size=shape), jnp.float32),
            "bias": jnp.asarray(rng.normal(size=(*shape[:-2], shape[-1])), jnp.float32),
        }

    return {
        "text_embed": linear(5, WIDTH),
        "time": {"fc1": linear(WIDTH, HIDDEN), "fc2": linear(HIDDEN, WIDTH)},
        "conv": {"kernel": jnp.ones((3, 3, 2, WIDTH)), "bias": jnp.ones(WIDTH)},
        "blocks": {
            "attn": {
                **{name: linear(DEPTH, WIDTH, WIDTH) for name in "qkvo"},
                "q_norm": {"scale": jnp.ones((DEPTH, WIDTH))},
            },
            "mlp": {"fc1": linear(DEPTH, WIDTH, HIDDEN), "fc2": linear(DEPTH, HIDDEN, WIDTH)},
        },
    }


def _random(adapters, seed=1):
    """B is zero at the start: noise makes every adapter act."""
    leaves, structure = jax.tree.flatten(adapters)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [a + jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, noisy)


def _adapted(tree, rules):
    return _random(init_lora(jax.random.key(0), tree, rules))


def _node(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _layer(tree, path, index):
    """One layer of a stacked projection with whatever is attached to it."""
    return jax.tree.map(lambda leaf: leaf[index], _node(tree, path))


def _rows(rng, n_in):
    return jnp.asarray(rng.normal(size=(2, 7, n_in)), jnp.float32)


# --- rules


def test_every_matrix_is_a_projection_and_nothing_else(tree):
    found = [path for path, _ in projections({**tree, "lora": {"default": tree}})]
    assert found == [
        "text_embed",
        "time/fc1",
        "time/fc2",
        *(f"blocks/attn/{name}" for name in "qkvo"),
        "blocks/mlp/fc1",
        "blocks/mlp/fc2",
    ]


@pytest.mark.parametrize(
    "pattern, paths",
    [
        ("blocks/attn/(q|k)", ["blocks/attn/q", "blocks/attn/k"]),
        (".*/fc1", ["time/fc1", "blocks/mlp/fc1"]),
        ("text_embed", ["text_embed"]),
    ],
)
def test_the_pattern_matches_whole_paths(tree, pattern, paths):
    assert list(targets(tree, LoraRule(pattern, rank=1))) == paths


@pytest.mark.parametrize(
    "pattern", ["attn/q", "blocks/attn", "blocks/attn/q_norm", "blocks/Attn/q"]
)
def test_a_rule_without_a_match_lists_what_there_is(tree, pattern):
    with pytest.raises(ValueError, match=f"{pattern!r}; there are text_embed, .*blocks/mlp/fc2"):
        init_lora(jax.random.key(0), tree, [LoraRule(pattern, rank=1)])


@pytest.mark.parametrize(
    "layers, chosen",
    [
        (None, (0, 1, 2, 3)),
        ((2, 0), (0, 2)),
        ((-1, 3, 1), (1, 3)),
        (slice(1, None, 2), (1, 3)),
        (slice(-2, None), (2, 3)),
        ([1], (1,)),
    ],
)
def test_layers(layers, chosen):
    assert LoraRule("x", rank=1, layers=layers).selected(DEPTH) == chosen


@pytest.mark.parametrize(
    "layers, message",
    [
        ((0, 4), "layer 4 of 4 does not exist; use 0 to 3"),
        ((-5,), "layer -5 of 4 does not exist"),
        ((), "select none of 4"),
        (slice(4, None), "select none of 4"),
    ],
)
def test_layers_that_do_not_exist(tree, layers, message):
    with pytest.raises(ValueError, match=f"'mine': .*{message}"):
        init_lora(
            jax.random.key(0), tree, [LoraRule("blocks/attn/q", 1, layers=layers, name="mine")]
        )


@pytest.mark.parametrize("alpha, scale", [(None, 1.0), (2, 0.5), (6.0, 1.5)])
def test_the_scale_is_alpha_over_rank(alpha, scale):
    assert LoraRule("x", rank=4, alpha=alpha).scale == scale


def test_a_rank_is_positive():
    with pytest.raises(ValueError, match="rank 0 must be at least 1"):
        LoraRule("x", rank=0)


def test_a_path_is_a_regular_expression():
    with pytest.raises(ValueError, match=r"'default': 'blocks/\(q' is no regular expression"):
        LoraRule("blocks/(q", rank=2)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_is_one_node_of_a_path(name):
    with pytest.raises(ValueError, match="one node of a path"):
        LoraRule("x", rank=2, name=name)


@pytest.mark.parametrize("layers", [None, [0, 1], slice(1, None)], ids=str)
def test_rules_can_be_hashed(layers):
    """jit hashes the module whose method it compiles, and the module's rules with it."""
    rule, same = (LoraRule("x", rank=2, layers=layers) for _ in range(2))
    assert rule == same and hash(rule) == hash(same)
    assert rule != LoraRule("x", rank=2, layers=(3,))


def test_names_are_unique(tree):
    rules = [LoraRule("blocks/attn/q", 1), LoraRule("blocks/attn/k", 2)]
    with pytest.raises(ValueError, match="names of their own, got default, default"):
        init_lora(jax.random.key(0), tree, rules)


# --- storage


def test_only_the_selected_layers_are_stored(tree):
    rules = (
        LoraRule("blocks/attn/(q|k)", rank=3, layers=(0, 2, -1), name="some"),
        LoraRule("text_embed|blocks/mlp/fc1", rank=2, name="all"),
    )
    adapters = init_lora(
        jax.random.key(0), jax.tree.map(lambda a: a.astype("bfloat16"), tree), rules
    )
    shapes = jax.tree.map(lambda leaf: leaf.shape, adapters)
    some = {"a": (3, WIDTH, 3), "b": (3, 3, WIDTH)}
    assert shapes == {
        "some": {"blocks": {"attn": {"q": some, "k": some}}},
        "all": {
            "text_embed": {"a": (5, 2), "b": (2, WIDTH)},
            "blocks": {"mlp": {"fc1": {"a": (4, WIDTH, 2), "b": (4, 2, HIDDEN)}}},
        },
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(adapters)} == {jnp.dtype("float32")}


def test_adapters_start_without_effect(tree, rng):
    rules = (LoraRule("blocks/mlp/fc1", rank=2),)
    adapters = init_lora(jax.random.key(0), tree, rules)
    start = _node(adapters["default"], "blocks/mlp/fc1")
    assert np.all(start["b"] == 0)
    assert 0 < np.max(np.abs(start["a"])) <= WIDTH**-0.5
    assert not np.array_equal(start["a"][0], start["a"][1])
    x = _rows(rng, WIDTH)
    attached = _layer(attach(tree, adapters, rules), "blocks/mlp/fc1", 1)
    plain = _layer(tree, "blocks/mlp/fc1", 1)
    np.testing.assert_array_equal(project(attached, x, "float32"), project(plain, x, "float32"))


def test_attaching_leaves_the_base_alone(tree):
    rules = (LoraRule("blocks/attn/q", rank=2),)
    before = jax.tree.structure(tree)
    attach(tree, _adapted(tree, rules), rules)
    assert jax.tree.structure(tree) == before


# --- values


def test_projection_is_that_of_the_summed_weights(tree, rng):
    rule = LoraRule("blocks/mlp/fc1", rank=3, alpha=2, layers=(1, -1))
    adapters = _adapted(tree, (rule,))
    term = _node(adapters["default"], "blocks/mlp/fc1")
    attached = attach(tree, adapters, (rule,))
    x = _rows(rng, WIDTH)
    for layer in range(DEPTH):
        base = _layer(tree, "blocks/mlp/fc1", layer)
        kernel = base["kernel"]
        if layer in (1, 3):
            place = (1, 3).index(layer)
            kernel = kernel + 2 / 3 * term["a"][place] @ term["b"][place]
        got = project(_layer(attached, "blocks/mlp/fc1", layer), x, jnp.float32)
        np.testing.assert_allclose(got, x @ kernel + base["bias"], atol=2e-5, rtol=1e-5)


def test_projection_outside_the_blocks(tree, rng):
    rule = LoraRule("text_embed", rank=2, alpha=1)
    adapters = _adapted(tree, (rule,))
    term = adapters["default"]["text_embed"]
    x = _rows(rng, 5)
    got = project(attach(tree, adapters, (rule,))["text_embed"], x, jnp.float32)
    kernel = tree["text_embed"]["kernel"] + 0.5 * term["a"] @ term["b"]
    np.testing.assert_allclose(got, x @ kernel + tree["text_embed"]["bias"], atol=2e-5, rtol=1e-5)


def test_several_rules_on_one_projection_add_up(tree, rng):
    rules = (
        LoraRule("blocks/attn/.", rank=2, name="first"),
        LoraRule("blocks/attn/q", rank=3, alpha=1, layers=(2,), name="second"),
    )
    adapters = _adapted(tree, rules)
    first, second = (_node(adapters[n], "blocks/attn/q") for n in ("first", "second"))
    x = _rows(rng, WIDTH)
    base = _layer(tree, "blocks/attn/q", 2)
    update = first["a"][2] @ first["b"][2] + second["a"][0] @ second["b"][0] / 3
    got = project(_layer(attach(tree, adapters, rules), "blocks/attn/q", 2), x, jnp.float32)
    want = x @ (base["kernel"] + update) + base["bias"]
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-5)


def test_an_adapter_of_one_stream_acts_on_no_other(tree, rng):
    rules = (
        LoraRule("blocks/attn/q", rank=2, stream="condition", name="condition"),
        LoraRule("blocks/attn/q", rank=2, stream="text", name="text"),
    )
    adapters = _adapted(tree, rules)
    attached = _layer(attach(tree, adapters, rules), "blocks/attn/q", 0)
    base = _layer(tree, "blocks/attn/q", 0)
    x = _rows(rng, WIDTH)
    plain = project(base, x, jnp.float32)
    np.testing.assert_array_equal(project(attached, x, jnp.float32, "video"), plain)
    for stream in ("condition", "text"):
        term = _node(adapters[stream], "blocks/attn/q")
        want = plain + x @ term["a"][0] @ term["b"][0]
        got = project(attached, x, jnp.float32, stream)
        np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-5)


def test_an_adapter_of_all_streams_acts_on_each(tree, rng):
    rules = (LoraRule("blocks/attn/q", rank=2),)
    attached = _layer(attach(tree, _adapted(tree, rules), rules), "blocks/attn/q", 0)
    x = _rows(rng, WIDTH)
    video = project(attached, x, jnp.float32, "video")
    np.testing.assert_array_equal(project(attached, x, jnp.float32, "text"), video)
    assert not np.allclose(video, project(_layer(tree, "blocks/attn/q", 0), x, jnp.float32))


def test_the_result_has_the_compute_dtype(tree, rng):
    rules = (LoraRule("blocks/attn/q", rank=2),)
    attached = _layer(attach(tree, _adapted(tree, rules), rules), "blocks/attn/q", 0)
    x = _rows(rng, WIDTH)
    low, exact = project(attached, x, jnp.bfloat16), project(attached, x, jnp.float32)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        low.astype(jnp.float32), exact, atol=0.05 * float(jnp.abs(exact).max())
    )


# --- gradients


def test_gradients_reach_what_acts_and_nothing_else(tree, rng):
    rules = (
        LoraRule("blocks/attn/q", rank=2, layers=(0, 3), name="both"),
        LoraRule("blocks/attn/q", rank=2, stream="text", name="text"),
        LoraRule("blocks/attn/k", rank=2, name="unused"),
    )
    adapters = _adapted(tree, rules)
    x = _rows(rng, WIDTH)

    def loss(adapters):
        attached = attach(tree, adapters, rules)["blocks"]["attn"]["q"]

        def step(y, layer):
            return jnp.tanh(project(layer, y, jnp.float32, "video")), None

        return jnp.sum(jax.lax.scan(step, x, attached)[0] ** 2)

    grads = jax.grad(loss)(adapters)
    both = _node(grads["both"], "blocks/attn/q")
    assert both["a"].shape == (2, WIDTH, 2)
    for leaf in both.values():
        assert np.all(np.max(np.abs(leaf), axis=(1, 2)) > 1e-6)  # every selected layer
    for name in ("text", "unused"):
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(grads[name]))


# --- merging


MERGED = (
    LoraRule("blocks/attn/(q|v)", rank=2, alpha=3, layers=slice(1, 3), name="some"),
    LoraRule("text_embed|blocks/.*", rank=2, alpha=1, name="all"),
)


def test_merged_weights_compute_the_same(tree, rng):
    adapters = _adapted(tree, MERGED)
    merged = merge({**tree, "lora": adapters}, MERGED)
    assert jax.tree.structure(merged) == jax.tree.structure(tree)
    attached = attach(tree, adapters, MERGED)
    for path, kernel in projections(tree):
        x = _rows(rng, kernel.shape[-2])
        for layer in range(DEPTH) if path.startswith("blocks") else [None]:
            apart, one = (
                _node(t, path) if layer is None else _layer(t, path, layer)
                for t in (attached, merged)
            )
            want = project(apart, x, jnp.float32)
            got = project(one, x, jnp.float32)
            np.testing.assert_allclose(got, want, atol=1e-6 * float(jnp.abs(want).max()), rtol=1e-6)


def test_unmerging_gives_the_base_back(tree):
    adapters = _adapted(tree, MERGED)
    whole = {**tree, "lora": adapters}
    merged = merge(whole, MERGED)
    assert not np.allclose(
        merged["blocks"]["attn"]["q"]["kernel"][1], tree["blocks"]["attn"]["q"]["kernel"][1]
    )
    back = unmerge(merged, adapters, MERGED)
    assert jax.tree.structure(back) == jax.tree.structure(whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), back, whole)


def test_merging_keeps_the_dtype_of_the_base(tree):
    low = jax.tree.map(lambda a: a.astype(jnp.bfloat16), tree)
    merged = merge({**low, "lora": _adapted(low, MERGED)}, MERGED)
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {jnp.dtype("bfloat16")}


def test_an_adapter_of_one_stream_cannot_be_merged(tree):
    rules = (LoraRule("blocks/attn/q", rank=2, stream="condition", name="side"),)
    with pytest.raises(ValueError, match="'side' acts on the stream 'condition' alone"):
        merge({**tree, "lora": _adapted(tree, rules)}, rules)


# --- against PEFT


@pytest.mark.parity
@pytest.mark.parametrize("alpha", [None, 3])
def test_equals_peft(rng, alpha, relative_error):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    n_in, n_out, rank = 11, 7, 4
    base = torch.nn.Linear(n_in, n_out)
    config = peft.LoraConfig(
        r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=["proj"]
    )
    layer = peft.get_peft_model(torch.nn.Sequential(OrderedDict(proj=base)), config).model.proj
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    x = rng.normal(size=(3, 5, n_in)).astype(np.float32)
    want = layer(torch.tensor(x))
    want.square().sum().backward()

    def array(parameter):
        return jnp.asarray(parameter.detach().numpy().T)

    tree = {"proj": {"kernel": array(base.weight), "bias": array(base.bias)}}
    a, b = (getattr(layer, name)["default"].weight for name in ("lora_A", "lora_B"))
    adapters = {"default": {"proj": {"a": array(a), "b": array(b)}}}
    rules = (LoraRule("proj", rank=rank, alpha=alpha),)

    def outputs(adapters):
        return project(attach(tree, adapters, rules)["proj"], jnp.asarray(x), jnp.float32)

    assert relative_error(outputs(adapters), want.detach().numpy()) < 1e-5
    grads = jax.grad(lambda t: jnp.sum(outputs(t) ** 2))(adapters)["default"]["proj"]
    for name, parameter in (("a", a), ("b", b)):
        assert relative_error(grads[name], parameter.grad.numpy().T) < 1e-5
    merged = merge({**tree, "lora": adapters}, rules)["proj"]["kernel"]
    layer.merge()
    assert relative_error(merged, base.weight.detach().numpy().T) < 1e-5
