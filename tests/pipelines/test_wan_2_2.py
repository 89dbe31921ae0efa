"""Wan 2.2's pipelines equal diffusers': the one with per-frame timesteps, and the pairs."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.pipelines import open_pipeline
from tavid_jax.pipelines.denoising import scales_of, segments_of
from tests.pipelines import tiny
from tests.pipelines.reference import STEPS, noise_of, picture, sample, wan

pytestmark = pytest.mark.parity
FRAMES = 9


@pytest.fixture(scope="module")
def ti2v(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ti2v") / "model"
    transformer = dict(in_channels=6, out_channels=6)
    models = tiny.wan_folder(folder, 40, transformer=transformer, vae=tiny.WAN_VAE_2)
    return open_pipeline("wan2.2-ti2v-5b", folder, strict=False), models


@pytest.mark.parametrize(
    ("given", "guidance", "sampler"),
    [(False, 5.0, "unipc"), (True, 5.0, "unipc"), (True, 1.0, "euler")],
)
def test_text_and_image_to_video(ti2v, given, guidance, sampler):
    """The picture is the clean first latent frame, at timestep 0; sixteen pixels a position."""
    size_hw, noise = (64, 96), noise_of((3, 4, 6, 6), 1)
    image = picture(size_hw, 3) if given else None
    got = sample(
        ti2v[0], image=image, noise=noise, size_hw=size_hw, frames=FRAMES, grid="diffusers",
        guidance=guidance, sampler=sampler, shift=5.0,
    )  # fmt: skip
    images = () if image is None else (image,)
    want = wan(*ti2v, noise, size_hw, FRAMES, guidance, 5.0, sampler, images)
    got.assert_near(want)


@pytest.mark.parametrize(
    ("name", "guidance", "high", "shift"),
    [
        ("wan2.2-t2v-a14b", (4.0, 1.0), 3, 5.0),
        ("wan2.2-i2v-a14b", (3.5, 2.5), 2, 3.0),
    ],
)
def test_pairs_of_experts(tmp_path, name, guidance, high, shift):
    """Each expert has its steps and its scale of guidance, which may also be none."""
    size_hw, noise = (32, 48), noise_of((3, 4, 6, 4), 2)
    images = (picture(size_hw, 4),) if "i2v" in name else ()
    transformer = dict(in_channels=12) if images else {}
    models = tiny.wan_folder(tmp_path / "model", 50, transformer=transformer, experts=True)
    pipeline = open_pipeline(name, tmp_path / "model", strict=False)
    image = images[0] if images else None
    options = dict(size_hw=size_hw, frames=FRAMES, grid="diffusers", guidance=guidance, shift=shift)
    got = sample(pipeline, image=image, noise=noise, **options)
    want = wan(pipeline, models, noise, size_hw, FRAMES, guidance, shift, images=images)
    got.assert_near(want)
    sampler = make_sampler("unipc", STEPS, family="wan", shift=shift, grid="diffusers")
    published = pipeline.published
    scales = scales_of(sampler, published, published.sampling.changed({"guidance": guidance}))
    walked = [
        (s.stop - s.start, s.guided, s.expert) for s in segments_of(sampler, published, scales)
    ]
    assert walked == [
        (high, True, "high_noise"),
        (STEPS - high, guidance[1] > 1, "low_noise"),
    ]


@pytest.mark.parametrize(
    ("fit", "size_hw"), [("area", (96, 160)), ("area_published", (96, 160)), ("cover", (128, 128))]
)
def test_a_video_of_the_pictures_aspect_ratio(ti2v, fit, size_hw):
    """Sides are multiples of 32: sixteen pixels a position, two positions a patch."""
    options = dict(size_hw=(128, 128), frames=5, steps=1, guidance=1.0, fit=fit)
    video = ti2v[0].sample("a ball", image=picture((60, 100), 5), **options)
    assert video.frames.shape == (5, *size_hw, 3)
