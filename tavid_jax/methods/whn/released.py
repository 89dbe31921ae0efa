"""WHN as its authors released it: checkpoints become a predictor of tracks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8

from tavid_jax.methods.whn.examples import Window
from tavid_jax.methods.whn.forecaster import Sampling, WhnForecaster
from tavid_jax.methods.whn.frames import ENCODER, DinoPictures
from tavid_jax.methods.whn.latents import deviation, moments
from tavid_jax.methods.whn.predictor import WhnPredictor
from tavid_jax.methods.whn.settings import Settings
from tavid_jax.methods.whn.space import Space
from tavid_jax.models.whn.config import WhnConfig
from tavid_jax.models.whn.denoiser import WhnDenoiser
from tavid_jax.models.whn.vae import WhnVAE
from tavid_jax.pipelines.whn_release import DENOISER, DINO, VAE, WhnRelease, open_whn_release

# Side of the square that DINOv2 sees of square pictures (Kubric); others are seen as they are.
SEEN = 224
# Size of the pictures of each data set, by rows and columns of tracks. Physics101's and
# Physion's tracks are every second point of a grid of every fourth pixel.
SIZES_HW = {(32, 32): (256, 256), (32, 58): (256, 464), (56, 112): (224, 448), (64, 64): (128, 128)}


def open_whn(
    source: str | Path | Mapping[str, Any],
    *,
    solver: str = "euler",
    steps: int = 10,
    horizon: str = "extend",
    ema: bool = False,
    dtype: Any = "float32",
    config: WhnConfig | str | None = None,
    mesh: Mesh | None = None,
) -> WhnPredictor:
    """Open released checkpoints, to forecast tracks of any clips.

    Args:
      source: see `open_whn_release`.
      solver: see `Sampling`.
      steps: times that a fixed-step solver visits, as WHN's authors count: 10 are 9 steps.
      horizon: how it reaches further than it was trained for, see predictor.py.
      ema: weights of the running average, for files that hold one (Cityscapes).
      dtype: of the blocks' arithmetic.
      config: of the denoiser, or its preset; by default its shapes tell.
      mesh: devices; all of them if None.

    Raises:
      ValueError: what is missing, damaged, or does not fit together; a model that reads text.
    """
    release = open_whn_release(source, config, ema)
    settings = released_settings(release, dtype)
    params: dict[str, Any] = {"flow": release.read(DENOISER), ENCODER: release.read(DINO)}
    if release.scale is not None:
        params |= {"vae": release.read(VAE), "statistics": {"scale": jnp.asarray(release.scale)}}
    forecaster = WhnForecaster(settings, params, Sampling(solver, steps, horizon=horizon), mesh)
    facts = {
        "weights": release.fingerprints(),
        "scale": None if release.scale is None else release.scale.tolist(),
        "dtype": jnp.dtype(dtype).name,
        "ema": ema,
        "release": release.origin,
    }
    return WhnPredictor(forecaster, facts)


def released_settings(release: WhnRelease, dtype: Any = "float32") -> Settings:
    """What the release's shapes decide, as a trained run's settings.

    Raises:
      ValueError: a model that reads text; a grid of tracks that no data set has.
    """
    flow = release.parts[DENOISER].config
    if flow.text_dim:
        raise ValueError("this WHN reads instructions (LIBERO): forecasts of clips have none")
    vae = release.parts[VAE].config if VAE in release.parts else None
    grid_hw = vae.grid_hw if vae else flow.grid_hw
    if grid_hw not in SIZES_HW:
        known = ", ".join(f"{rows}x{columns}" for rows, columns in SIZES_HW)
        raise ValueError(f"WHN on {grid_hw} tracks: the published grids are {known}")
    size_hw = SIZES_HW[grid_hw]
    window = Window(size_hw, size_hw[0] // grid_hw[0], "topleft", flow.num_frames)
    running = dict(dtype=jnp.dtype(dtype))
    seen = SEEN if vae and flow.frame_grid_hw == (16, 16) else 0
    model = release.parts[DINO].config
    features = DinoPictures(size_hw, model, seen, release.where[DINO])
    if np.prod(features.tokens_hw) != flow.frame_tokens:
        raise ValueError(
            f"DINOv2 makes {features.tokens_hw} features of a picture of {size_hw}, this WHN reads "
            f"{flow.frame_tokens}"
        )
    space = Space(window, None if vae is None else WhnVAE(vae, **running))
    return Settings(space, WhnDenoiser(flow, **running), features)


def estimate_scale(
    forecaster: WhnForecaster,
    clips: Iterable[tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "F gh gw 2"]]],
) -> Float[np.ndarray, " C"]:
    """The scale of latents, where the published one is not at hand: their standard deviation.

    Args:
      forecaster: of a release that was opened with any scale, such as ones.
      clips: pairs of a picture and the tracks of its grid of points (pixels of the window's size).

    Raises:
      ValueError: no clip.
    """
    space, total = forecaster.settings.space, None
    encode = jax.jit(space.encode)
    for picture, tracks in clips:
        found = encode(forecaster.params, jnp.asarray(tracks)[None], forecaster.look(picture))
        sums = jax.device_get(moments(found["mean"], found["std"], jnp.ones(1)))
        sums = {name: np.sum(x, axis=0, dtype=np.float64) for name, x in sums.items()}
        total = sums if total is None else {name: total[name] + x for name, x in sums.items()}
    if total is None:
        raise ValueError("the scale of latents is estimated from clips: at least one is needed")
    return deviation(total)
