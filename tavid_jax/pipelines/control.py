"""Condition videos in a batch: latents that steer a video token by token (FlexTraj, sec. 3).

A batch holds "control", the latents (M, F, h, w, C) of M videos on the grid of the video, and for
CogVideoX image-to-video "control_image", the latents (M, h, w, C) of their first frames alone,
which stand in the image's channels as those of the video do.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.engine.method import Spec

CONTROL, CONTROL_IMAGE = CONTROLS = ("control", "control_image")


def control_spec(video: Spec, count: int, has_image: bool) -> dict[str, Spec]:
    """The entries of a batch.

    Args:
      video: the entry of the video.
      count: condition videos, 0 is none.
      has_image: whether first frames stand beside the latents.
    """
    if not count:
        return {}
    spec = {CONTROL: Spec((count, *video.shape), np.float32, (None, *video.axes))}
    if has_image:
        shape, axes = (count, *video.shape[1:]), (None, *video.axes[1:])
        spec[CONTROL_IMAGE] = Spec(shape, np.float32, axes)
    return spec


def with_channels(batch: dict[str, Any], channels: int) -> Float[Array, "B M F h w I"]:
    """Condition latents with all channels that the model's patch projection reads: the first
    frame's latent in latent frame 0 where there is one, zeros elsewhere."""
    control = batch[CONTROL]
    if CONTROL_IMAGE in batch:
        first = batch[CONTROL_IMAGE][:, :, None].astype(control.dtype)
        behind = ((0, 0), (0, 0), (0, control.shape[2] - 1), (0, 0), (0, 0), (0, 0))
        control = jnp.concatenate([control, jnp.pad(first, behind)], axis=-1)
    missing = channels - control.shape[-1]
    return jnp.pad(control, ((0, 0),) * 5 + ((0, missing),)) if missing else control
