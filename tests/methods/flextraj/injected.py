"""The smallest backbones with a side network, and the method that trains them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.engine.placement import initialise
from tavid_jax.methods.finetune.objectives import FlowMatching, objective_of
from tavid_jax.methods.finetune.pretrained import Pretrained
from tavid_jax.methods.flextraj.controlnet import ControlNet
from tavid_jax.methods.flextraj.controls import Controls
from tavid_jax.methods.flextraj.curriculum import Mixture, Schedule
from tavid_jax.methods.flextraj.injection import inject
from tavid_jax.methods.flextraj.method import Flextraj
from tavid_jax.models.layers.space_to_depth import SpaceToDepth, SpaceToDepthConfig
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.pipelines.backbones import Backbone, Geometry, make_backbone
from tavid_jax.pipelines.follow import Follow
from tavid_jax.weights.lazy import as_lazy
from tests.pipelines import trained

PRESETS = {"wan": "wan2.1-t2v-1.3b", "cogvideox": "cogvideox-5b-i2v"}
STRIDE = SpaceToDepthConfig().stride_hw


def plain(family: str, *, depth: int = 2, videos: int = 2, **changes: Any) -> Backbone:
    """What is injected into; Wan with a clean first frame."""
    sizes = dataclasses.asdict(trained.CONFIGS[family])
    sizes |= {"num_layers": depth, "condition_videos": videos}
    running = dict(stride=STRIDE, predicts="data") | changes
    geometry = Geometry(9, (16, 16))
    return make_backbone(PRESETS[family], geometry, sizes, family == "wan", **running)


def method(backbone: Backbone, controlnet: ControlNet, *, draws: int = 1, base=None) -> Flextraj:
    """Trains from cached examples; `base` are the published model's weights, by path."""
    leaves = {f"backbone/{path}": as_lazy(leaf) for path, leaf in (base or {}).items()}
    return Flextraj(
        Controls(Follow()),
        Schedule((Mixture(),)),
        draws,
        backbone=inject(backbone, controlnet),
        objective=objective_of(backbone, FlowMatching(predicts="data")),
        autoencoder=SpaceToDepth(SpaceToDepthConfig()),
        outside=Pretrained(leaves),
    )


def begun(made: Flextraj) -> Any:
    """Its parameters at the start of a run."""
    mesh = make_mesh(devices=jax.devices()[:1])
    return initialise(made, jax.random.key(0), mesh, {})


def stirred(params: Any, seed: int = 0) -> Any:
    """All parameters of a side network moved a little."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: np.float32(np.asarray(x) + 0.1 * rng.normal(size=x.shape)), params
    )


def inputs(backbone: Backbone, batch: Any) -> tuple[jax.Array, jax.Array]:
    """(noisy latents, timesteps) for a batch of two."""
    return batch["video"] + 0.5, jnp.array([900.0, 250.0])
