"""CogVideoX's pipelines from text equal diffusers', from prompts to pixels."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax.pipelines import open_pipeline
from tests.pipelines import tiny
from tests.pipelines.reference import cogvideox, noise_of, sample

pytestmark = pytest.mark.parity
SIZE_HW, FRAMES = (32, 48), 9
NOISE = noise_of((3, 4, 6, 4), 5)
OURS = dict(noise=NOISE, size_hw=SIZE_HW, frames=FRAMES)


@pytest.fixture(scope="module")
def rotary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rotary") / "model"
    models = tiny.cogvideox_folder(folder, 60)
    return open_pipeline("cogvideox-5b", folder, strict=False), models


@pytest.mark.parametrize(
    ("sampler", "guidance", "dynamic"),
    [
        ("ddim", 6.0, "none"),
        ("ddim", 1.0, "none"),
        ("dpm", 6.0, "none"),
        ("dpm", 6.0, "timestep"),
        ("ddim", 1.0, "timestep"),
    ],
)
def test_5b(rotary, sampler, guidance, dynamic):
    got = sample(rotary[0], sampler=sampler, guidance=guidance, dynamic=dynamic, seed=7, **OURS)
    is_dynamic = dynamic == "timestep"
    want = cogvideox(*rotary, NOISE, SIZE_HW, FRAMES, guidance, sampler, is_dynamic, seed=7)
    got.assert_near(want)


def test_2b(tmp_path):
    """The fixed table of positions, and another schedule of noise."""
    transformer = dict(use_rotary_positional_embeddings=False)
    models = tiny.cogvideox_folder(tmp_path / "model", 70, transformer=transformer)
    pipeline = open_pipeline("cogvideox-2b", tmp_path / "model", strict=False)
    got = sample(pipeline, guidance=6.0, **OURS)
    got.assert_near(cogvideox(pipeline, models, NOISE, SIZE_HW, FRAMES, 6.0))


def test_1_5(tmp_path):
    """Two latent frames are a token: three become four, of which the first is dropped."""
    transformer = dict(patch_size_t=2, patch_bias=False, sample_height=8, sample_width=12)
    models = tiny.cogvideox_folder(tmp_path / "model", 80, transformer=transformer)
    pipeline = open_pipeline("cogvideox1.5-5b", tmp_path / "model", strict=False)
    noise = noise_of((4, 4, 6, 4), 6)
    got = sample(pipeline, noise=noise, size_hw=SIZE_HW, frames=FRAMES, guidance=6.0)
    got.assert_near(cogvideox(pipeline, models, noise, SIZE_HW, FRAMES, 6.0))
