"""From pictures to what encoders read: the rules of Wan, CLIP, DINO and v2, OWL-ViT, I3D."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SIZE = 224
# Slope of the cubic kernel that PyTorch interpolates with; jax.image.resize has -0.5.
CUBIC = -0.75


def wan_preprocess(
    images: Float[Array, "B H W 3"], size: int = SIZE
) -> Float[Array, "B {size} {size} 3"]:
    """Pictures in [-1, 1] -> input of the tower, as Wan's image-to-video prepares it.

    Squashed to a square whatever the aspect ratio, bicubic and without anti-aliasing, so that a
    large picture is sampled, not averaged; then CLIP's normalisation. Pure, float32.
    """
    x = images.astype(jnp.float32)
    rows, columns = (jnp.asarray(bicubic_weights(n, size)) for n in x.shape[1:3])
    x = jnp.einsum("ih,bhwc->biwc", rows, x, precision="highest")
    x = jnp.einsum("jw,biwc->bijc", columns, x, precision="highest")
    return (x / 2 + 0.5 - jnp.array(MEAN)) / jnp.array(STD)


def clip_preprocess(
    images: UInt8[np.ndarray, "B H W 3"], size: int = SIZE
) -> Float[np.ndarray, "B {size} {size} 3"]:
    """Pictures 0 ... 255 -> input of the tower, as OpenAI prepares it. On the host, float32.

    The shorter side is resized to `size` (bicubic with anti-aliasing, rounded to 8 bits), the
    middle of the longer one is kept, then CLIP's normalisation.
    """
    return np.stack([_clip_image(image, size) for image in images])


def dino_preprocess(
    images: UInt8[np.ndarray, "B H W 3"], size: int = SIZE, patch: int = 16
) -> Float[np.ndarray, "B h w 3"]:
    """Pictures 0 ... 255 -> input of a ViT that takes any aspect ratio. On the host, float32.

    The shorter side is resized to `size` (bicubic with anti-aliasing, rounded to 8 bits), nothing
    is cut off but what is less than a patch at the right and the bottom; ImageNet's normalisation.
    """
    height, width = _short_side(images.shape[1:3], size)
    rows, columns = height // patch * patch, width // patch * patch
    shrunk = [_bicubic(image, (height, width))[:rows, :columns] for image in images]
    return _normalised(np.stack(shrunk), IMAGENET_MEAN, IMAGENET_STD)


def dinov2_preprocess(
    images: UInt8[np.ndarray, "B H W 3"], size: int | None = SIZE, patch: int = 14
) -> Float[np.ndarray, "B h w 3"]:
    """Pictures 0 ... 255 -> input of DINOv2. On the host, float32.

    Squashed to a square whatever the aspect ratio (bicubic with anti-aliasing, rounded to 8 bits);
    with `size` None taken as they are, but for what is less than a patch at the right and the
    bottom. Then ImageNet's normalisation.
    """
    if size is None:
        rows, columns = (side // patch * patch for side in images.shape[1:3])
        resized = images[:, :rows, :columns]
    else:
        resized = np.stack([_bicubic(image, (size, size)) for image in images])
    return _normalised(resized, IMAGENET_MEAN, IMAGENET_STD)


def owlvit_preprocess(
    images: UInt8[np.ndarray, "B H W 3"], size: int = 768
) -> Float[np.ndarray, "B {size} {size} 3"]:
    """Pictures 0 ... 255 -> input of OWL-ViT. On the host, float32.

    Squashed to a square whatever the aspect ratio (bicubic with anti-aliasing, rounded to 8 bits),
    then CLIP's normalisation.
    """
    return _normalised(np.stack([_bicubic(image, (size, size)) for image in images]), MEAN, STD)


def i3d_preprocess(
    frames: UInt8[np.ndarray, "T H W 3"], size: int = SIZE
) -> Float[np.ndarray, "T {size} {size} 3"]:
    """Frames 0 ... 255 -> input of I3D, in [-1, 1]. On the host, float32.

    Squashed to a square whatever the aspect ratio: bilinear at pixel centres and without
    anti-aliasing, as PyTorch interpolates.
    """
    x = frames.astype(np.float32)
    for axis in (1, 2):
        low, high, share = _bilinear(x.shape[axis], size)
        share = share.reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x * np.float32(2 / 255) - 1


def _bilinear(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output: the two inputs beside it, and the share of the second."""
    position = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    position = np.clip(position, 0, n_in - 1)
    low = np.floor(position).astype(int)
    return low, np.minimum(low + 1, n_in - 1), (position - low).astype(np.float32)


def _clip_image(image: UInt8[np.ndarray, "H W 3"], size: int) -> Float[np.ndarray, "S S 3"]:
    height, width = _short_side(image.shape[:2], size)
    top, left = (height - size) // 2, (width - size) // 2
    cropped = _bicubic(image, (height, width))[top : top + size, left : left + size]
    return _normalised(cropped, MEAN, STD)


def _short_side(size_hw: tuple[int, int], size: int) -> tuple[int, int]:
    """The size whose shorter side is `size`, the longer one rounded down."""
    height, width = size_hw
    short = min(height, width)
    return int(size * height / short), int(size * width / short)


def _bicubic(image: UInt8[np.ndarray, "H W 3"], size_hw: tuple[int, int]) -> np.ndarray:
    resized = Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _normalised(pixels: np.ndarray, mean: tuple, std: tuple) -> np.ndarray:
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled - np.array(mean, np.float32)) / np.array(std, np.float32)


def bicubic_weights(n_in: int, n_out: int) -> Float[np.ndarray, "{n_out} {n_in}"]:
    """The matrix that resizes one axis: cubic interpolation at pixel centres, edges repeated.

    Positions are rounded to float32, as PyTorch's are: in a picture of a thousand pixels that
    changes the result more than all other rounding.
    """
    scale = np.float32(n_in) / np.float32(n_out)
    # A fused multiply-add there: exact, then rounded once.
    position = (np.float64(scale) * (np.arange(n_out) + 0.5) - 0.5).astype(np.float32)
    first = np.floor(position)
    offset = (position - first).astype(np.float64)
    weights = np.zeros((n_out, n_in), np.float64)
    for tap in range(-1, 3):
        source = np.clip(first.astype(int) + tap, 0, n_in - 1)
        np.add.at(weights, (np.arange(n_out), source), _cubic(np.abs(offset - tap)))
    return weights.astype(np.float32)


def _cubic(distance: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Keys' cubic convolution kernel with the slope `CUBIC`, for distances up to 2."""
    a, d = CUBIC, distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)
