"""Every layout change has an exact inverse, and shapes are told without values."""

import numpy as np
import pytest

from tavid_jax.weights import ops
from tavid_jax.weights.problems import fold, with_nearest
from tavid_jax.weights.table import Row

CASES = [
    (ops.COPY, (3, 5), (3, 5)),
    (ops.TRANSPOSE, (3, 5), (5, 3)),
    (ops.CONV1D, (3, 5, 2), (2, 5, 3)),
    (ops.PATCH_CONV, (3, 5, 2, 4), (2, 4, 5, 3)),
    (ops.CONV2D, (3, 5, 2, 4), (2, 4, 5, 3)),
    (ops.CONV3D, (3, 5, 2, 4, 6), (2, 4, 6, 5, 3)),
    (ops.CONV_TRANSPOSE1D, (3, 5, 2), (2, 3, 5)),
    (ops.POINTWISE_CONV, (3, 5, 1), (5, 3)),
    (ops.pointwise_conv(3), (3, 5, 1, 1, 1), (5, 3)),
    (ops.squeeze_end(3), (7, 1, 1, 1), (7,)),
    (ops.squeeze(2), (1, 1, 7), (7,)),
    (ops.patch_linear(5, (2, 3)), (7, 5, 2, 3), (30, 7)),
    (ops.patch_linear(5, (1, 2, 3)), (7, 5, 1, 2, 3), (30, 7)),
    (ops.patch_linear(5), (7, 30), (30, 7)),
    (ops.patch_output(5), (30, 7), (7, 30)),
    (ops.patch_output(5), (30,), (30,)),
]


@pytest.mark.parametrize(("op", "theirs", "ours"), CASES, ids=lambda c: getattr(c, "name", None))
def test_inverse(op, theirs, ours):
    array = np.random.default_rng(0).normal(size=theirs)
    moved = op.forward(array)
    assert moved.shape == ours
    np.testing.assert_array_equal(op.backward(moved), array, strict=True)
    assert Row("k", "p", op).source_shape(ours) == theirs
    assert Row("k.{i}", "p", op, range(4)).source_shape((4, *ours)) == theirs


def test_patch_rows_put_the_channel_last():
    weight = np.arange(5 * 6).reshape(1, 5, 2, 3)  # (out, channel, row, column)
    kernel = ops.patch_linear(5, (2, 3)).forward(weight)[:, 0]
    np.testing.assert_array_equal(kernel.reshape(2, 3, 5), weight[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(ops.patch_linear(5).forward(weight.reshape(1, 30))[:, 0], kernel)
    np.testing.assert_array_equal(ops.patch_output(5).forward(weight.reshape(30)), kernel)


def test_folding_of_layers():
    names = ["a.0.w", "a.1.w", "a.3.w", "b", "c.0.to_out.0.w", "c.1.to_out.0.w", "t/7/x"]
    assert fold(names) == ["a.{0-1,3}.w", "b", "c.{0-1}.to_out.0.w", "t/7/x"]


def test_nearest_names():
    lines = with_nearest(["blocks.0.normal.w", "zzz"], ["blocks.0.norm.w", "head.bias"])
    assert lines == ["blocks.0.normal.w (nearest: blocks.0.norm.w)", "zzz"]
