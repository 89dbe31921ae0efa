"""Nested dicts by path."""

import ml_dtypes
import numpy as np
import pytest

from tavid_jax.engine import trees

TREE = {"b": {"x": 1, "deep": {"y": 2}}, "a": 3}


def test_flatten_is_sorted_and_inverted():
    assert list(trees.flatten(TREE).items()) == [("a", 3), ("b/deep/y", 2), ("b/x", 1)]
    assert trees.unflatten(trees.flatten(TREE)) == TREE
    assert trees.flatten({"a": {}}) == {}


def test_merge_is_deep_and_leaves_its_arguments():
    over = {"b": {"deep": {"y": 20, "z": 4}}, "c": 5}
    assert trees.merge(TREE, over) == {
        "b": {"x": 1, "deep": {"y": 20, "z": 4}},
        "a": 3,
        "c": 5,
    }
    assert TREE["b"]["deep"] == {"y": 2} and "c" not in TREE
    assert trees.merge({"a": {"b": 1}}, {"a": 2}) == {"a": 2}


def test_partition_by_whole_paths():
    matched, rest = trees.partition(TREE, ("b/deep/.*", "a"))
    assert (matched, rest) == ({"b": {"deep": {"y": 2}}, "a": 3}, {"b": {"x": 1}})
    # "b" alone is no whole path: matching a part of one would train what nobody named.
    for pattern in ("b", "nothing/.*"):
        with pytest.raises(ValueError, match=f"pattern '{pattern}' matches no parameter"):
            trees.partition(TREE, ("a", pattern))


def test_fingerprint_knows_names_values_shapes_and_dtypes():
    base = {"a": {"w": np.zeros((2, 3), np.float32)}}
    others = [
        {"a": {"v": np.zeros((2, 3), np.float32)}},
        {"a": {"w": np.zeros((3, 2), np.float32)}},
        {"a": {"w": np.zeros((2, 3), np.int32)}},
        {"a": {"w": np.full((2, 3), 1e-30, np.float32)}},
        {},
    ]
    prints = [trees.fingerprint(tree) for tree in (base, *others)]
    assert len(set(prints)) == len(prints)
    assert trees.fingerprint({"a": {"w": np.zeros((2, 3), np.float32)}}) == prints[0]
    assert trees.fingerprint({"w": np.ones(2, ml_dtypes.bfloat16)})
