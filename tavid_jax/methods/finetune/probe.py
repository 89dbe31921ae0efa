"""Whether a model reads its text: its error with the right caption and with another scene's.

The loss of a text-to-video model goes down long before the words matter. This gap appears hundreds
of steps before samples look right, and no gap means that the text is not used.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tavid_jax.data.clip import Clip
from tavid_jax.diffusion.paths import per_clip_normal
from tavid_jax.metrics import bootstrap
from tavid_jax.pipelines.backbones import Backbone
from tavid_jax.pipelines.encoding import encode_prompts
from tavid_jax.pipelines.folder import TEXT, TRANSFORMER, VAE
from tavid_jax.pipelines.noising import clean_of, noised
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.recipe import MODE, Recipe

# Shares of noise, from nearly all to half.
SIGMAS = (0.98, 0.9, 0.75, 0.5)
RIGHT, PERMUTED = "right", "permuted"


def text_probe(
    pipeline: Pipeline, clips: Sequence[Clip], batch_size: int, seed: int, resamples: int
) -> dict[str, Any]:
    """Mean squared error of the clean latent, times 1000, by share of noise.

    Args:
      pipeline: the model.
      clips: of the size that it is sampled at, with captions of which at least two differ.
      batch_size: clips at once.
      seed: of the noise, which both captions share.
      resamples: of the intervals.

    Returns:
      "sigma", "right", "permuted" and "difference" (permuted minus right), lists of one length,
      the interval of the difference, and the number of scenes. On variance-preserving schedules
      the step of the same signal-to-noise ratio stands for a sigma.
    """
    backbone = pipeline.backbone(pipeline.published.sampling, pipeline.published.needs_image)
    batch = _encoded(pipeline, backbone, clips, batch_size)
    texts = _texts(pipeline, [clip.caption for clip in clips])
    errors = {name: np.zeros((len(SIGMAS), len(clips))) for name in texts}
    with pipeline.parts[TRANSFORMER].hold(pipeline.mesh) as params:
        for name, text in texts.items():
            for start in range(0, len(clips), batch_size):
                places = np.arange(start, min(start + batch_size, len(clips)))
                some = {key: jnp.asarray(x[places]) for key, x in batch.items()}
                some["text"] = jnp.asarray(text[places], pipeline.parts[TRANSFORMER].dtype)
                keys = _keys(seed, places)
                for row, sigma in enumerate(SIGMAS):
                    found = _errors(backbone, params, some, keys, jnp.float32(sigma))
                    errors[name][row, places] = np.asarray(found)
    return _summary(1000.0 * errors[RIGHT], 1000.0 * errors[PERMUTED], resamples)


def other_captions(captions: Sequence[str]) -> Int[np.ndarray, " C"]:
    """For every caption the place of the next one that differs.

    Raises:
      ValueError: all captions are the same.
    """
    if len(set(captions)) < 2:
        raise ValueError("the text probe needs at least two captions that differ")
    count = len(captions)
    return np.array(
        [
            next(j % count for j in range(i + 1, i + count) if captions[j % count] != captions[i])
            for i in range(count)
        ]
    )


def _encoded(
    pipeline: Pipeline, backbone: Backbone, clips: Sequence[Clip], batch_size: int
) -> dict[str, np.ndarray]:
    """Latents and image conditions."""
    recipe = Recipe(backbone, pipeline.parts[VAE].module, MODE)
    parts = []
    with pipeline.parts[VAE].hold(pipeline.mesh) as params:
        for start in range(0, len(clips), batch_size):
            places = np.arange(start, min(start + batch_size, len(clips)))
            video = np.stack([clips[i].video for i in places])
            parts.append(jax.device_get(jax.jit(recipe)(params, video, _keys(0, places))))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _texts(pipeline: Pipeline, captions: Sequence[str]) -> dict[str, np.ndarray]:
    features = encode_prompts(
        pipeline.parts[TEXT],
        pipeline.tokenizer,
        captions,
        pipeline.parts[TRANSFORMER].config.text_length,
        wan=pipeline.published.family == "wan",
        mesh=pipeline.mesh,
    )
    right = np.stack([features[caption] for caption in captions])
    return {RIGHT: right, PERMUTED: right[other_captions(captions)]}


def _keys(seed: int, places: Int[np.ndarray, " B"]) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.asarray(places))


@functools.partial(jax.jit, static_argnums=0)
def _errors(
    backbone: Backbone, params: Any, batch: dict[str, Array], keys: Array, sigma: Float[Array, ""]
) -> Float[Array, " B"]:
    """Squared error of the clean latent that the prediction implies, the mean over a video."""
    video = batch["video"].astype(jnp.float32)
    noise = per_clip_normal(keys, video.shape[1:])
    state, timesteps = noised(backbone, video, noise, sigma)
    prediction = backbone.predict(params, state, timesteps, batch)
    clean = clean_of(backbone, state, prediction, timesteps)
    rest = slice(backbone.given_frames, None)
    return jnp.square(clean - video)[:, rest].mean((1, 2, 3, 4))


def _summary(
    right: Float[np.ndarray, "S C"], permuted: Float[np.ndarray, "S C"], resamples: int
) -> dict[str, Any]:
    gaps = [
        bootstrap.paired_difference(theirs, ours, num_resamples=resamples)
        for theirs, ours in zip(permuted, right, strict=True)
    ]
    return {
        "sigma": list(SIGMAS),
        RIGHT: right.mean(1).tolist(),
        PERMUTED: permuted.mean(1).tolist(),
        "difference": [gap.mean for gap in gaps],
        "interval": [[gap.low, gap.high] for gap in gaps],
        "scenes": right.shape[1],
    }
