"""Learning latents of track fields: reconstruction, smoothness, KL (TrajLoom, sec. 3.2)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tavid_jax.data.clip import Clip
from tavid_jax.diffusion import losses
from tavid_jax.engine.method import Arrays, Method, Params, Ratio, Spec
from tavid_jax.methods.trajloom.dense import dense_terms
from tavid_jax.methods.trajloom.examples import Geometry, example_of, example_spec
from tavid_jax.models.latte import flops as counting
from tavid_jax.models.latte.vae import TrackVAE
from tavid_jax.models.layers.flops import Work
from tavid_jax.tracks.coordinates import normalise


@dataclasses.dataclass(frozen=True)
class VAELosses:
    """Weights of the VAE's objective; defaults are the paper's (eqs. 1-5).

    Attributes:
      beta: weight of the KL divergence (per latent element).
      velocity, neighbour: weights of the two smoothness terms; 0 leaves a term out.
      penalty: form of the two smoothness terms, "huber" | "l1" | "l2" (not published: ours).
      hops: (distance, weight) of neighbours, in cells on the folded path.
      field: "cells" supervises the query pixel of every cell, "dense" every pixel of it.
      sample: decode a posterior sample (True) or its mean, which drops the KL term.
    """

    beta: float = 5e-5
    velocity: float = 0.1
    neighbour: float = 0.2
    penalty: str = "huber"
    hops: tuple[tuple[int, float], ...] = losses.HOPS
    field: str = "cells"
    sample: bool = True

    def __post_init__(self) -> None:
        if self.field not in ("cells", "dense"):
            raise ValueError(f"learn.vae.field {self.field!r} is neither 'cells' nor 'dense'")


class VAEMethod(Method):
    """Trains the track VAE on history and future windows alike."""

    trainable_paths = ("vae/.*",)

    def __init__(self, model: TrackVAE, geometry: Geometry, weights: VAELosses):
        self.model, self.geometry, self.weights = model, geometry, weights
        self.frozen_paths = paths_under("vae", model.frozen_paths)

    def prepare(self, clip: Clip, rng: Any) -> dict[str, Any]:
        del rng
        return example_of(clip, self.geometry)

    def raw_spec(self) -> dict[str, Spec]:
        return example_spec(self.geometry)

    def recall(self, example: dict[str, Any], rng: Any) -> dict[str, Any]:
        """The tracks of an encoded example: what else it holds is for the flow."""
        del rng
        return {name: example[name] for name in ("id", *self.raw_spec())}

    def init(self, rng: jax.Array) -> Params:
        g = self.geometry
        tracks = jnp.zeros((1, g.frames, *g.grid_hw, 2))
        return {"vae": self.model.init(rng, tracks)["params"]}

    def loss(
        self, params: Params, batch: Arrays, rng: jax.Array, step: jax.Array
    ) -> tuple[Ratio, dict[str, Ratio]]:
        """Mean over windows of L_rec + beta KL + velocity L_vel + neighbour L_nei (eq. 5)."""
        del step
        target, mask = self._windows(batch)
        # A window in which nothing is seen teaches nothing: it has no weight.
        weight = (mask.sum(axis=(1, 2, 3)) > 0).astype(jnp.float32)
        apply = {"params": params["vae"]}
        posterior = self.model.apply(apply, target, method="encode")
        latents = posterior.mean
        if self.weights.sample:
            keys = jax.vmap(lambda key: jax.random.split(key, 2))(rng)
            keys = keys.reshape(-1)
            noise = jax.vmap(lambda key: jax.random.normal(key, latents.shape[1:]))(keys)
            latents = latents + posterior.std * noise
        if self.weights.field == "dense":
            found = self._dense(apply, latents, target, mask, weight)
        else:
            found = self._cells(apply, latents, target, mask, weight)
        w, vepe = self.weights, found.pop("vepe_px")
        shares = {"reconstruction": 1.0, "velocity": w.velocity, "neighbour": w.neighbour}
        terms = {name: (shares[name], ratio) for name, ratio in found.items()}
        if w.sample:
            terms["kl"] = (w.beta, losses.gaussian_kl(posterior.mean, posterior.std, weight))
        logs = {name: ratio for name, (_, ratio) in terms.items()}
        return losses.combine(list(terms.values())), logs | {"vepe_px": vepe}

    def _cells(
        self, apply: Params, latents: Array, target: Array, mask: Array, weight: Array
    ) -> dict[str, Ratio]:
        """Terms over the query pixel of every cell."""
        w = self.weights
        predicted = self.model.apply(apply, latents, method="decode")
        terms = {
            "reconstruction": losses.reconstruction(predicted, target, mask, weight),
            "vepe_px": self._pixel_error(predicted, target, mask),
        }
        if w.velocity:
            terms["velocity"] = losses.velocity(predicted, target, mask, weight, w.penalty)
        if w.neighbour:
            terms["neighbour"] = losses.neighbours(
                predicted, target, mask, weight, w.penalty, w.hops
            )
        return terms

    def _dense(
        self, apply: Params, latents: Array, target: Array, mask: Array, weight: Array
    ) -> dict[str, Ratio]:
        """Terms over all pixels, which all have their cell's target."""
        w = self.weights
        tokens = self.model.apply(apply, latents, method="decode_tokens")
        return dense_terms(
            lambda frame: self.model.apply(apply, frame, method="field_of"),
            tokens,
            target,
            mask,
            weight,
            stride=self.geometry.stride,
            penalty=w.penalty,
            velocity=bool(w.velocity),
            hops=w.hops if w.neighbour else (),
        )

    def flops(self, batch_size: int, *, encode: bool = False) -> int:
        """Both halves of every clip, there and back."""
        del encode  # there is no encoder in front
        work, dense = Work(), self.weights.field == "dense"
        counting.vae_encode(work, self.model.config, 2 * batch_size, trained=True)
        counting.vae_decode(work, self.model.config, 2 * batch_size, trained=True, dense=dense)
        return work.flops

    def amounts(self) -> dict[str, int]:
        """Cells of all frames, and frames of tracks."""
        g = self.geometry
        return {"tokens": 2 * g.frames * g.num_tokens, "frames": 2 * g.frames}

    def _windows(self, batch: Arrays) -> tuple[Array, Array]:
        """Both halves of every clip as windows of their own: (2B, T, gh, gw, 2) and a mask.

        The halves of a clip lie side by side, so that every device keeps its own clips.
        """

        def windows(name: str) -> Array:
            halves = [batch[f"history_{name}"], batch[f"future_{name}"]]
            return jnp.stack(halves, axis=1).reshape(-1, *halves[0].shape[1:])

        tracks, mask = windows("tracks"), windows("visibility")
        return normalise(tracks, self.geometry.size_hw), mask.astype(jnp.float32)

    def _pixel_error(
        self,
        predicted: Float[Array, "B T H W 2"],
        target: Float[Array, "B T H W 2"],
        mask: Float[Array, "B T H W"],
    ) -> Ratio:
        height, width = self.geometry.size_hw
        scale = jnp.array([width / 2, height / 2])
        error = jnp.linalg.norm((predicted - target) * scale, axis=-1)
        return jnp.sum(error * mask), jnp.sum(mask)


def paths_under(prefix: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Search patterns of a module's own paths -> full-match patterns of the tree it sits in."""
    full = []
    for pattern in patterns:
        body = pattern.removeprefix("^")
        full.append(f"{prefix}/{body[:-1]}" if body.endswith("$") else f"{prefix}/{body}.*")
    return tuple(full)
