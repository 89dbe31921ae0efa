"""Learning to move points: rectified flow with the clip's frame 0 given."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from tavid_jax.diffusion import losses, paths, times
from tavid_jax.engine.method import Arrays, Params, Phase, Ratio, Spec
from tavid_jax.methods.trajloom.vae import paths_under
from tavid_jax.methods.whn.frames import FrameFeatures
from tavid_jax.methods.whn.latents import OnStates, scale_of
from tavid_jax.methods.whn.space import Space, draw
from tavid_jax.models.layers.flops import Work
from tavid_jax.models.whn import flops as counting
from tavid_jax.models.whn.denoiser import WhnDenoiser


@dataclasses.dataclass(frozen=True)
class FlowLosses:
    """Numbers of the flow's training; defaults as published.

    Attributes:
      times: distribution of flow times, "logit_normal" | "uniform" | "mixture".
      limit: see `VAELosses`.
    """

    times: str = "logit_normal"
    limit: float = 1.5

    def __post_init__(self) -> None:
        if self.times not in times.KINDS:
            raise ValueError(f"learn.flow.times {self.times!r} is none of {tuple(times.KINDS)}")


class FlowMethod(OnStates):
    """Trains the denoiser on states: a compute stage's cache, or encoded inside the step."""

    trainable_paths = ("flow/.*",)

    def __init__(
        self,
        space: Space,
        flow: WhnDenoiser,
        features: FrameFeatures,
        learn: FlowLosses,
        cached: bool,
    ):
        super().__init__(space, features, learn.limit, cached)
        self.flow, self.learn = flow, learn
        self.frozen_paths = paths_under("flow", flow.frozen_paths)

    def init(self, rng: jax.Array) -> Params:
        spec = self.encoded_spec()
        state, frame = (jnp.zeros((1, *spec[name].shape)) for name in ("mean", "frame"))
        encoders_rng, flow_rng = jax.random.split(rng)
        flow = self.flow.init(flow_rng, state, jnp.zeros(1), frame)["params"]
        return {"flow": flow, **self.init_encoders(encoders_rng)}

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """Mean over clips of the squared error of the velocity, frame 0 counted as zero.

        The mean is over all F frames, so that the loss is (F - 1) / F of that of the unknown ones
        (published).
        """
        del step
        scale = scale_of(params, self.space.channels)
        time_keys, noise_keys, state_keys, start_keys = jax.vmap(
            lambda key: jax.random.split(key, 4), out_axes=1
        )(rng)
        z1 = draw(batch, "", state_keys, scale)
        start = draw(batch, "start_", start_keys, scale)
        noise = paths.per_clip_normal(noise_keys, z1.shape[1:])
        t = times.sample_times(time_keys, self.learn.times)
        z_t = paths.interpolate(noise, z1, t).at[:, 0].set(start)
        predicted = self.flow.apply({"params": params["flow"]}, z_t, t, batch["frame"])
        error = jnp.square(predicted - paths.target_velocity(noise, z1)).at[:, 0].set(0.0)
        per_clip = losses.clip_sums(error) / (error.size // len(error))
        ratio = losses.over_clips(per_clip, batch["weight"])
        return ratio, {"flow": ratio}

    def flops(self, batch_size: int, *, encode: bool = False) -> int:
        """One evaluation of every clip."""
        work, frames = Work(), self.space.window.frames
        counting.denoise(work, self.flow.config, batch_size, frames, text=False)
        return work.flops + (self.encoding_flops(batch_size) if encode else 0)

    def amounts(self) -> dict[str, int]:
        """Tokens of all frames, and frames of tracks."""
        frames = self.space.window.frames
        return {"tokens": frames * self.flow.config.num_tokens, "frames": frames}

    def phases(self) -> dict[str, Phase]:
        """One step of the sampler."""
        return {"sample": Phase(self.sample_step, self.init, self.sample_spec(), self.sharding)}

    def sample_spec(self) -> dict[str, Spec]:
        """A picture's features, the clip's state at flow time `time`, the length of the step."""
        spec, number = self.encoded_spec(), Spec((), jnp.float32, ())
        return {"frame": spec["frame"], "state": spec["mean"], "time": number, "length": number}

    def sample_step(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """One Euler step from `time` to `time + length`; frame 0 stays."""
        del rng
        velocity = self.flow.apply(
            {"params": params["flow"]}, batch["state"], batch["time"], batch["frame"]
        )
        length = batch["length"][:, None, None, None, None]
        return {
            "state": batch["state"] + length * velocity.at[:, 0].set(0.0),
            "time": batch["time"] + batch["length"],
        }
