"""Preprocessing of pictures: torch's bicubic interpolation, transformers' image processor."""

import jax
import numpy as np
import pytest

from tavid_jax.models.vision import images

SIZES = [(48, 83), (224, 224), (301, 100), (720, 1280), (5, 7)]


@pytest.mark.parity
@pytest.mark.parametrize("size_hw", SIZES)
def test_squash_is_that_of_torch(rng, size_hw):
    torch = pytest.importorskip("torch")
    given = rng.uniform(-1, 1, (2, *size_hw, 3)).astype(np.float32)
    pixels = torch.from_numpy(given).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        pixels, size=(224, 224), mode="bicubic", align_corners=False
    )
    scaled = resized.permute(0, 2, 3, 1).numpy() / 2 + 0.5
    want = (scaled - images.MEAN) / images.STD
    got = jax.jit(images.wan_preprocess)(given)
    assert got.shape == (2, 224, 224, 3)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_weights_of_a_row_sum_to_one_and_reach_two_pixels():
    weights = images.bicubic_weights(90, 40)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (np.count_nonzero(weights, axis=1) <= 4).all()
    np.testing.assert_array_equal(images.bicubic_weights(9, 9), np.eye(9))


def test_normalisation(rng):
    grey = np.zeros((1, 32, 20, 3), np.float32)
    want = (0.5 - np.array(images.MEAN)) / images.STD
    np.testing.assert_allclose(
        images.wan_preprocess(jax.numpy.asarray(grey))[0, 5, 5], want, atol=1e-5
    )
    white = np.full((1, 300, 400, 3), 255, np.uint8)
    want = (1 - np.array(images.MEAN)) / images.STD
    np.testing.assert_allclose(images.clip_preprocess(white)[0, 5, 5], want, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("size_hw", [(48, 83), (224, 224), (301, 100), (333, 517), (225, 224)])
@pytest.mark.parametrize("size", [224, 31])
def test_openai_rule_is_that_of_transformers(rng, size_hw, size):
    transformers = pytest.importorskip("transformers")
    given = rng.integers(0, 256, (2, *size_hw, 3), dtype=np.uint8)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    want = processor(images=list(given), return_tensors="np")["pixel_values"]
    got = images.clip_preprocess(given, size)
    np.testing.assert_allclose(got, np.moveaxis(want, 1, -1), atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("size_hw", [(48, 83), (256, 256)])
def test_dinov2_rule_is_that_of_transformers(rng, size_hw):
    """Of its processor told to resize to 224x224, as WHN does: its crop then cuts nothing."""
    transformers = pytest.importorskip("transformers")
    given = rng.integers(0, 256, (2, *size_hw, 3), dtype=np.uint8)
    square = {"height": 224, "width": 224}
    processor = transformers.BitImageProcessorPil(
        size=square, crop_size=square, image_mean=images.IMAGENET_MEAN,
        image_std=images.IMAGENET_STD, resample=3,
    )  # fmt: skip
    want = processor(images=list(given), return_tensors="np")["pixel_values"]
    got = images.dinov2_preprocess(given)
    np.testing.assert_allclose(got, np.moveaxis(want, 1, -1), atol=1e-6)
    whole = images.dinov2_preprocess(given, size=None)
    assert whole.shape[1:3] == tuple(side // 14 * 14 for side in size_hw)


@pytest.mark.parametrize("size_hw", [(48, 83), (83, 48), (224, 224), (333, 517)])
def test_dino_rule_keeps_the_whole_picture(rng, size_hw):
    """The shorter side becomes 224; nothing but less than a patch is cut off."""
    given = rng.integers(0, 256, (2, *size_hw, 3), dtype=np.uint8)
    got = images.dino_preprocess(given)
    scale = 224 / min(size_hw)
    assert got.shape[0] == 2 and got.dtype == np.float32 and min(got.shape[1:3]) == 224
    for side, source in zip(got.shape[1:3], size_hw, strict=True):
        assert side % 16 == 0 and 0 <= int(source * scale) - side < 16
    assert abs(got.mean()) < 0.3


@pytest.mark.parity
@pytest.mark.parametrize("size_hw", [(48, 48), (301, 301)])
def test_dino_rule_on_squares_is_that_of_transformers(rng, size_hw):
    transformers = pytest.importorskip("transformers")
    given = rng.integers(0, 256, (2, *size_hw, 3), dtype=np.uint8)
    processor = transformers.ViTImageProcessorPil(
        resample=3, image_mean=list(images.IMAGENET_MEAN), image_std=list(images.IMAGENET_STD)
    )
    want = processor(images=list(given), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(images.dino_preprocess(given), np.moveaxis(want, 1, -1), atol=1e-6)
