"""WHN's released networks for methods: found in a folder, described, read one weight at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tavid_jax.models.whn.config import WhnConfig
from tavid_jax.pipelines.picture_towers import open_dinov2
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.texts import read_json
from tavid_jax.weights import WeightsError, open_parameters
from tavid_jax.weights.files import SUFFIXES
from tavid_jax.weights.opened import Opened
from tavid_jax.weights.table import nest

DENOISER, VAE, DINO, SCALE = "denoiser", "vae", "dinov2", "scale"
_KINDS = {"whn": DENOISER, "whn_ema": DENOISER, "whn_vae": VAE, "dinov2": DINO}
_SCALE_FILE = "scale.json"
_WANTED = {
    DENOISER: "the denoiser's checkpoint",
    VAE: "the track VAE's",
    DINO: "a folder of facebook/dinov2-small",
    SCALE: f"{_SCALE_FILE}, the list `model.vae.scale` of WHN's config (a number per channel)",
}


@dataclass(frozen=True)
class WhnRelease:
    """What a released WHN consists of.

    Attributes:
      origin: what was given.
      parts: "denoiser", "dinov2", and "vae" unless it runs on tracks themselves.
      where: part -> file or folder.
      scale: that latents are divided by, (C,); None where there is no VAE.
    """

    origin: str
    parts: Mapping[str, Opened]
    where: Mapping[str, str]
    scale: Float[np.ndarray, " C"] | None

    def fingerprints(self) -> dict[str, str]:
        """{part: short hash of its file}."""
        return {name: part.fingerprint() for name, part in self.parts.items()}

    def read(self, part: str) -> dict[str, Any]:
        """The parameters of one part, float32."""
        leaves = self.parts[part].leaves
        return nest(
            {path: jnp.asarray(np.asarray(x.read(), np.float32)) for path, x in leaves.items()}
        )


def open_whn_release(
    source: str | Path | Mapping[str, Any], config: WhnConfig | str | None = None, ema: bool = False
) -> WhnRelease:
    """Find the parts of a released WHN; no weight is read.

    Args:
      source: a folder with the files and folders of the parts, under any names, and scale.json; or
        {"denoiser", "vae", "dinov2": path, "scale": numbers or a path}.
      config: of the denoiser, or its preset; by default its shapes tell.
      ema: read the running average that some files hold, as for Cityscapes.

    Raises:
      WeightsError: parts that are missing (all are named), damaged or there twice.
    """
    found = dict(source) if isinstance(source, Mapping) else _search(Path(source).expanduser())
    unknown = sorted(set(found) - set(_WANTED))
    if unknown:
        raise WeightsError(f"WHN has no part {unknown[0]!r}: there are {', '.join(_WANTED)}")
    origin = str(found.get(DENOISER, source))
    parts = {}
    if DENOISER in found:
        kind = "whn_ema" if ema else "whn"
        parts[DENOISER] = _opened(found[DENOISER], kind, config)
    on_tracks = DENOISER in parts and parts[DENOISER].config.raw
    needed = [name for name in _WANTED if not (on_tracks and name in (VAE, SCALE))]
    missing = [f"{_WANTED[name]}" for name in needed if name not in found]
    if missing:
        raise WeightsError(f"{source}: a WHN needs besides\n  " + "\n  ".join(missing))
    if VAE in needed:
        parts[VAE] = _opened(found[VAE], "whn_vae")
    parts[DINO] = open_dinov2(found[DINO])
    _check(parts)
    scale = None
    if VAE in needed:
        scale = _scale(found[SCALE], parts[VAE].config.latent_channels)
    where = {name: str(found[name]) for name in parts}
    return WhnRelease(origin, parts, where, scale)


def _opened(source: Any, kind: str, config: Any = None) -> Opened:
    return open_parameters(source, kind, config)


def _search(folder: Path) -> dict[str, Any]:
    """{part: path} of what lies in a folder, told by the tensors' names."""
    if not folder.is_dir():
        raise WeightsError(f"{folder} is no folder: give the folder of WHN's parts")
    found: dict[str, Any] = {}
    if (folder / _SCALE_FILE).is_file():
        found[SCALE] = folder / _SCALE_FILE
    for path in sorted(folder.iterdir()):
        if not (path.is_dir() or path.suffix in SUFFIXES):
            continue
        try:
            part = _KINDS.get(open_parameters(path).name)
        except WeightsError as error:
            if path.is_dir():
                continue  # a folder of something else
            raise WeightsError(f"{error} (among the parts of WHN in {folder})") from error
        if part in found:
            raise WeightsError(
                f"{folder} holds two of {_WANTED[part]}: {found[part].name} and {path.name}; give "
                "the paths of the parts instead"
            )
        if part is not None:
            found[part] = path
    return found


def _scale(given: Any, channels: int) -> Float[np.ndarray, " C"]:
    values = given
    if isinstance(given, (str, Path)):
        with reading(given, WeightsError, "JSON"):
            values = read_json(given)
    try:
        scale = np.asarray(values, np.float32)
    except (OverflowError, TypeError, ValueError) as error:
        raise WeightsError(f"scale: {values!r} is no list of numbers") from error
    if scale.shape != (channels,) or not np.all(np.isfinite(scale) & (scale > 0)):
        raise WeightsError(f"scale: {channels} positive numbers are needed, got {values}")
    return scale


def _check(parts: Mapping[str, Opened]) -> None:
    """Parts of one model fit each other."""
    flow, dino = parts[DENOISER].config, parts[DINO].config
    wanted = {f"width of features in {DINO}": (dino.width, flow.frame_dim)}
    if VAE in parts:
        vae = parts[VAE].config
        wanted |= {
            "channels of latents": (vae.latent_channels, flow.channels),
            "rows and columns of latents": (vae.tokens_hw, flow.grid_hw),
            "frames": (vae.num_frames, flow.num_frames),
            "features that the VAE reads": (vae.frame_dim, flow.frame_dim),
        }
    wrong = [f"{name}: {a}, the denoiser has {b}" for name, (a, b) in wanted.items() if a != b]
    if wrong:
        raise WeightsError("these parts are not of one WHN:\n  " + "\n  ".join(wrong))
