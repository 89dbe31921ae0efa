"""Visibility on the latent grid, and back in frames.

A latent step j stands for the frames 4j .. 4j+3 (the last one for those that are left: T = 4k+1
frames make L = k+1 steps). It is visible if the point is in any of them.
"""

from jaxtyping import Bool, Num, Shaped

from tavid_jax.tracks.coordinates import AnyArray, namespace

BLOCK = 4


def latent_length(frames: int, block: int = BLOCK) -> int:
    """L = (T - 1) / block + 1.

    Raises:
      ValueError: T is not a multiple of block plus 1.
    """
    if frames < 1 or (frames - 1) % block:
        nearest = max(1, (frames - 1) // block * block + 1)
        raise ValueError(
            f"{frames} frames are not {block}k+1: use {nearest} or {nearest + block} frames"
        )
    return (frames - 1) // block + 1


def pool_time(visible: Shaped[AnyArray, "*b T N"], block: int = BLOCK) -> Bool[AnyArray, "*b L N"]:
    """Or over the frames [block * j, min(block * (j + 1), T)) of each latent step.

    Raises:
      ValueError: see `latent_length`.
    """
    xp = namespace(visible)
    length = latent_length(visible.shape[-2], block)
    visible = visible.astype(bool)
    padding = [(0, 0)] * visible.ndim
    padding[-2] = (0, length * block - visible.shape[-2])
    padded = xp.pad(visible, padding)
    return padded.reshape(*visible.shape[:-2], length, block, visible.shape[-1]).any(axis=-2)


def pool_cells(
    visible: Shaped[AnyArray, "*b T gh gw"], block: int = BLOCK
) -> Bool[AnyArray, "*b L N"]:
    """Visibility of cells (stride == patch) -> latent tokens."""
    return pool_time(visible.reshape(*visible.shape[:-2], -1), block)


def pool_dense(
    visible: Shaped[AnyArray, "*b T H W"], patch: int, block: int = BLOCK
) -> Bool[AnyArray, "*b L N"]:
    """Visibility per pixel -> latent tokens: or over each patch x patch square and over time.

    Raises:
      ValueError: a frame that does not divide into patches.
    """
    *_, height, width = visible.shape
    if height % patch or width % patch:
        raise ValueError(f"mask of {height}x{width} does not divide into patches of {patch} px")
    split = visible.astype(bool).reshape(
        *visible.shape[:-2], height // patch, patch, width // patch, patch
    )
    return pool_cells(split.any(axis=(-3, -1)), block)


def expand_time(
    latent: Shaped[AnyArray, "*b L N"], frames: int, block: int = BLOCK
) -> Shaped[AnyArray, "*b T N"]:
    """Frame t reads latent step t // block: repeat and cut to T.

    Raises:
      ValueError: see `latent_length`; or L does not belong to T.
    """
    if latent.shape[-2] != latent_length(frames, block):
        raise ValueError(
            f"{latent.shape[-2]} latent steps do not belong to {frames} frames, which have "
            f"{latent_length(frames, block)}"
        )
    return namespace(latent).repeat(latent, block, axis=-2)[..., :frames, :]


def from_probability(
    probability: Num[AnyArray, "*b L N"], frames: int, threshold: float = 0.5, block: int = BLOCK
) -> Bool[AnyArray, "*b T N"]:
    """Visible iff probability > threshold (strictly, as the official runner), in every frame."""
    return expand_time(probability > threshold, frames, block)
