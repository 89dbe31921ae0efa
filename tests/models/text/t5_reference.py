"""Tiny T5 and umT5 encoders of transformers with random weights, and ours with the same."""

import dataclasses

import numpy as np
from random_weights import randomise, state_arrays

from tavid_jax.models.text.config import T5Config
from tavid_jax.weights.streaming import port_table
from tavid_jax.weights.t5 import t5_shapes, t5_table

T5 = T5Config(vocab_size=97, dim=24, num_heads=3, head_dim=5, ffn_dim=40, num_layers=2)
UMT5 = dataclasses.replace(T5, shared_bias=False, num_layers=3)
CONFIGS = {
    "t5": T5,
    "umt5": UMT5,
    "t5, wide heads": T5Config(
        vocab_size=61, dim=20, num_heads=4, head_dim=8, ffn_dim=28, num_layers=3, epsilon=1e-4
    ),
    "umt5, other buckets": T5Config(
        vocab_size=61,
        dim=32,
        num_heads=2,
        head_dim=12,
        ffn_dim=20,
        num_layers=2,
        num_buckets=12,
        max_distance=50,
        shared_bias=False,
    ),
    "t5, one block": dataclasses.replace(T5, num_layers=1, dim=16, ffn_dim=72),
}
# Norms see values near the root of epsilon: the embedding, and what the first blocks add to it.
SHRUNK = (r"^shared\.", r"block\.0\..*\.(o|wo)\.")


def torch_class(config: T5Config):
    """transformers' encoder of this config."""
    import transformers

    described, model = (
        (transformers.T5Config, transformers.T5EncoderModel)
        if config.shared_bias
        else (transformers.UMT5Config, transformers.UMT5EncoderModel)
    )
    return model(
        described(
            vocab_size=config.vocab_size,
            d_model=config.dim,
            d_kv=config.head_dim,
            num_heads=config.num_heads,
            d_ff=config.ffn_dim,
            num_layers=config.num_layers,
            relative_attention_num_buckets=config.num_buckets,
            relative_attention_max_distance=config.max_distance,
            layer_norm_epsilon=config.epsilon,
            feed_forward_proj="gated-gelu",
        )
    )


def torch_model(config: T5Config, seed: int = 0):
    """The same, every parameter random; queries as small as T5 makes them.

    Nothing divides the logits by the root of the head's width. With larger ones the softmax turns
    into a choice, and float32 is no longer good for five digits on either side.
    """
    model = randomise(torch_class(config), seed, SHRUNK)
    for name, tensor in model.state_dict().items():
        if name.endswith("SelfAttention.q.weight"):
            tensor.mul_(config.head_dim**-0.5)
    return model


def ported(model, config: T5Config) -> dict:
    """Our parameters with the weights of theirs."""
    return port_table(t5_table(config), state_arrays(model), t5_shapes(config))


def prompts(config: T5Config, lengths: tuple[int, ...], total: int, seed: int = 0):
    """(ids (B, total) ending in zeros, mask (B, total)) with so many real tokens in each row."""
    rng = np.random.default_rng(seed)
    mask = np.arange(total) < np.array(lengths)[:, None]
    ids = rng.integers(1, config.vocab_size, mask.shape)
    return np.where(mask, ids, 0).astype(np.int32), mask
