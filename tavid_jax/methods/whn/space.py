"""What the flow runs on: latents of a track VAE, or normalised tracks themselves ("raw").

States are (B, F, H, W, C): rows and columns of latents or of points. They are not scaled here.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Key

from tavid_jax.engine.method import Arrays, Params, Spec
from tavid_jax.methods.whn.examples import Window, to_model, to_pixels
from tavid_jax.models.whn.vae import WhnVAE


@dataclasses.dataclass(frozen=True)
class Space:
    """Between tracks in pixels and states.

    Attributes:
      window: sizes of clips.
      vae: the track VAE, None for raw tracks.
    """

    window: Window
    vae: WhnVAE | None

    @property
    def channels(self) -> int:
        """C."""
        return 2 if self.vae is None else self.vae.config.latent_channels

    @property
    def state_hw(self) -> tuple[int, int]:
        """Rows and columns of a frame's state."""
        return self.window.grid_hw if self.vae is None else self.vae.config.tokens_hw

    def spec(self) -> dict[str, Spec]:
        """Shapes of what `encode` returns, without the batch axis."""
        frame = (*self.state_hw, self.channels)
        axes = (None, None, "embed")
        spec = {
            "mean": Spec((self.window.frames, *frame), np.float32, ("time", *axes)),
            "start_mean": Spec(frame, np.float32, axes),
        }
        if self.vae is not None:
            spec |= {
                name.replace("mean", "std"): Spec(one.shape, one.dtype, one.axes)
                for name, one in spec.items()
            }
        return spec

    def init(self, rng: jax.Array, features: Spec) -> Params:
        """Parameters of the VAE, {} without one."""
        if self.vae is None:
            return {}
        tracks = jnp.zeros((1, self.window.frames, *self.window.grid_hw, 2))
        frame = jnp.zeros((1, *features.shape))
        return {"vae": self.vae.init(rng, tracks, frame)["params"]}

    def encode(
        self, params: Params, tracks: Float[Array, "B F gh gw 2"], frame: Float[Array, "B M E"]
    ) -> Arrays:
        """What the tracks are as states, and what the known start alone is.

        Returns "mean" and "std" (B, F, H, W, C), "start_mean" and "start_std" (B, H, W, C): frame
        0 of the grid of points standing still. Raw states have no std.
        """
        still = self.still(tracks.shape[1])
        start = jnp.broadcast_to(still, tracks.shape)
        if self.vae is None:
            size_hw = self.window.size_hw
            return {
                "mean": to_model(tracks, size_hw),
                "start_mean": to_model(start[:, 0], size_hw),
            }
        both = self._posterior(
            params, jnp.concatenate([tracks, start]), jnp.concatenate([frame, frame])
        )
        size = tracks.shape[0]
        encoded = {name: value[:size] for name, value in both.items()}
        return encoded | {f"start_{name}": value[size:, 0] for name, value in both.items()}

    def encode_start(self, params: Params, frame: Float[Array, "B M E"], frames: int) -> Arrays:
        """ "start_mean" and "start_std" of F frames alone, as `encode` returns them."""
        still = jnp.broadcast_to(
            self.still(frames), (frame.shape[0], frames, *self.window.grid_hw, 2)
        )
        if self.vae is None:
            return {"start_mean": to_model(still[:, 0], self.window.size_hw)}
        found = self._posterior(params, still, frame)
        return {f"start_{name}": value[:, 0] for name, value in found.items()}

    def decode(
        self, params: Params, state: Float[Array, "B F H W C"], frame: Float[Array, "B M E"]
    ) -> Float[Array, "B F gh gw 2"]:
        """Tracks in pixels; not clamped, and frame 0 as decoded."""
        if self.vae is not None:
            flat = rearrange(state, "b f h w c -> b f (h w) c")
            state = self.vae.apply({"params": params["vae"]}, flat, frame, method="decode")
        return to_pixels(state, self.window.size_hw)

    def still(self, frames: int) -> Float[Array, "F gh gw 2"]:
        """The grid of points in F frames, pixels."""
        start = self.window.start
        return jnp.broadcast_to(jnp.asarray(start), (frames, *start.shape))

    def _posterior(self, params: Params, tracks: Array, frame: Array) -> Arrays:
        found = self.vae.apply(
            {"params": params["vae"]}, to_model(tracks, self.window.size_hw), frame, method="encode"
        )
        rows, columns = self.state_hw
        return {
            name: rearrange(value, "b f (h w) c -> b f h w c", h=rows, w=columns)
            for name, value in (("mean", found.mean), ("std", found.std))
        }


def draw(
    batch: Arrays, name: str, keys: Key[Array, " B"], scale: Float[Array, " C"]
) -> Float[Array, "B *s C"]:
    """A sample of a posterior of `Space.encode` (published: not its mean), over the scale.

    Args:
      name: "" for the tracks', "start_" for the start's.
      keys: one per clip.
    """
    mean, std = batch[f"{name}mean"], batch.get(f"{name}std")
    if std is not None:
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:], jnp.float32))(keys)
        mean = mean + std * noise
    return mean / scale
