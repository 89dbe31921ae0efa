"""What a job's tracks steer: condition videos, texts near them, or the latent of the image."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8

from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.following import Guide, guide_of
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.located import LocatedWan
from tavid_jax.pipelines.locating import check_local_options, local_guide
from tavid_jax.pipelines.moving import move_guide
from tavid_jax.pipelines.settings import Published, Sampling


def guide_for(
    job: Job,
    name: str,
    sampling: Sampling,
    backbone: Backbone,
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    published: Published,
    follow: Mapping[str, Any],
) -> Guide | None:
    """What draws the condition videos or trajectories of a job; None makes it the plain model's.

    Args:
      job: which may be guided.
      name: of the video, for what is told.
      sampling: size and length of the video, and how frames are fitted to it.
      backbone: that reads what there is.
      images: of the job, as they were given.
      published: the model.
      follow: fields of `Follow` where the job does not say.

    Raises:
      ValueError: a model that was not trained to follow tracks; see `following.guide_of`,
        `locating.local_guide` and `moving.move_guide`.
    """
    model, videos = published.backbone, backbone.model.config.condition_videos
    located = isinstance(backbone, LocatedWan)
    moves = published.move is not None or job.move is not None
    if not located:
        check_local_options(job, published.sampling, model)
    if job.is_guided and not (videos or located or moves):
        raise ValueError(
            f"{model} follows no tracks: it was not trained to. Give the file of what was "
            "(control=..., --control), such as flextraj_cogvideox.safetensors; of trajectories "
            "with texts laca=..., --laca; or use wan-move-14b-480p"
        )
    if job.move is not None and (videos or located):
        raise ValueError(
            f"move: {model} follows tracks in another way, which it was trained to; leave it out"
        )
    if not job.is_guided:
        if videos or located or moves:
            logging.info("%s: no tracks are given; the plain %s makes it", name, model)
        return None
    if located:
        guide: Guide = local_guide(job, name, sampling, backbone)
    elif videos:
        guide = guide_of(dataclasses.replace(job, follow=job.ways(follow)), sampling, images)
    else:
        guide = move_guide(job, sampling, backbone, images, published.move)
    if guide.is_empty:
        logging.warning("%s: no point is visible in any frame; the plain %s makes it", name, model)
    return guide
