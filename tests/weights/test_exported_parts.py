"""Autoencoders and encoders go out as folders that diffusers and transformers open again."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax import weights
from tests.models.random_weights import state_arrays
from tests.pipelines import tiny

pytestmark = pytest.mark.parity
ORIGINAL = {"vae": "wan_vae", "text_encoder": "umt5"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """{name of a part: (its folder, its model)} of both families."""
    folder, image = tmp_path_factory.mktemp("published"), dict(image_dim=20, added_kv_proj_dim=32)
    wan = tiny.wan_folder(folder / "wan", transformer=dict(in_channels=12, **image), clip=True)
    cogvideox = tiny.cogvideox_folder(folder / "cogvideox")
    found = {f"wan {name}": (folder / "wan" / name, model) for name, model in wan.items()}
    found |= {
        f"cogvideox {name}": (folder / "cogvideox" / name, m) for name, m in cogvideox.items()
    }
    return found


def check_same(folder, model):
    again = state_arrays(type(model).from_pretrained(folder))
    want = state_arrays(model)
    assert again.keys() == want.keys()
    for key, array in want.items():
        np.testing.assert_array_equal(again[key], array, err_msg=key)


@pytest.mark.parametrize(
    "part",
    [
        "wan vae",
        "wan text_encoder",
        "wan image_encoder",
        "wan transformer",
        "cogvideox vae",
        "cogvideox text_encoder",
    ],
)
def test_their_library_opens_what_was_exported(published, part, tmp_path):
    folder, model = published[part]
    weights.import_checkpoint(folder, tmp_path / "imported")
    weights.export_checkpoint(tmp_path / "imported", tmp_path / "out")
    check_same(tmp_path / "out", model)


@pytest.mark.parametrize("part", ORIGINAL)
def test_original_names_and_back(published, part, tmp_path):
    folder, model = published[f"wan {part}"]
    weights.export_checkpoint(folder, tmp_path / "original", naming="original")
    assert weights.identify(tmp_path / "original").name == ORIGINAL[part]
    weights.export_checkpoint(tmp_path / "original", tmp_path / "back", naming="diffusers")
    check_same(tmp_path / "back", model)


def test_a_part_without_an_original_naming_is_named(published, tmp_path):
    folder, _ = published["cogvideox vae"]
    with pytest.raises(weights.WeightsError, match="cogvideox_vae has no original naming"):
        weights.export_checkpoint(folder, tmp_path / "out", naming="original")
    assert not (tmp_path / "out").exists()
