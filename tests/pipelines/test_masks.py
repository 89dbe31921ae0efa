"""Masks: read, fitted as their images are, brought to latents and tokens."""

import numpy as np
import pytest
from PIL import Image

from tavid_jax.pipelines.images import fit_image
from tavid_jax.pipelines.masks import check_mask, fit_mask, latent_masks, pooled, read_mask


def mask_with(*pixels, size_hw=(480, 720)):
    mask = np.zeros(size_hw, np.float32)
    for row, column in pixels:
        mask[row, column] = 1.0
    return mask


# ---- cells ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "column"), [(0, 0), (17, 44), (59, 89)])
def test_the_top_left_pixel_of_a_cell_counts(row, column):
    """And no other one, as in the released code; "max" takes any."""
    corner = mask_with((8 * row, 8 * column))
    inside = mask_with((8 * row + 3, 8 * column + 7), (8 * row + 1, 8 * column))
    want = np.zeros((60, 90), np.float32)
    want[row, column] = 1.0
    np.testing.assert_array_equal(pooled(corner, 8, "nearest"), want)
    assert not pooled(inside, 8, "nearest").any()
    for mask in (corner, inside):
        np.testing.assert_array_equal(pooled(mask, 8, "max"), want)
    np.testing.assert_allclose(pooled(inside, 8, "area"), want * 2 / 64)


def test_cells_of_tokens_and_of_several_masks():
    rng = np.random.default_rng(0)
    masks = (rng.random((2, 32, 48)) > 0.5).astype(np.float32)
    got = pooled(masks, 16, "area")
    assert got.shape == (2, 2, 3)
    np.testing.assert_allclose(got[1, 1, 2], masks[1, 16:, 32:].mean())
    latents = latent_masks(list(masks), 8, "nearest")
    assert latents.shape == (4, 6, 2)
    np.testing.assert_array_equal(latents[..., 1], masks[1, ::8, ::8])


def test_cells_that_pixels_do_not_fill():
    with pytest.raises(ValueError, match="a mask of 30x48 does not consist of cells of 8 pixels"):
        pooled(np.zeros((30, 48)), 8, "area")


# ---- fitting --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cover", "stretch"])
@pytest.mark.parametrize("image_hw", [(90, 200), (200, 90), (96, 144), (33, 47)])
def test_a_mask_is_cut_and_resized_as_its_image(image_hw, how):
    """What is painted on the image lies where the mask does, within a pixel."""
    height, width = image_hw
    rows, columns = np.mgrid[:height, :width]
    # In the middle of the image, so that no cut loses it; off the middle of it, to show a shift.
    mask = (abs(rows / height - 0.54) < 0.16) & (abs(columns / width - 0.45) < 0.13)
    image = np.where(mask[..., None], [255, 0, 0], [0, 0, 255]).astype(np.uint8)
    size_hw = (64, 96)
    fitted = fit_mask(mask.astype(np.float32), image_hw, size_hw, how) > 0.5
    seen = fit_image(image, size_hw, how)[..., 0] > 127
    assert seen.sum() > 50
    for one, other in ((fitted, seen), (seen, fitted)):
        for axis in (0, 1):
            mine, theirs = (np.flatnonzero(x.any(axis)) for x in (one, other))
            assert abs(mine[0] - theirs[0]) <= 1 and abs(mine[-1] - theirs[-1]) <= 1


def test_another_resolution_is_that_of_the_image():
    """A mask at three times the image's size; and at a third of it, up to its pixels."""
    rng = np.random.default_rng(1)
    small = (rng.random((20, 30)) > 0.5).astype(np.float32)
    same = np.kron(small, np.ones((3, 3), np.float32))
    size_hw, image_hw = (60, 90), (60, 90)
    np.testing.assert_array_equal(fit_mask(same, image_hw, size_hw, "cover"), same)
    np.testing.assert_array_equal(fit_mask(small, image_hw, size_hw, "cover"), same)
    large = np.kron(same, np.ones((3, 3), np.float32))
    np.testing.assert_array_equal(fit_mask(large, image_hw, size_hw, "cover"), same)


def test_what_a_mask_must_not_be():
    whole, none = np.ones((40, 60), np.float32), np.zeros((40, 60), np.float32)
    edge = mask_with((0, 30), size_hw=(40, 60))
    fit = lambda mask, *sizes: fit_mask(mask, *sizes, "cover", "mug.png")  # noqa: E731
    with pytest.raises(ValueError, match=r"mug\.png is empty: no pixel of it is white"):
        fit(none, (40, 60), (40, 60))
    with pytest.raises(ValueError, match=r"mug\.png covers everything: mark the object alone"):
        fit(whole, (40, 60), (40, 60))
    with pytest.raises(ValueError, match=r"mug\.png is 40x60 .*, its image 60x60: the aspect"):
        fit(edge, (60, 60), (40, 60))
    with pytest.raises(ValueError, match=r"empty once the image is cut to 20x60: its object lies"):
        fit(edge, (40, 60), (20, 60))
    with pytest.raises(ValueError, match="at 20x60: its object is thinner than a pixel there"):
        fit_mask(edge, (40, 60), (20, 60), "stretch")
    edge[1] = edge[0]
    assert fit_mask(edge, (40, 60), (20, 60), "stretch").any()
    middle = np.zeros((40, 60), np.float32)
    middle[5:35] = 1.0
    with pytest.raises(ValueError, match=r"mug\.png covers everything"):
        fit(middle, (40, 60), (20, 60))
    # A pixel of rounding is no crop.
    assert fit(np.pad(edge, ((0, 0), (0, 0))), (401, 601), (40, 60)).any()


def test_half_a_mask_is_none():
    faint = np.full((4, 4), 0.4, np.float32)
    with pytest.raises(ValueError, match="one is empty"):
        check_mask(faint, "one")


# ---- reading --------------------------------------------------------------------------------


def test_files_arrays_and_pictures(tmp_path):
    array = np.array([[0, 100, 255], [128, 127, 0]], np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    want, soft = array >= 128, array / np.float32(255)
    for source in (
        tmp_path / "a.png", str(tmp_path / "a.png"), Image.open(tmp_path / "a.png"), array,
        array / 255, np.stack([array, 0 * array, 0 * array], -1),
    ):  # fmt: skip
        np.testing.assert_array_equal(read_mask(source), want)
        np.testing.assert_allclose(read_mask(source, soft=True), soft, atol=1e-6)
    np.testing.assert_array_equal(read_mask(want), want)
    assert read_mask(want).dtype == np.float32


def test_a_photograph_is_turned_as_its_camera_notes(tmp_path):
    picture = Image.fromarray(np.array([[255, 0, 0]], np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise
    picture.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), [[1], [0], [0]])


def test_what_is_no_mask(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as a mask"):
        read_mask(tmp_path / "a.png")
    for array, message in (
        (np.zeros(5), r"the mask of shape \(5,\)"),
        (np.full((2, 2), 7, np.int64), "type int64: give"),
        (np.full((2, 2), np.nan), r"outside of \[0, 1\]"),
        (np.full((2, 2), -0.1), r"outside of \[0, 1\]"),
        (np.full((2, 2), 300, np.uint16), r"outside of \[0, 1\]: divide it by its largest"),
    ):
        with pytest.raises(ValueError, match=message):
            read_mask(array)
