"""JAX's Pallas kernel for TPUs ("splash"), without a mask: all queries see all real keys.

Sequences are padded to whole blocks; keys of padding are told from real ones by segment ids, and
only where there are any. The kernel knows no scale, so the queries carry it.

`forward` and `backward` are the halves from which the ring builds attention over several devices
(see chunked.py); on one device the kernel's own gradient is used.
"""

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tavid_jax.parallel.sharding import target_chip

HEAD_DIMS = (64, 128)
LANES = 128  # every block is a multiple of the width of a TPU's vector registers


class Blocks(NamedTuple):
    """Rows (queries) and columns (keys) of a block of scores, forward and backward.

    Larger blocks read the keys less often and need more of the chip's vector memory.
    """

    rows: int
    keys: int


# By the beginning of the chip's name as JAX gives it; "" is any other.
BLOCKS = {"TPU v6": Blocks(1024, 1024), "TPU7": Blocks(1024, 1024), "": Blocks(512, 512)}

_INTERPRETING = jax.make_user_context(default_value=False)


def interpreting() -> bool:
    """Whether the kernel is being interpreted (see `interpreted`)."""
    return _INTERPRETING.value


def _pallas() -> ModuleType:
    """Imported where the kernel runs: elsewhere a start would wait for it."""
    from jax.experimental.pallas.ops.tpu import splash_attention

    return splash_attention


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Within it the kernel runs anywhere, slowly, op by op: for tests."""
    with _INTERPRETING(True):
        yield


def attend(
    q: Float[Array, "B Q K D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K D"],
    bias: None = None,
    *,
    scale: float,
    keys: int | None = None,
) -> Float[Array, "B Q K D"]:
    """softmax(scale q k^T) v over the first `keys` keys; None: all."""
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    return jnp.swapaxes(_attend(q, k, v, scale, keys), 1, 2)


def whole_blocks(queries: int, keys: int) -> tuple[int, int]:
    """The smallest numbers of queries and keys that fill whole blocks."""
    blocks = choose_blocks(queries, keys)
    return _ceil(queries, blocks.rows), _ceil(keys, blocks.keys)


# Who joins the sequences for it may pad them in the same copy.
attend.whole_blocks = whole_blocks


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _attend(q, k, v, scale, keys):
    return _attend_forward(q, k, v, scale, keys)[0]


def _attend_forward(q, k, v, scale, keys):
    def run(q, k, v):
        blocks = choose_blocks(q.shape[2], k.shape[2])
        queries = q.shape[2]
        seen = None if keys is None else jnp.arange(k.shape[2]) < keys
        q, k, v, ids = _pad(q, k, v, seen, scale, blocks)
        kernel = _kernel(q.shape[1], q.shape[2], k.shape[2], blocks)
        return _over_batch(kernel, q, k, v, ids)[:, :, :queries]

    with _precision(q.dtype):
        return jax.vjp(run, q, k, v)


def _attend_backward(scale, keys, gradient, d_out):
    del scale, keys
    with _precision(d_out.dtype):
        return gradient(d_out)


_attend.defvjp(_attend_forward, _attend_backward)


def _precision(dtype):
    """Products of 16-bit numbers are exact anyway, and the kernel fails if asked for more."""
    low = jnp.dtype(dtype).itemsize == 2
    return jax.default_matmul_precision("default") if low else contextlib.nullcontext()


def forward(
    q: Float[Array, "B K Q D"],
    k: Float[Array, "B K S D"],
    v: Float[Array, "B K S D"],
    seen: Bool[Array, " S"] | None,
    scale: float,
) -> tuple[Float[Array, "B K Q D"], Float[Array, "B K Q"]]:
    """Attention and the log-sum-exp of its rows, float32.

    Args:
      seen: keys that count, the others are padding; None: all.
    """
    blocks = choose_blocks(q.shape[2], k.shape[2])
    queries = q.shape[2]
    q, k, v, ids = _pad(q, k, v, seen, scale, blocks)
    run = _kernel(q.shape[1], q.shape[2], k.shape[2], blocks, save_residuals=True)
    with _precision(q.dtype):
        out, (lse,) = _over_batch(run, q, k, v, ids)
    return out[:, :, :queries].astype(jnp.float32), lse[:, :, :queries]


def backward(
    q: Float[Array, "B K Q D"],
    k: Float[Array, "B K S D"],
    v: Float[Array, "B K S D"],
    seen: Bool[Array, " S"] | None,
    out: Float[Array, "B K Q D"],
    lse: Float[Array, "B K Q"],
    d_out: Float[Array, "B K Q D"],
    scale: float,
) -> tuple[Float[Array, "B K Q D"], Float[Array, "B K S D"], Float[Array, "B K S D"]]:
    """Cotangents of q, k and v, float32, given out and its log-sum-exp over all keys there are.

    JAX offers the kernel's backward pass only as its gradient, with the log-sum-exp of its own
    keys: hence the call of a private function.
    """
    blocks = choose_blocks(q.shape[2], k.shape[2])
    queries, keys = q.shape[2], k.shape[2]
    q, k, v, ids = _pad(q, k, v, seen, scale, blocks)
    out, d_out = (_pad_tokens(x.astype(v.dtype), blocks.rows) for x in (out, d_out))
    lse = _pad_tokens(lse[..., None], blocks.rows)[..., 0]
    run = _kernel(q.shape[1], q.shape[2], k.shape[2], blocks)
    options = run.kwargs

    def one(q, k, v, out, lse, d_out):
        saved = (q, k, v, ids, None, out, lse, run.dq_mask_info, run.dkv_mask_info)
        grads = _pallas().splash_attention_kernel._splash_attention_bwd(
            False,
            options["mask_value"],
            options["is_mqa"],
            options["block_sizes"],
            None,
            options["mask_function"],
            None,
            options["interpret"],
            saved,
            d_out,
        )
        return grads[3:6]

    with _precision(q.dtype):
        grads = jax.vmap(one)(q, k, v, out, lse, d_out)
    d_q, d_k, d_v = (x.astype(jnp.float32) for x in grads)
    return d_q[:, :, :queries] * scale, d_k[:, :, :keys], d_v[:, :, :keys]


def choose_blocks(queries: int, keys: int) -> Blocks:
    """The chip's blocks, or smaller ones for a sequence that does not fill one."""
    chip = target_chip()
    most = next(blocks for name, blocks in BLOCKS.items() if chip.startswith(name))
    return Blocks(min(most.rows, _ceil(queries, LANES)), min(most.keys, _ceil(keys, LANES)))


