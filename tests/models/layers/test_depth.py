"""What the backward pass keeps changes neither values nor gradients, only what is kept."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name, print_saved_residuals

from tavid_jax.models.layers.depth import (
    as_pairs,
    remat_body,
    scan_depth,
    take_block,
    take_blocks,
    walk_depth,
)

DEPTH, ROWS, WIDTH, HIDDEN = 4, 3, 5, 7


@pytest.fixture
def stack(rng):
    shapes = {"w1": (DEPTH, WIDTH, HIDDEN), "w2": (DEPTH, HIDDEN, WIDTH)}
    return {k: jnp.asarray(rng.normal(size=s) * 0.5, jnp.float32) for k, s in shapes.items()}


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.normal(size=(ROWS, WIDTH)), jnp.float32)


def _block(x, layer):
    """Its hidden activations have a size that nothing else has."""
    hidden = checkpoint_name(jnp.sin(x @ layer["w1"]), "hidden")
    out = checkpoint_name(jnp.cos(hidden @ layer["w2"]), "out")
    return x + out, jnp.sum(hidden)


def _loss(scan, remat):
    def loss(stack, x):
        last, sums = scan_depth(_block, x, stack, scan, remat)
        return jnp.sum(last**2) + jnp.sum(sums * jnp.arange(DEPTH)), sums

    return jax.value_and_grad(loss, (0, 1), has_aux=True)


def _by_hand(stack, x):
    def loss(stack, x):
        sums = []
        for i in range(DEPTH):
            hidden = jnp.sin(x @ stack["w1"][i])
            x = x + jnp.cos(hidden @ stack["w2"][i])
            sums.append(jnp.sum(hidden))
        sums = jnp.stack(sums)
        return jnp.sum(x**2) + jnp.sum(sums * jnp.arange(DEPTH)), sums

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(stack, x)


POLICIES = (
    "none",
    "full",
    "names=hidden",
    "names= hidden, out",
    "offload=hidden",
    "offload=hidden,out",
)


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("remat", POLICIES)
def test_values_and_gradients(stack, x, scan, remat):
    got = jax.jit(_loss(scan, remat))(stack, x)
    want = _by_hand(stack, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


def test_groups(stack, x, capsys):
    """Gradients by another forward pass; kept are the inputs of two groups, not of four layers."""
    got = jax.jit(_loss(True, "groups=2"))(stack, x)
    want = _by_hand(stack, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)

    def saved(remat):
        print_saved_residuals(
            lambda w, x: jnp.sum(scan_depth(_block, x, w, True, remat)[0]), stack, x
        )
        kept = capsys.readouterr().out
        return re.findall(rf"^f32\[(\d+),{ROWS},{WIDTH}\]", kept, re.MULTILINE)

    assert (saved("full"), saved("groups=2")) == ([str(DEPTH)], [str(DEPTH // 2)])
    for scan, remat in ((False, "groups=2"), (True, "groups=3"), (True, "groups=x")):
        with pytest.raises(
            ValueError, match="scan=True and a size that divides 4 layers: .* 1, 2, 4"
        ):
            scan_depth(_block, x, stack, scan, remat)


# How many arrays of the hidden activation's size each layer keeps, on the device and on the host.
@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize(
    "remat, device, host",
    [
        ("none", 2, 0),  # the activation and the cosine that its gradient needs
        ("full", 0, 0),
        ("names=hidden", 1, 0),
        ("names=out", 0, 0),
        ("names=out,hidden", 1, 0),
        ("offload=hidden", 0, 1),
    ],
)
def test_what_is_kept(stack, x, capsys, scan, remat, device, host):
    print_saved_residuals(lambda w, x: jnp.sum(scan_depth(_block, x, w, scan, remat)[0]), stack, x)
    kept = capsys.readouterr().out
    shape = rf"\[{DEPTH},{ROWS},{HIDDEN}\]" if scan else rf"\[{ROWS},{HIDDEN}\]"
    layers = 1 if scan else DEPTH
    assert len(re.findall(rf"^f32{shape}", kept, re.MULTILINE)) == device * layers
    assert len(re.findall(rf"^f32<host>{shape}", kept, re.MULTILINE)) == host * layers


@pytest.mark.parametrize("scan", [True, False])
def test_walking_without_outputs(stack, x, scan):
    last = walk_depth(lambda x, layer: _block(x, layer)[0], x, stack, scan=scan, remat="full")
    np.testing.assert_allclose(last, scan_depth(_block, x, stack, scan, "none")[0], rtol=1e-6)


def test_a_loop_of_one_is_no_loop(stack, x):
    one = take_blocks(stack, 1, 2)
    program = jax.make_jaxpr(lambda x: scan_depth(_block, x, one, True, "none"))(x)
    assert "scan" not in {eqn.primitive.name for eqn in program.jaxpr.eqns}
    last, sums = scan_depth(_block, x, one, True, "full")
    want = _block(x, take_block(stack, 1))
    np.testing.assert_allclose(last, want[0], rtol=1e-6)
    np.testing.assert_allclose(sums, want[1][None], rtol=1e-6)


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("remat", ["none", "full", "names=hidden"])
def test_a_block_is_traced_once(stack, x, scan, remat):
    """Of as many as there are: starts wait for tracing."""
    traced = []

    def body(x, layer):
        traced.append(None)
        return _block(x, layer)

    def loss(stack, x):
        return jnp.sum(scan_depth(body, x, stack, scan, remat)[0])

    jax.jit(jax.grad(loss)).lower(stack, x)
    assert len(traced) == 1


@pytest.mark.parametrize("scan", [True, False])
def test_layers_with_several_kinds_of_leaves(stack, x, scan):
    """Flags and indices travel beside the parameters."""
    layers = {**stack, "flag": jnp.arange(DEPTH) % 2 == 0, "index": jnp.arange(DEPTH)}

    def body(x, layer):
        return jnp.where(layer["flag"], _block(x, layer)[0], x), layer["index"]

    got, order = scan_depth(body, x, layers, scan, "full")
    want = x
    for i in (0, 2):
        want = _block(want, take_block(stack, i))[0]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_array_equal(order, np.arange(DEPTH))


def test_pairs(stack):
    pairs = as_pairs(stack)
    assert pairs["w1"].shape == (DEPTH // 2, 2, WIDTH, HIDDEN)
    np.testing.assert_array_equal(pairs["w1"][1, 0], stack["w1"][2])


@pytest.mark.parametrize(
    "remat", ["all", "", "names", "names=", "names= ,", "offload=", "full=hidden", "none=x", "Full"]
)
def test_a_policy_of_another_form(stack, x, remat):
    with pytest.raises(ValueError, match='remat is "none", "full", "groups=6", or "names=a,b"'):
        scan_depth(_block, x, stack, True, remat)
    with pytest.raises(ValueError, match="remat is"):
        remat_body(_block, remat, in_scan=False)
