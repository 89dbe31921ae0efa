"""Learning to forecast: rectified flow between an anchored source and future latents.

Flow matching with tube noise and visibility weights (TrajLoom, sec. 3.3, eqs. 7-9), and the
on-policy K-step terms added on top of it (eqs. 10-14) when their weight is not zero.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tavid_jax.diffusion import losses, paths, sources, times
from tavid_jax.diffusion.onpolicy import OnPolicyConfig, on_policy, sub_batch
from tavid_jax.engine.method import Arrays, Params, Phase, Ratio, Spec
from tavid_jax.methods.trajloom.examples import Geometry
from tavid_jax.methods.trajloom.features import features_of
from tavid_jax.methods.trajloom.latents import SEGMENTS, OnLatents, standardise
from tavid_jax.models.latte import flops as counting
from tavid_jax.models.latte.flow import TrackFlow
from tavid_jax.models.latte.vae import TrackVAE
from tavid_jax.models.layers.flops import Work


@dataclasses.dataclass(frozen=True)
class FlowLosses:
    """Numbers of the flow's training; defaults as in the released config unless marked.

    Attributes:
      tube_noise: sigma added to the state between source and data.
      times: distribution of flow times, "mixture" | "logit_normal" | "uniform".
      small_prob, small_max: the mixture's share of early times, and how early.
      source: "anchor_first" | "anchor_repeat" | "noise"; source_std: spread about the anchor.
      fix_first: hold the first future latent at the last history latent (overlapping windows).
      invisible_weight: weight of tokens that are not seen, beside 1 for those that are.
      text_dropout: share of clips whose text embedding is zeroed (what replaces it: ours).
      statistics: the table that standardises latents, "all" | "history" | "future".
      on_policy: weight of the on-policy terms; 0 leaves the stage out. The paper calls it small.
      endpoint: weight of the endpoint consistency inside them (ours).
      rollout_share: share of a batch's clips that are rolled out. The paper has 8 of 32 per
        device.
      rollout: numbers of the roll-out (ours; see OnPolicyConfig).
    """

    tube_noise: float = 0.05
    times: str = "mixture"
    small_prob: float = 0.2
    small_max: float = 0.1
    source: str = "anchor_first"
    source_std: float = 0.1
    fix_first: bool = False
    invisible_weight: float = 0.01
    text_dropout: float = 0.1
    statistics: str = "all"
    on_policy: float = 0.0
    endpoint: float = 0.1
    rollout_share: float = 0.5
    rollout: OnPolicyConfig = OnPolicyConfig()

    def __post_init__(self) -> None:
        if self.source not in sources.MODES:
            raise ValueError(f"learn.flow.source {self.source!r} is none of {sources.MODES}")
        if self.times not in times.KINDS:
            raise ValueError(f"learn.flow.times {self.times!r} is none of {tuple(times.KINDS)}")
        if self.statistics not in SEGMENTS:
            raise ValueError(f"learn.flow.statistics {self.statistics!r} is none of {SEGMENTS}")
        if not 0 < self.rollout_share <= 1:
            raise ValueError(f"learn.flow.rollout_share {self.rollout_share} is not in (0, 1]")


class FlowMethod(OnLatents):
    """Trains the flow on latents: a compute stage's cache, or encoded inside the step."""

    trainable_paths = ("flow/.*",)

    def __init__(
        self, vae: TrackVAE, flow: TrackFlow, geometry: Geometry, learn: FlowLosses, cached: bool
    ):
        super().__init__(vae, geometry, features_of(flow.config), cached)
        self.flow, self.learn = flow, learn
        self.frozen_paths = flow.frozen_paths

    def init(self, rng: jax.Array) -> Params:
        encoded = {
            name: jnp.zeros((1, *spec.shape), spec.dtype)
            for name, spec in self.encoded_spec().items()
        }
        vae_rng, flow_rng = jax.random.split(rng)
        inputs = conditions(encoded, encoded["history"], self.flow)
        flow = self.flow.init(flow_rng, encoded["future"], jnp.zeros(1), **inputs)["params"]
        return {"flow": flow, **self.init_encoder(vae_rng)}

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """L_fm, or L_fm + on_policy * (L_roll + endpoint * L_end) (eq. 14)."""
        del step
        learn, apply = self.learn, {"params": params["flow"]}
        table = params["statistics"][learn.statistics]
        history, z1 = standardise(batch["history"], table), standardise(batch["future"], table)
        time_keys, source_keys, tube_keys, text_keys = _split(rng, 4)
        z0 = draw_source(source_keys, history, learn)
        given = conditions(batch, history, self.flow)
        if given["text"] is not None:
            given["text"] = drop_text(text_keys, given["text"], learn.text_dropout)
        weights = losses.token_weights(batch["future_visibility"], learn.invisible_weight)

        t = times.sample_times(time_keys, learn.times, **self._time_options())
        z_t = paths.interpolate(z0, z1, t, tube_keys, learn.tube_noise)
        predicted = self.flow.apply(apply, z_t, t, **given)
        target = paths.target_velocity(z0, z1)
        terms = {"flow": (1.0, losses.flow_matching(predicted, target, weights))}
        if learn.on_policy:
            terms |= self._on_policy(apply, z0, z1, given, weights)
        logs = {name: ratio for name, (_, ratio) in terms.items()}
        return losses.combine(list(terms.values())), logs

    def flops(self, batch_size: int, *, encode: bool = False) -> int:
        """One evaluation of every clip, and a roll-out of some."""
        work, learn, config = Work(), self.learn, self.flow.config
        text = config.use_text_cond and "text" in self.encoded_spec()
        counting.flow_evaluate(work, config, batch_size, text=text)
        if learn.on_policy:
            count, steps = self._rolled_out(batch_size), learn.rollout.steps
            counting.flow_rollout(work, config, count, steps, text=text)
        return work.flops + (self.encoding_flops(batch_size) if encode else 0)

    def phases(self) -> dict[str, Phase]:
        """One step of the sampler."""
        return {"sample": Phase(self.sample_step, self.init, self.sample_spec(), self.sharding)}

    def sample_spec(self) -> dict[str, Spec]:
        """A clip's conditions, its state at flow time `time`, and the length of the step."""
        encoded, number = self.encoded_spec(), Spec((), np.float32, ())
        given = {name: x for name, x in encoded.items() if not name.startswith("future")}
        return {**given, "state": encoded["future"], "time": number, "length": number}

    def sample_step(self, params: Params, batch: Arrays, rng: jax.Array) -> Arrays:
        """One Euler step from `time` to `time + length`.

        The context is computed in it: the sampler keeps it over its steps, for as much memory.
        """
        del rng
        history = standardise(batch["history"], params["statistics"][self.learn.statistics])
        given = conditions(batch, history, self.flow)
        apply = {"params": params["flow"]}
        velocity = self.flow.apply(apply, batch["state"], batch["time"], **given)
        length = batch["length"][:, None, None, None]
        return {
            "state": batch["state"] + length * velocity,
            "time": batch["time"] + batch["length"],
        }

    def _on_policy(self, apply, z0, z1, given, weights) -> dict[str, tuple[float, Ratio]]:
        learn = self.learn
        count = self._rolled_out(z0.shape[0])
        z0, z1, given, weights = sub_batch((z0, z1, given, weights), count)
        # One context for all K states: it depends on neither time nor state.
        context = self.flow.apply(apply, **given, method="context")

        def velocity(z: Array, t: Array) -> Array:
            return self.flow.apply(apply, z, t, context, method="velocity")

        terms = on_policy(velocity, z0, z1, weights, learn.rollout)
        return {
            "rollout": (learn.on_policy, terms.rollout),
            "endpoint": (learn.on_policy * learn.endpoint, terms.endpoint),
        }

    def _rolled_out(self, clips: int) -> int:
        """How many of a batch."""
        return max(1, round(self.learn.rollout_share * clips))

    def _time_options(self) -> dict[str, float]:
        if self.learn.times != "mixture":
            return {}
        return {"small_prob": self.learn.small_prob, "small_max": self.learn.small_max}


def conditions(
    batch: Arrays, history: Float[Array, "B L N C"], flow: TrackFlow
) -> dict[str, Array | None]:
    """The flow's inputs beside state and time; None where unused or not given."""
    use = flow.config
    return {
        "history": history,
        "history_visibility": batch["history_visibility"] if use.use_hist_vis_cond else None,
        "video": batch.get("video") if use.use_video_cond else None,
        "text": batch.get("text") if use.use_text_cond else None,
    }


def draw_source(
    keys: Key[Array, " B"], history: Float[Array, "B L N C"], learn: FlowLosses
) -> Float[Array, "B L N C"]:
    """The source state of a clip, anchored to its last history latent (eq. 7)."""
    return sources.draw_source(
        keys,
        history[:, -1],
        history.shape[1],
        mode=learn.source,
        std=learn.source_std,
        fix_first=learn.fix_first,
    )


def drop_text(
    keys: Key[Array, " B"], text: Float[Array, "B E"], probability: float
) -> Float[Array, "B E"]:
    """Zero the text embedding of a share of the clips."""
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - probability))(keys)
    return text * kept[:, None]


def _split(rng: Key[Array, " B"], count: int) -> Key[Array, "M B"]:
    return jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(rng)
