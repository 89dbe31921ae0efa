"""An imported folder is read straight into its shards."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tavid_jax import weights
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.weights.table import walk

CONFIG = WanConfig(
    num_heads=2, head_dim=16, ffn_dim=64, num_layers=2, freq_dim=16, text_dim=24, text_length=8
)


@pytest.fixture
def imported(tmp_path):
    """Random parameters and the folder that they were imported to."""
    rng = np.random.default_rng(0)
    shapes = weights.CHECKPOINTS["wan"].shapes(CONFIG)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    weights.save("wan", params, CONFIG, tmp_path / "published")
    weights.import_checkpoint(tmp_path / "published", tmp_path / "imported")
    return params, tmp_path / "imported"


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_each_device_gets_its_shard(imported, dtype):
    params, folder = imported
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))

    def place(path, leaf):
        if path.endswith("mlp/fc1/kernel"):
            return NamedSharding(mesh, PartitionSpec(None, "fsdp", "tensor"))
        return NamedSharding(mesh, PartitionSpec())

    restored = dict(walk(weights.restore(folder, place, dtype)))
    kernel = restored["blocks/mlp/fc1/kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 16, 16)}
    assert len(kernel.sharding.device_set) == 8
    for path, leaf in walk(params):
        want = leaf.astype(jax.numpy.bfloat16) if dtype else leaf
        assert restored[path].dtype == want.dtype
        np.testing.assert_array_equal(np.asarray(restored[path]), want, err_msg=path)


def test_a_checkpoint_is_ported_straight_into_its_shards(imported, tmp_path):
    params, folder = imported
    sharding = NamedSharding(jax.make_mesh((8,), ("fsdp",)), PartitionSpec())
    ported = weights.load(
        "wan",
        folder.parent / "published",
        CONFIG,
        place=lambda path, array: jax.device_put(array, sharding),
    )
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(ported))
    np.testing.assert_array_equal(ported["out_modulation"], params["out_modulation"])
