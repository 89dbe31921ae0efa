"""Videos as token sequences: disjoint patches of (pt, ph, pw) positions, and back."""

import math

from einops import rearrange
from jaxtyping import Array, Shaped

_AXES = ("frames", "height", "width")


def patch_grid(size: tuple[int, int, int], patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Patches along (frames, height, width); ValueError unless each size is a multiple."""
    wrong = [
        f"{name} {extent} is not a multiple of {step}"
        for name, extent, step in zip(_AXES, size, patch, strict=True)
        if extent % step
    ]
    if wrong:
        raise ValueError(f"patches of {'x'.join(map(str, patch))} do not fit: {', '.join(wrong)}")
    return size[0] // patch[0], size[1] // patch[1], size[2] // patch[2]


def patchify(x: Shaped[Array, "B F H W C"], patch: tuple[int, int, int]) -> Shaped[Array, "B N P"]:
    """Tokens in frame-major, row, column order; features in the order (pt, ph, pw, C).

    A dense layer on the result is a convolution whose stride is its kernel size.
    """
    patch_grid(x.shape[1:4], patch)
    pt, ph, pw = patch
    return rearrange(x, "b (f pt) (h ph) (w pw) c -> b (f h w) (pt ph pw c)", pt=pt, ph=ph, pw=pw)


def unpatchify(
    tokens: Shaped[Array, "B N P"], grid: tuple[int, int, int], patch: tuple[int, int, int]
) -> Shaped[Array, "B F H W C"]:
    """The inverse of `patchify`: `grid` counts patches along (frames, height, width)."""
    f, h, w = grid
    pt, ph, pw = patch
    if tokens.shape[1] != f * h * w:
        raise ValueError(f"grid {f}x{h}x{w} holds {f * h * w} tokens, got {tokens.shape[1]}")
    if tokens.shape[2] % math.prod(patch):
        raise ValueError(
            f"token width {tokens.shape[2]} is not a multiple of {math.prod(patch)},"
            f" the positions in a patch of {pt}x{ph}x{pw}"
        )
    return rearrange(
        tokens,
        "b (f h w) (pt ph pw c) -> b (f pt) (h ph) (w pw) c",
        f=f, h=h, w=w, pt=pt, ph=ph, pw=pw,
    )  # fmt: skip
