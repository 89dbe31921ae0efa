"""What the tests plug into Wan's ports, for our model and for `wan_walk.Walk`."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from wan_reference import BATCH, T2V, TOKENS, inputs
from wan_walk import Walk, tensor

from tavid_jax.models.layers.linear import linear
from tavid_jax.models.layers.lora import LoraRule, init_lora
from tavid_jax.models.layers.norms import rms_norm
from tavid_jax.models.layers.ports import CrossAttention, Probe
from tavid_jax.models.wan.transformer import Wan

DEPTH, SUBSET = 3, (0, 2)
CONFIG = dataclasses.replace(T2V, num_layers=DEPTH)
HEADS, WIDTH = CONFIG.num_heads, CONFIG.dim
CONDITION_RULE = LoraRule(
    "blocks/(attn/(q|k|v|o)|cross/(q|o))", rank=3, alpha=2, layers=SUBSET, stream="condition"
)
SHARED_RULE = LoraRule("blocks/mlp/fc[12]", rank=2, layers=(1,), name="mlp")
TORCH_NAMES = {
    "attn/q": "attn1.to_q",
    "attn/k": "attn1.to_k",
    "attn/v": "attn1.to_v",
    "attn/o": "attn1.to_out.0",
    "cross/q": "attn2.to_q",
    "cross/o": "attn2.to_out.0",
    "mlp/fc1": "ffn.net.0.proj",
    "mlp/fc2": "ffn.net.2",
}


def normal(seed: int, *shape: int, size: float = 1.0) -> jax.Array:
    return jnp.asarray(size * np.random.default_rng((3, seed)).standard_normal(shape), jnp.float32)


def drawn(config=CONFIG) -> dict[str, np.ndarray]:
    """Latents, text (and image), and a timestep per latent frame."""
    given = {k: v for k, v in inputs(config).items() if k != "target"}
    return {**given, "timestep": np.array([[0, 999, 999], [0.5, 31, 640]], np.float32)}


CONDITION = {
    "condition": normal(1, BATCH, TOKENS, WIDTH, size=0.02),
    "clean": jnp.array([0.0, 250.0]),
}


@functools.partial(jax.jit, static_argnums=0)
def predict(model: Wan, params, given, ports=None):
    given = dict(given)
    options = {name: given[name] for name in ("image", "extra", "condition") if name in given}
    return model.apply(
        {"params": params},
        given["latents"],
        given["timestep"],
        given.get("text"),
        condition_timestep=given.get("clean"),
        ports=ports,
        method=Wan.predict,
        **options,
    )


# A replaced cross-attention: a second attention, to texts of its own, mixed with the published one.


def other_attention(params, x, context, base, inputs):
    """(1 - weight) base + weight attention to other text."""

    def heads(y):
        return y.reshape(*y.shape[:2], HEADS, -1)

    text = inputs["text"]
    q = heads(rms_norm(linear(params["q"], x, jnp.float32), params["q_norm"]["scale"]))
    k = heads(rms_norm(linear(params["k"], text, jnp.float32), params["k_norm"]["scale"]))
    v = heads(linear(params["v"], text, jnp.float32))
    scores = jnp.einsum("bqkd,bskd->bkqs", q, k) * q.shape[-1] ** -0.5
    mixed = jnp.einsum("bkqs,bskd->bqkd", jax.nn.softmax(scores), v)
    own = linear(params["o"], mixed.reshape(x.shape), jnp.float32)
    return (1 - inputs["weight"]) * base() + inputs["weight"] * own


def replaced(params, layers, weight: float) -> CrossAttention:
    """The block's own weights, slightly moved, in the chosen layers."""
    chosen = np.array(range(DEPTH) if layers is None else layers)
    copied = jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf)[chosen] * np.float32(1.05)),
        params["blocks"]["cross"],
    )
    text = normal(5, BATCH, 4, WIDTH, size=0.3)
    given = {"text": text, "weight": jnp.float32(weight)}
    return CrossAttention(params=copied, inputs=given, apply=other_attention, layers=layers)


