"""Ports in training: gradients under scan, remat and jit equal PyTorch's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import gradient_errors, gradients, relative_error, worst
from wan_reference import BATCH, TOKENS

from tavid_jax import weights
from tavid_jax.models.layers.ports import AttentionBias, Ports, Probe, Residuals
from tavid_jax.models.wan.transformer import Wan

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from wan_ports import (  # noqa: E402  (needs torch)
    CONDITION,
    CONDITION_RULE,
    CONFIG,
    HEADS,
    LAYER_WEIGHTS,
    SUBSET,
    WIDTH,
    adapters_of,
    attention_state,
    dense_score,
    drawn,
    normal,
    predict,
    replaced,
    score,
    torch_replaced,
    torch_terms,
    weighted,
)
from wan_walk import Walk, low_rank, tensor  # noqa: E402


def our_gradients(model: Wan, tree, given):
    """(prediction, gradients of the mean square of its sample, plus the probe's score)."""

    @jax.jit
    def run(tree):
        def loss(tree):
            params = {**tree["params"], **tree.get("more", {})}
            more = {k: v for k, v in given.items() if k not in tree} | {
                k: tree[k] for k in ("condition", "extra") if k in tree
            }
            out = predict(model, params, more, Ports(**tree["ports"]))
            probed = 0.0 if out.probe is None else out.probe
            return jnp.mean(out.sample**2) + probed, out

        return jax.value_and_grad(loss, has_aux=True, allow_int=True)(tree)

    (_, out), slopes = run(tree)
    return out, slopes


def same_gradients(got: dict[str, Any], want: dict[str, Any]) -> None:
    want = {k: v.grad.numpy() if isinstance(v, torch.Tensor) else v for k, v in want.items()}
    errors = gradient_errors({k: np.asarray(got[k]) for k in want}, want)
    assert max(errors.values()) <= 1e-4, worst(errors)


TRAINING = Wan(CONFIG, lora=(CONDITION_RULE,), remat="full")


def test_gradients_with_condition_adapters_bias_and_residuals(published, params):
    adapters = adapters_of(params, TRAINING.lora)
    bias = normal(14, BATCH, 1, TOKENS, TOKENS, size=2)
    values = normal(15, len(SUBSET), BATCH, TOKENS, WIDTH, size=0.02)
    given = {**drawn(), **CONDITION}
    tree = {
        "params": params,
        "more": {"lora": adapters},
        "condition": given["condition"],
        "ports": {
            "attention_bias": AttentionBias(bias=bias, layers=LAYER_WEIGHTS, key="condition"),
            "residuals": Residuals(values=values, layers=SUBSET),
        },
    }
    out, slopes = our_gradients(TRAINING, tree, given)

    published.zero_grad()
    walk = Walk(published)
    leaf = {
        name: tensor(x).requires_grad_()
        for name, x in (("bias", bias), ("values", values), ("condition", given["condition"]))
    }
    walk.self_bias = weighted(leaf["bias"], start_key=TOKENS, size=2 * TOKENS)
    walk.residuals = dict(zip(SUBSET, leaf["values"], strict=True))
    leaves, hooked = torch_terms(published, adapters, CONDITION_RULE)
    with low_rank(hooked, slice(TOKENS, None)):
        want = walk(**{**given, "condition": leaf["condition"]})
        torch.mean(want**2).backward()

    assert relative_error(out.sample, want.detach()) <= 1e-5
    same_gradients(weights.export("wan_diffusers", slopes["params"], CONFIG), gradients(published))
    got = {
        "bias": slopes["ports"]["attention_bias"].bias,
        "values": slopes["ports"]["residuals"].values,
        "condition": slopes["condition"],
    }
    stacked = slopes["more"]["lora"][CONDITION_RULE.name]["blocks"]
    for (group, name, place), pair in leaves.items():
        for side, term in zip("ab", pair, strict=True):
            if term.grad is not None:
                leaf[f"{group} {name} {place} {side}"] = term
                got[f"{group} {name} {place} {side}"] = stacked[group][name][side][place]
    same_gradients(got, leaf)


@pytest.mark.parametrize("layers", [None, SUBSET])
def test_gradients_with_replaced_cross_attention_bias_and_probe(published, params, layers):
    port = replaced(params, layers, 0.4)
    bias = normal(16, 1, HEADS, 1, CONFIG.text_length, size=2)
    columns = jnp.abs(normal(11, BATCH, CONFIG.text_length))
    probe = Probe(layers=LAYER_WEIGHTS, columns=columns, score=score, rows=(0, 6))
    given = drawn()
    tree = {
        "params": params,
        "ports": {
            "cross_attention": port,
            "attention_bias": AttentionBias(bias=bias, layers=LAYER_WEIGHTS),
            "probe": probe,
        },
    }
    out, slopes = our_gradients(Wan(CONFIG, remat="full"), tree, given)

    published.zero_grad()
    walk = Walk(published)
    leaf = tensor(bias).requires_grad_()
    walk.cross_bias = weighted(leaf)
    copies = torch_replaced(walk, port)
    want, probed = dense_score(published, walk, given, probe)
    (torch.mean(want**2) + probed).backward()

    assert relative_error(out.sample, want.detach()) <= 1e-5
    same_gradients(weights.export("wan_diffusers", slopes["params"], CONFIG), gradients(published))
    same_gradients({"bias": slopes["ports"]["attention_bias"].bias}, {"bias": leaf})
    cross = slopes["ports"]["cross_attention"].params
    for place, own in enumerate(copies.values()):
        got = {name: x.numpy() for name, x in attention_state(cross, place).items()}
        same_gradients(got, gradients(own))
