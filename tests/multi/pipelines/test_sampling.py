"""Videos of eight devices are those of one."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import jax
import jax.numpy as jnp

from tavid_jax.pipelines import Job, Memory, Targets, open_pipeline
from tests.models.random_weights import relative_error
from tests.pipelines import tiny, trained
from tests.pipelines.reference import NEGATIVE, PROMPT, picture

MESH = {"fsdp": 2, "context": 4}
# Four heads, so that the context axis can divide them.
WAN = dict(num_attention_heads=4, in_channels=12, image_dim=20, added_kv_proj_dim=64)
COGVIDEOX = dict(num_attention_heads=4)
OPTIONS = dict(
    size_hw=(32, 48),
    frames=9,
    steps=3,
    guidance=4.0,
)
FIELDS = dict(negative_prompt=NEGATIVE, seed=2)


def assert_same_on_mesh(name, folder, options=OPTIONS, **fields):
    job = Job(PROMPT, options=options, **FIELDS, **fields)
    one = next(open_pipeline(name, folder, strict=False).run([job]))
    many = open_pipeline(name, folder, strict=False, mesh=MESH, memory=Memory(keep="host"))
    for _ in range(2):  # the second time from the host's memory
        for video in many.run([job]):
            # While the autoencoder is held, the caller's own arrays are on one device.
            assert len(jnp.ones(8).sharding.device_set) == 1
            assert jax.sharding.get_abstract_mesh().empty
            assert relative_error(video.latents, one.latents) < 1e-4
            assert np.abs(video.frames.astype(int) - one.frames).max() <= 1
    with many.parts["transformer"].hold(many.mesh) as params:
        assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(params))


@pytest.mark.slow
def test_wan_from_an_image(tmp_path):
    tiny.wan_folder(tmp_path / "model", 170, transformer=WAN, clip=True)
    image = picture((32, 48), 7)
    assert_same_on_mesh("wan2.1-i2v-14b", tmp_path / "model", image=image)


def test_cogvideox_with_noise_in_every_step(tmp_path):
    tiny.cogvideox_folder(tmp_path / "model", 180, transformer=COGVIDEOX)
    assert_same_on_mesh("cogvideox-5b", tmp_path / "model", OPTIONS | {"sampler": "dpm"})


def test_adapters_masks_and_vectors(tmp_path):
    """What is added to a checkpoint lies on all devices too, also the second time."""
    made = trained.targeted(targets=Targets(sentence="", embedding=True))
    trained.save("cogvideox", tmp_path / "base")
    trained.save_targeted("cogvideox", tmp_path / "base", tmp_path / "model", made)
    mask = np.zeros((16, 16), bool)
    mask[4:10, 2:6] = True
    job = Job(trained.TARGET_PROMPT, image=picture((16, 16), 7), mask=mask, modulation=2.0)
    (one,) = open_pipeline(tmp_path / "model").run([job])
    mesh, memory = {"fsdp": 4, "context": 2}, Memory(keep="host")
    many = open_pipeline(tmp_path / "model", mesh=mesh, memory=memory)
    for _ in range(2):
        (video,) = many.run([job])
        assert relative_error(video.latents, one.latents) < 1e-4
    with many.parts["transformer"].hold(many.mesh) as params:
        assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(params))
