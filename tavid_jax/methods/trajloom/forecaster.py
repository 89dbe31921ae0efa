"""Sampling: from a clip's history to K futures, in phases that are each compiled once.

encode (history to latents) -> precompute (everything that neither time nor noise changes, once
per clip) -> integrate (all solver steps in one call, shared context for all K samples) -> decode.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from tavid_jax.diffusion.solvers import METHODS, integrate
from tavid_jax.engine.method import Params
from tavid_jax.methods.trajloom.flow import draw_source
from tavid_jax.methods.trajloom.latents import latent_visibility, standardise, unstandardise
from tavid_jax.methods.trajloom.settings import Settings
from tavid_jax.methods.trajloom.visibility import history_last
from tavid_jax.models.latte import parts
from tavid_jax.models.latte.context import Context
from tavid_jax.parallel.mesh import BATCH_AXES, make_mesh
from tavid_jax.parallel.sharding import batch_sharding, replicated
from tavid_jax.tracks.coordinates import clip_to_frame, denormalise, in_bounds, normalise
from tavid_jax.tracks.visibility import expand_time


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes:
      solver: "euler" | "heun" | "rk4" | "dopri5" (adaptive, tolerance 1e-5).
      steps: of the fixed-step solvers; the paper's tables use Euler with 10.
      samples: K futures per clip.
      clamp: keep decoded coordinates inside the frame before reading them, as released.
      history_visibility: "given", or "zeros" as in the released inference script.
      threshold: a point is called visible above this probability.
    """

    solver: str = "euler"
    steps: int = 10
    samples: int = 1
    clamp: bool = True
    history_visibility: str = "given"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.solver not in METHODS:
            raise ValueError(f"sampling.solver {self.solver!r} is none of {', '.join(METHODS)}")
        for name in ("steps", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"sampling.{name} is {getattr(self, name)}, must be at least 1")
        if self.history_visibility not in ("given", "zeros"):
            raise ValueError(
                f"sampling.history_visibility {self.history_visibility!r} is neither 'given' nor "
                "'zeros'"
            )


@flax.struct.dataclass
class Forecast:
    """K futures of B clips on the cell grid.

    Attributes:
      tracks: float32 (B, K, T, gh, gw, 2) pixels.
      visible: bool (B, K, T, gh, gw).
      probability: float32 (B, K, T, gh, gw), before the threshold and the frame's border.
    """

    tracks: Float[Array, "B K T gh gw 2"]
    visible: Bool[Array, "B K T gh gw"]
    probability: Float[Array, "B K T gh gw"]


@flax.struct.dataclass
class Prepared:
    """What one clip's history gives: the flow's context, and its last latent."""

    context: Context
    history: Float[Array, "B L N C"]