def torch_replaced(walk: Walk, port: CrossAttention) -> dict[int, Any]:
    """The same in the walk; the copies {layer: module}, whose gradients are compared."""
    from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor

    text, weight = tensor(port.inputs["text"]), float(port.inputs["weight"])
    copies = {}
    for place, layer in enumerate(range(DEPTH) if port.layers is None else port.layers):
        own = WanAttention(
            WIDTH,
            heads=HEADS,
            dim_head=WIDTH // HEADS,
            eps=1e-6,
            cross_attention_dim_head=WIDTH // HEADS,
            processor=WanAttnProcessor(),
        )
        own.load_state_dict(attention_state(port.params, place))
        copies[layer] = own

    def mix(own):
        return lambda x, context, base: (1 - weight) * base + weight * own(x, text, None, None)

    walk.cross = {layer: mix(own) for layer, own in copies.items()}
    return copies


def attention_state(cross, place: int) -> dict[str, Any]:
    """Our cross-attention (weights, or their gradients) of one layer with diffusers' names."""
    state = {}
    for ours, theirs in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0")):
        state[f"{theirs}.weight"] = tensor(cross[ours]["kernel"][place].T)
        state[f"{theirs}.bias"] = tensor(cross[ours]["bias"][place])
    for name in "qk":
        state[f"norm_{name}.weight"] = tensor(cross[f"{name}_norm"]["scale"][place])
    return state


def adapters_of(params, rules, size: float = 0.4) -> dict[str, Any]:
    """Adapters, every tensor random."""
    shapes = jax.eval_shape(lambda: init_lora(jax.random.key(0), params, rules))
    leaves, tree = jax.tree.flatten(shapes)
    return tree.unflatten([normal(50 + i, *s.shape, size=size) for i, s in enumerate(leaves)])


def torch_terms(model, adapters, rule: LoraRule) -> tuple[dict, dict]:
    """({(group, name, place): (A, B), with gradients}, {module: (A, B, scale)} for `low_rank`)."""
    leaves, hooked = {}, {}
    for group, nodes in adapters[rule.name]["blocks"].items():
        for name, node in nodes.items():
            for place, layer in enumerate(rule.selected(DEPTH)):
                a, b = (tensor(node[s][place]).requires_grad_() for s in "ab")
                module = model.blocks[layer].get_submodule(TORCH_NAMES[f"{group}/{name}"])
                leaves[group, name, place] = (a, b)
                hooked[module] = (a, b, 1.0 if rule.alpha is None else rule.alpha / rule.rank)
    return leaves, hooked


LAYER_WEIGHTS = jnp.array([1.0, 0.0, -0.5])


def weighted(bias, start_query: int = 0, start_key: int = 0, size: int | None = None):
    """(layer) -> bias times the layer's weight, put into a larger mask."""

    def at(layer: int):
        values = tensor(bias) * float(LAYER_WEIGHTS[layer])
        if size is None:
            return values
        behind = size - start_key - values.shape[3], size - start_query - values.shape[2]
        return torch.nn.functional.pad(values, (start_key, behind[0], start_query, behind[1]))

    return at


def dense_score(model, walk: Walk, given, probe: Probe):
    """(output, the probe's score) with all probabilities in memory."""
    seen: dict[str, list] = {"q": [], "k": []}
    text = slice(-given["text"].shape[1], None)
    handles = [
        getattr(block.attn2, f"norm_{name}").register_forward_hook(
            lambda module, args, out, kept=kept: kept.append(out)
        )
        for block in model.blocks
        for name, kept in seen.items()
    ]
    out = walk(**given)
    for handle in handles:
        handle.remove()
    total = 0.0
    for weight, q, k in zip(np.array(probe.layers), seen["q"], seen["k"], strict=True):
        q, k = (x.unflatten(2, (HEADS, -1)) for x in (q, k[:, text]))
        maps = torch.einsum("bqkd,bskd->bkqs", q, k) * q.shape[-1] ** -0.5
        column = torch.einsum("bkqs,bs->bq", maps.softmax(-1), tensor(probe.columns))
        total = total + float(weight) * score(column[:, slice(*probe.rows)] / HEADS)
    return out, total


def score(column):
    """Works on arrays of both libraries."""
    return ((column - 0.1) ** 2).sum()