def _ceil(tokens: int, block: int) -> int:
    return -(-tokens // block) * block


def _pad(q, k, v, seen, scale, blocks):
    """Whole blocks of tokens, the scale in q, and segment ids where there is padding."""
    keys = k.shape[2]
    k, v = (_pad_tokens(x, blocks.keys) for x in (k, v))
    q = _pad_tokens((q * scale).astype(k.dtype), blocks.rows)
    if seen is None and k.shape[2] == keys:
        return q, k, v, None
    real = jnp.arange(k.shape[2]) < keys
    if seen is not None:
        real &= jnp.pad(seen, (0, k.shape[2] - keys))
    ids = _pallas().SegmentIds(q=jnp.ones(q.shape[2], jnp.int32), kv=real.astype(jnp.int32))
    return q, k, v, ids


def _pad_tokens(x: Array, block: int) -> Array:
    missing = _ceil(x.shape[2], block) - x.shape[2]
    return jnp.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0))) if missing else x


def _kernel(heads: int, queries: int, keys: int, blocks: Blocks, **options):
    """The kernel of one sample, (K, S, D) arrays.

    Two kernels backward, not the fused one: that one writes a whole dq per block of keys, which
    for a video is gigabytes.
    """
    pallas = _pallas()
    sizes = pallas.BlockSizes(
        block_q=blocks.rows,
        block_kv=blocks.keys,
        block_q_dkv=blocks.rows,
        block_kv_dkv=blocks.keys,
        block_q_dq=blocks.rows,
        block_kv_dq=blocks.keys,
    )
    return pallas.make_splash_mha_single_device(
        pallas.MultiHeadMask([pallas.FullMask((queries, keys))] * heads),
        block_sizes=sizes,
        interpret=interpreting(),
        **options,
    )


def _over_batch(run, q, k, v, ids):
    return jax.vmap(run, in_axes=(0, 0, 0, None))(q, k, v, ids)
