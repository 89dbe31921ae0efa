"""Frozen weights in 8 bits: a quarter of float32's memory, half of bfloat16's.

The kernels of the blocks become `qwix.QArray`s: int8 values and one float32 scale per output
channel (and layer), so that a stack is still sliced along its depth. They are widened where they
are used, in `models/layers/linear.py`: products are as exact, and as fast, as before, what changes
is the weights, by about a hundredth of their size. Norms, biases, tables, embeddings, adapters and
what stands outside of the blocks stay as they are.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from tavid_jax.models.layers.linear import dense, is_quantised
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.streaming import Place
from tavid_jax.weights.table import nest, walk

# The stacked kernels of all models of ours: attention, MLP and modulation.
KERNELS = (r"(.*/)?blocks/.*kernel",)


def is_large_kernel(path: str, shape: Sequence[int], patterns: Sequence[str] = KERNELS) -> bool:
    """Whether a parameter is to be kept in 8 bits: a matrix, or a stack of them.

    Args:
      path: of the parameter, "a/b/c".
      shape: of the parameter; below "blocks" the first axis is the depth.
      patterns: regular expressions, one of which must match the whole path.
    """
    stacked = "blocks" in path.split("/")
    return len(shape) == 2 + stacked and any(re.fullmatch(p, path) for p in patterns)


def quantise_leaf(kernel: Any, scale_dtype: DTypeLike = jnp.float32) -> Any:
    """A matrix, or a stack, in 8 bits, in the host's memory: a `qwix.QArray` of numpy arrays.

    Layer by layer, so that a stack is never copied in float32.

    Args:
      kernel: (I, O) or (depth, I, O), of any floating dtype.
      scale_dtype: of the scales; less than float32 costs precision and saves nothing to speak of.

    Raises:
      WeightsError: the library qwix is not installed.
    """
    qwix = _library()
    layers = kernel if kernel.ndim == 3 else kernel[None]
    values = np.empty(layers.shape, np.int8)
    scales = np.empty((layers.shape[0], 1, layers.shape[2]), jnp.dtype(scale_dtype))
    for index, layer in enumerate(layers):
        found = _quantise(jnp.asarray(layer, jnp.float32))
        values[index], scales[index] = np.asarray(found.qvalue), np.asarray(found.scale)
    if kernel.ndim == 2:
        values, scales = values[0], scales[0]
    return qwix.QArray(values, scales)


def quantise_array(kernel: jax.Array) -> Any:
    """`quantise_leaf` of a matrix, or a stack, that is traced or on a device: a `qwix.QArray`.

    Raises:
      WeightsError: the library qwix is not installed.
    """
    wide = kernel.astype(jnp.float32)
    return _quantise(wide) if kernel.ndim == 2 else jax.vmap(_quantise)(wide)


@jax.jit
def _quantise(matrix: jax.Array) -> Any:
    return _library().quantize(matrix, jnp.int8, channelwise_axes=(1,))


def quantising(place: Place | None = None, patterns: Sequence[str] = KERNELS) -> Place:
    """A `place` for `weights.load` and `port` that keeps large kernels in 8 bits.

    One parameter at a time is in memory as the checkpoint has it.

    Args:
      place: where arrays go, (path, numpy array) -> array; for a kernel in 8 bits it is asked
        twice, for its values and for its scales. Default: default device.
      patterns: see `is_large_kernel`.
    """
    place = place or (lambda path, array: jnp.asarray(array))

    def put(path: str, array: Any) -> Any:
        if not is_large_kernel(path, array.shape, patterns):
            return place(path, array)
        return jax.tree.map(lambda part: place(path, part), quantise_leaf(array))

    return put


def quantise(
    params: Mapping[str, Any], patterns: Sequence[str] = KERNELS, place: Place | None = None
) -> dict[str, Any]:
    """The same parameters with large kernels in 8 bits.

    Args:
      params: nested dict.
      patterns: see `is_large_kernel`.
      place: where arrays go, see `quantising`.

    Raises:
      WeightsError: no kernel matches, or the library qwix is not installed.
    """
    leaves = dict(walk(params))
    chosen = {p for p, leaf in leaves.items() if is_large_kernel(p, leaf.shape, patterns)}
    if not chosen:
        raise WeightsError(f"no kernel matches {' or '.join(patterns)}: nothing to keep in 8 bits")
    put = quantising(place, patterns)
    return nest({p: put(p, leaf) if p in chosen else leaf for p, leaf in leaves.items()})


def dequantise(params: Mapping[str, Any], dtype: DTypeLike = jnp.float32) -> dict[str, Any]:
    """Parameters whose kernels are all arrays of `dtype` again; other leaves stay."""
    return nest(
        {path: dense(leaf, dtype) if is_quantised(leaf) else leaf for path, leaf in walk(params)}
    )


def num_bytes(params: Mapping[str, Any]) -> int:
    """Bytes of all parameters; those of 8-bit kernels with their scales."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def measured_error(params: Mapping[str, Any], quantised: Mapping[str, Any]) -> dict[str, float]:
    """{path: rms(difference) / rms(weights)} of each kernel that is kept in 8 bits."""
    wide = dict(walk(params))
    errors = {}
    for path, leaf in walk(quantised):
        if is_quantised(leaf):
            kernel = jnp.asarray(wide[path], jnp.float32)
            difference = dense(leaf, jnp.float32) - kernel
            errors[path] = float(jnp.linalg.norm(difference) / jnp.linalg.norm(kernel))
    return errors


def _library() -> Any:
    try:
        import qwix
    except ImportError as error:
        raise WeightsError("weights in 8 bits need the library: pip install qwix") from error
    return qwix