class Forecaster:
    """Trained weights and the compiled phases around them.

    Args:
      params: {"vae", "flow", "statistics"} and "visibility"; without the last, a point counts as
        visible while it is inside the frame.
      mesh: devices that share a batch; all of them if None.
    """

    def __init__(
        self,
        settings: Settings,
        params: Params,
        sampling: Sampling | None = None,
        mesh: Mesh | None = None,
    ):
        self.settings = settings
        self.sampling = sampling or Sampling()
        self._mesh = mesh or make_mesh()
        self.params = jax.device_put(params, replicated(self._mesh))
        self._compiled: dict[str, Any] = {
            "prepare": self._phase(self._prepare),
            "integrate": self._phase(self._integrate, static_argnames=("solver", "steps")),
            "decode": self._phase(self._decode),
            "reconstruct": self._phase(self._reconstruct),
        }

    def _phase(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """One compiled phase, which walks over its fields in parts where the devices like that."""
        numbers = parts.choose(self._mesh)

        def traced(*args: Any, **kwargs: Any) -> Any:
            with parts.at_once(numbers):
                return function(*args, **kwargs)

        return jax.jit(traced, **options)

    def __call__(
        self,
        batch: dict[str, Any],
        rng: Key[Array, ""],
        samples: int | None = None,
        numbers: Int[Any, " B"] | None = None,
    ) -> Forecast:
        """Forecast the future of every example of a batch.

        Args:
          batch: "history_tracks" (B, T, gh, gw, 2) pixels, "history_visibility" (B, T, gh, gw),
            "video" (B, L, N, Cv) if the flow uses video, "text" (B, E) if it uses text.
          rng: one key; sample k of clip number i draws from a function of (rng, i, k).
          samples: K; None takes the sampling settings'.
          numbers: the clips' numbers; None counts them from 0.
        """
        prepared = self._compiled["prepare"](self.params, self._place(batch))
        latents = self.integrate(prepared, rng, samples, numbers)
        return self._compiled["decode"](self.params, prepared.history, latents)

    def integrate(
        self,
        prepared: Prepared,
        rng: Key[Array, ""],
        samples: int | None = None,
        numbers: Int[Any, " B"] | None = None,
    ) -> Float[Array, "B K L N C"]:
        """Standardised future latents; arguments as in `__call__`."""
        size = prepared.history.shape[0]
        count = self.sampling.samples if samples is None else samples
        if count < 1:
            raise ValueError(f"{count} samples of every clip: at least one is needed")
        numbers = jnp.arange(size) if numbers is None else jnp.asarray(numbers)
        fold = jax.random.fold_in
        keys = jax.vmap(lambda i: jax.vmap(lambda k: fold(fold(rng, i), k))(jnp.arange(count)))(
            numbers
        )
        return self._compiled["integrate"](
            self.params,
            prepared,
            keys,
            solver=self.sampling.solver,
            steps=self.sampling.steps,
        )

    def reconstruct(self, tracks: Float[Any, "B T gh gw 2"]) -> Float[Array, "B T gh gw 2"]:
        """Tracks (pixels) through the VAE and back, from the posterior mean."""
        placed = self._place({"history_tracks": tracks})["history_tracks"]
        return self._compiled["reconstruct"](self.params, placed)

    def _place(self, batch: dict[str, Any]) -> dict[str, Array]:
        """What the models read, split over the devices; a batch that does not split is copied."""
        names = ("history_tracks", "history_visibility", "video", "text")
        given = {name: batch[name] for name in names if name in batch}
        ways = math.prod(self._mesh.shape[axis] for axis in BATCH_AXES)
        even = len(given["history_tracks"]) % ways == 0
        return jax.device_put(given, batch_sharding(self._mesh) if even else replicated(self._mesh))

    # The phases: pure functions of (params, arrays).

    def _prepare(self, params: Params, batch: dict[str, Array]) -> Prepared:
        s = self.settings
        tracks = normalise(batch["history_tracks"], s.geometry.size_hw)
        latents = self._encode_tracks(params, tracks)
        history = standardise(latents, params["statistics"][s.flow_losses.statistics])
        visibility = latent_visibility(batch["history_visibility"], s.geometry)
        if self.sampling.history_visibility == "zeros":
            visibility = jnp.zeros_like(visibility)
        use = s.flow.config
        context = s.flow.apply(
            {"params": params["flow"]},
            history,
            visibility if use.use_hist_vis_cond else None,
            batch.get("video") if use.use_video_cond else None,
            batch.get("text") if use.use_text_cond else None,
            method="context",
        )
        return Prepared(context=context, history=history)

    def _integrate(
        self, params: Params, prepared: Prepared, keys: Key[Array, "B K"], solver: str, steps: int
    ) -> Float[Array, "B K L N C"]:
        s, history = self.settings, prepared.history
        draw = jax.vmap(lambda k: draw_source(k, history, s.flow_losses), in_axes=1, out_axes=1)
        z0 = draw(keys)
        size, samples = z0.shape[:2]

        def evaluate(z: Array, t: Array) -> Array:
            flow = {"params": params["flow"]}
            return s.flow.apply(flow, z, t, prepared.context, method="velocity")

        # The K samples of a clip share its context: they are mapped over, it is not copied.
        def velocity(z: Array, t: Array) -> Array:
            shape = (size, samples)
            each = z.reshape(*shape, *z.shape[1:]), t.reshape(shape)
            return parts.over_samples(evaluate, *each, width=s.flow.config.hidden).reshape(z.shape)

        first = jnp.repeat(history[:, -1], samples, axis=0) if s.flow_losses.fix_first else None
        flat = z0.reshape(size * samples, *z0.shape[2:])
        return integrate(velocity, flat, method=solver, steps=steps, first=first).reshape(z0.shape)

    def _decode(
        self, params: Params, history: Float[Array, "B L N C"], latents: Float[Array, "B K L N C"]
    ) -> Forecast:
        s = self.settings
        size, samples = latents.shape[:2]
        flat = latents.reshape(size * samples, *latents.shape[2:])
        table = params["statistics"][s.flow_losses.statistics]
        tracks = self._decode_tracks(params, unstandardise(flat, table))
        inside = in_bounds(tracks, s.geometry.size_hw)
        probability = jnp.ones(tracks.shape[:-1])
        if "visibility" in params:
            repeated = jnp.repeat(history, samples, axis=0)
            logits = s.visibility.apply(
                {"params": params["visibility"]}, flat, history_last(s.visibility, repeated)
            )
            frames = expand_time(
                jax.nn.sigmoid(logits), s.geometry.frames, s.geometry.temporal_stride
            )
            probability = frames.reshape(tracks.shape[:-1])

        def by_clip(x: Array) -> Array:
            return x.reshape(size, samples, *x.shape[1:])

        return Forecast(
            tracks=by_clip(clip_to_frame(tracks, s.geometry.size_hw)),
            visible=by_clip((probability > self.sampling.threshold) & inside),
            probability=by_clip(probability),
        )

    def _encode_tracks(self, params: Params, tracks: Array) -> Float[Array, "B L N C"]:
        vae = {"params": params["vae"]}

        def encode(tracks: Array) -> Array:
            return self.settings.vae.apply(vae, tracks, method="encode").mean

        return parts.by_example(encode, tracks, self._numbers_of_field())

    def _decode_tracks(self, params: Params, latents: Array) -> Float[Array, "B T gh gw 2"]:
        s, vae = self.settings, {"params": params["vae"]}

        def decode(latents: Array) -> Array:
            return s.vae.apply(vae, latents, method="decode")

        field = parts.by_example(decode, latents, self._numbers_of_field())
        if self.sampling.clamp:
            field = jnp.clip(field, -1.0, 1.0)
        return denormalise(field, s.geometry.size_hw)

    def _reconstruct(self, params: Params, tracks: Array) -> Float[Array, "B T gh gw 2"]:
        tracks = normalise(tracks, self.settings.geometry.size_hw)
        latents = self._encode_tracks(params, tracks)
        return self._decode_tracks(params, latents)

    def _numbers_of_field(self) -> int:
        """Numbers of the widest field that the VAE makes of one clip."""
        g = self.settings.geometry
        return g.frames * g.num_tokens * self.settings.vae.config.hidden
