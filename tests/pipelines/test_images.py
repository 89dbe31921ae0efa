"""Pictures: read, refused, fitted to a size; sizes of an area; pixels to bytes and back."""

import numpy as np
import pytest
from PIL import Image

from tavid_jax.pipelines.images import fit_image, read_image, size_of_area, to_bytes, to_pixels


def ramp(height: int, width: int) -> np.ndarray:
    """Red counts columns, green rows; nothing in it is symmetric."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([2 * columns, 3 * rows, rows + columns], -1).astype(np.uint8)


def test_reads_files_arrays_and_pictures(tmp_path):
    image = ramp(9, 7)
    Image.fromarray(image).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), image, Image.fromarray(image)):
        np.testing.assert_array_equal(read_image(source), image)
    grey = Image.fromarray(image[..., 0])
    np.testing.assert_array_equal(read_image(grey), np.repeat(image[..., :1], 3, -1))


def test_refuses_what_is_no_picture(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(ValueError, match=r"broken\.png: cannot be read as an image"):
        read_image(tmp_path / "broken.png")
    with pytest.raises(ValueError, match=r"gone\.png: cannot be read as an image.*No such file"):
        read_image("gone.png")
    with pytest.raises(ValueError, match=r"shape \(4, 5, 3\) and type float32.*uint8"):
        read_image(np.zeros((4, 5, 3), np.float32))
    with pytest.raises(ValueError, match=r"shape \(4, 5\) and type uint8"):
        read_image(np.zeros((4, 5), np.uint8))


def test_photographs_are_turned(tmp_path):
    image, exif = ramp(9, 7), Image.Exif()
    exif[0x0112] = 6  # the camera stood on its right side
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(image, -1))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_refuses_more_than_8_bits(dtype):
    with pytest.raises(ValueError, match="the image has more than 8 bits per pixel"):
        read_image(Image.fromarray(np.ones((4, 5), dtype)))


@pytest.mark.parametrize("kind", ["channel", "palette"])
def test_refuses_transparency(tmp_path, kind):
    image = Image.fromarray(ramp(4, 5)).convert("RGBA" if kind == "channel" else "P")
    image.save(tmp_path / "a.png", **({} if kind == "channel" else {"transparency": 0}))
    with pytest.raises(ValueError, match=r"a\.png has an alpha channel: lay it on a background"):
        read_image(tmp_path / "a.png")


def test_cover_keeps_the_aspect_ratio_and_the_middle():
    wide, tall = ramp(40, 80), ramp(81, 40)
    np.testing.assert_array_equal(fit_image(wide, (40, 40)), wide[:, 20:60])
    np.testing.assert_array_equal(fit_image(tall, (40, 40)), tall[20:60])
    halved = np.asarray(Image.fromarray(wide).resize((40, 20), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(fit_image(wide, (20, 20)), halved[:, 10:30])


@pytest.mark.parametrize("how", ["cover", "stretch"])
@pytest.mark.parametrize("size_hw", [(32, 48), (33, 48), (48, 32), (1, 7), (200, 300)])
def test_the_size_is_as_asked(how, size_hw):
    for height, width in ((33, 50), (50, 33), (1, 1), (47, 31)):
        assert fit_image(ramp(height, width), size_hw, how).shape == (*size_hw, 3)


def test_stretch_resizes_each_axis_and_the_identity_does_nothing():
    image = ramp(40, 80)
    stretched = np.asarray(Image.fromarray(image).resize((30, 50), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(fit_image(image, (50, 30), "stretch"), stretched)
    for how in ("cover", "stretch"):
        np.testing.assert_array_equal(fit_image(image, (40, 80), how), image)


def test_bytes_and_pixels_are_inverse_and_rounded():
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, -1)
    pixels = to_pixels(every)
    assert pixels.dtype == np.float32 and pixels.min() == -1 and pixels.max() == 1
    np.testing.assert_array_equal(to_bytes(pixels), every)
    np.testing.assert_array_equal(to_bytes(pixels + 0.4 / 127.5), every)
    np.testing.assert_array_equal(to_bytes(pixels - 0.4 / 127.5), every)
    outside = np.array([-3.0, 3.0, 1.001], np.float32).reshape(1, 1, 3)
    np.testing.assert_array_equal(to_bytes(outside), [[[0, 255, 255]]])


@pytest.mark.parametrize(
    ("image_hw", "published", "size_hw"),
    [
        ((480, 832), False, (480, 832)),
        ((480, 832), True, (464, 832)),  # sqrt(480 * 832 * (480 / 832)) is 479.99999999999994
        ((832, 480), False, (832, 480)),
        ((832, 480), True, (832, 480)),
        ((1080, 1920), False, (464, 832)),
        ((700, 700), True, (624, 624)),
    ],
)
def test_sizes_of_an_area(image_hw, published, size_hw):
    assert size_of_area(image_hw, 480 * 832, 16, published=published) == size_hw


def test_sizes_of_an_area_never_exceed_it_and_are_never_nothing():
    for image_hw in ((3, 4), (999, 1000), (1, 50)):
        height, width = size_of_area(image_hw, 704 * 1280, 32)
        assert height % 32 == width % 32 == 0 and height * width <= 704 * 1280 * (1 + 1e-6)
    assert size_of_area((1, 5000), 480 * 832, 16)[0] == 16
