"""Checkpoints of I3D: the public PyTorch file, exact both ways."""

import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.vision.config import I3D_PRESETS, I3DConfig
from tavid_jax.weights import identified
from tavid_jax.weights.table import walk

torch = pytest.importorskip("torch")

TINY = I3DConfig(num_classes=11, shrink=8)


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """Tensors as they lie in the file."""
    rng = np.random.default_rng(0)
    entry = weights.CHECKPOINTS["i3d"]
    shapes = {path: leaf.shape for path, leaf in walk(entry.shapes(TINY))}
    return {
        key: rng.standard_normal(row.source_shape(shapes[row.path])).astype(np.float32)
        for row in entry.table(TINY).rows
        for key in row.keys()
    }


def test_a_file_is_identified_and_round_trips(state, tmp_path, monkeypatch):
    monkeypatch.setattr(identified, "PRESETS", {"tiny": TINY})
    saved = {key: torch.from_numpy(value) for key, value in state.items()}
    saved["Mixed_4f.b1b.bn.num_batches_tracked"] = torch.tensor(3)
    torch.save(saved, tmp_path / "rgb_imagenet.pt")
    found = weights.identify(tmp_path / "rgb_imagenet.pt")
    assert (found.name, found.config) == ("i3d", TINY)
    params = weights.load(None, tmp_path / "rgb_imagenet.pt")
    back = weights.export("i3d", params, TINY)
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key, strict=True)


def test_keys_and_shapes_of_the_public_model():
    """A few that are known from the public class; the rest follows the same pattern."""
    entry, config = weights.CHECKPOINTS["i3d"], I3D_PRESETS["i3d-kinetics-400"]
    shapes = {path: leaf.shape for path, leaf in walk(entry.shapes(config))}
    got = {
        key: row.source_shape(shapes[row.path])
        for row in entry.table(config).rows
        for key in row.keys()
    }
    assert len(got) == 57 * 5 + 2
    assert got["Conv3d_1a_7x7.conv3d.weight"] == (64, 3, 7, 7, 7)
    assert got["Mixed_3b.b0.conv3d.weight"] == (64, 192, 1, 1, 1)
    assert got["Mixed_4f.b2b.conv3d.weight"] == (128, 32, 3, 3, 3)
    assert got["Mixed_5c.b3b.bn.running_var"] == (128,)
    assert got["logits.conv3d.weight"] == (400, 1024, 1, 1, 1)
    assert got["logits.conv3d.bias"] == (400,)


def test_a_missing_tensor_is_named(state):
    broken = {k: v for k, v in state.items() if k != "Mixed_5b.b2a.bn.running_mean"}
    with pytest.raises(weights.WeightsError, match=r"Mixed_5b\.b2a\.bn\.running_mean"):
        weights.port("i3d", broken, TINY)
