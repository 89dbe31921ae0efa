"""Sampling: one picture and a grid of points in it -> K ways in which they may move."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from tavid_jax.diffusion.paths import per_clip_normal
from tavid_jax.diffusion.solvers import METHODS, integrate
from tavid_jax.engine.method import Params
from tavid_jax.methods.whn.latents import scale_of
from tavid_jax.methods.whn.settings import Settings
from tavid_jax.methods.whn.space import draw
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import replicated

HORIZONS = ("extend", "interp", "native24")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes:
      solver: "euler" | "heun" | "rk4" | "dopri5" (adaptive, tolerance 1e-5).
      times: flow times that a fixed-step solver visits, both ends included: one more than its
        steps. The published sampler is Euler with 10 times: 9 steps.
      samples: K futures of a clip.
      horizon: how a predictor reaches further than the nets were trained for, see predictor.py.
    """

    solver: str = "euler"
    times: int = 10
    samples: int = 1
    horizon: str = "extend"

    def __post_init__(self) -> None:
        if self.solver not in METHODS:
            raise ValueError(f"sampling.solver {self.solver!r} is none of {', '.join(METHODS)}")
        if self.times < 2:
            raise ValueError(f"sampling.times is {self.times}, must be at least 2 (one step)")
        if self.samples < 1:
            raise ValueError(f"sampling.samples is {self.samples}, must be at least 1")
        if self.horizon not in HORIZONS:
            raise ValueError(f"sampling.horizon {self.horizon!r} is none of {', '.join(HORIZONS)}")

    @property
    def steps(self) -> int:
        """Of a fixed-step solver."""
        return self.times - 1

    def facts(self) -> dict[str, Any]:
        """For results."""
        facts = {"solver": self.solver, "horizon": self.horizon}
        if self.solver == "dopri5":
            return facts | {"tolerance": 1e-5}
        return facts | {"steps": self.steps, "times": self.times}


class WhnForecaster:
    """Trained weights and the compiled programs around them.

    Args:
      params: {"flow"}, {"vae", "statistics"} unless it runs on tracks themselves, and the
        parameters of the picture's encoder if it has one.
      mesh: devices; all of them if None, each with all of the weights.
    """

    def __init__(
        self,
        settings: Settings,
        params: Params,
        sampling: Sampling | None = None,
        mesh: Mesh | None = None,
    ):
        self.settings, self.sampling = settings, sampling or Sampling()
        self.params = jax.device_put(params, replicated(mesh or make_mesh()))
        self._look = jax.jit(self._encode_picture)
        self._move = jax.jit(self._integrate, static_argnames=("frames", "solver", "steps"))
        self._pass = jax.jit(self._reconstruct)

    def __call__(
        self, picture: np.ndarray, frames: int, rng: Key[Array, ""], samples: int = 1
    ) -> Float[Array, "K F gh gw 2"]:
        """Where the grid of points is in F frames, pixels of the window's size.

        Frame 0 is the picture and the grid itself. Sample k draws from a function of (rng, k).

        Args:
          picture: (H, W, 3) uint8, of any size; it is squashed to what the features are read of.
          frames: F, any number from 2.
          samples: K.
        """
        keys = jax.vmap(lambda k: jax.random.fold_in(rng, k))(jnp.arange(samples))
        options = dict(frames=frames, solver=self.sampling.solver, steps=self.sampling.steps)
        return self._move(self.params, self.look(picture), keys, **options)

    def look(self, picture: np.ndarray) -> Float[Array, "1 M E"]:
        """Features of a picture."""
        return self._look(self.params, self.settings.features.read(picture)[None])

    def reconstruct(
        self, tracks: Float[Any, "F gh gw 2"], picture: np.ndarray
    ) -> Float[Array, "F gh gw 2"]:
        """Tracks of the grid (pixels, any number of frames) through the VAE and back, from the
        posterior mean.

        Raises:
          ValueError: it runs on tracks themselves.
        """
        if self.settings.space.vae is None:
            raise ValueError("a flow on tracks themselves has no autoencoder")
        return self._pass(self.params, jnp.asarray(tracks)[None], self.look(picture))[0]

    # The phases: pure functions of (params, arrays).

    def _encode_picture(self, params: Params, given: Array) -> Float[Array, "1 M E"]:
        return self.settings.features.encode(params, given)

    def _integrate(
        self,
        params: Params,
        frame: Float[Array, "1 M E"],
        keys: Key[Array, " K"],
        *,
        frames: int,
        solver: str,
        steps: int,
    ) -> Float[Array, "K F gh gw 2"]:
        space, flow = self.settings.space, self.settings.flow
        count, apply = keys.shape[0], {"params": params["flow"]}
        scale = scale_of(params, space.channels)
        found = space.encode_start(params, frame, frames)
        found = {name: jnp.repeat(value, count, axis=0) for name, value in found.items()}
        noise_keys, start_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        start = draw(found, "start_", start_keys, scale)
        noise = per_clip_normal(noise_keys, (frames, *start.shape[1:]))
        # All samples share the context: they are mapped over, it is not copied.
        context = flow.apply(apply, frame, method="context")

        def one(z: Array, t: Array) -> Array:
            return flow.apply(apply, z[None], t[None], context, method="velocity")[0]

        options = dict(method=solver, steps=steps, first=start, t_eps=0.0)
        state = integrate(jax.vmap(one), noise, **options)
        repeated = jnp.repeat(frame, count, axis=0)
        tracks = space.decode(params, state * scale, repeated)
        # What is known is not decoded (published).
        return tracks.at[:, 0].set(space.still(1)[0])

    def _reconstruct(
        self, params: Params, tracks: Float[Array, "1 F gh gw 2"], frame: Float[Array, "1 M E"]
    ) -> Float[Array, "1 F gh gw 2"]:
        space = self.settings.space
        return space.decode(params, space.encode(params, tracks, frame)["mean"], frame)
