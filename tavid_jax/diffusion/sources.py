"""Where the path starts: noise, or noise anchored to the last history latent."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tavid_jax.diffusion.paths import per_clip_normal

MODES = ("noise", "anchor_first", "anchor_repeat")


def draw_source(
    keys: Key[Array, " B"],
    history_last: Float[Array, "B N C"],
    length: int,
    mode: str = "anchor_first",
    std: float = 0.1,
    fix_first: bool = False,
) -> Float[Array, "B L N C"]:
    """Source states z0, in standardised latent space and float32.

    Args:
      keys: one per clip.
      history_last: standardised latents of the last history step.
      length: L, latent steps to forecast.
      mode: "noise": N(0, 1). "anchor_first" (TrajLoom's released config): N(0, 1), then step 0 is
        history_last + std * eps. "anchor_repeat" (TrajLoom's equations 7 and 19): every step is.
      std: spread about the anchor, in standardised units.
      fix_first: step 0 is history_last itself, without noise. Only sensible when the forecast's
        first frame is the history's last one.

    Raises:
      ValueError: unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"no source {mode!r}: use one of {', '.join(MODES)}")
    last = history_last.astype(jnp.float32)[:, None]
    full, anchor = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    z0 = per_clip_normal(full, (length, *history_last.shape[1:]))
    if mode == "anchor_repeat":
        z0 = last + std * z0
    elif mode == "anchor_first":
        eps = per_clip_normal(anchor, (1, *history_last.shape[1:]))
        z0 = z0.at[:, :1].set(last + std * eps)
    return z0.at[:, :1].set(last) if fix_first else z0
