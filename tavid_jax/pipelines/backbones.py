"""The published backbones with their conditions: what a batch holds, and one evaluation.

Training and sampling read the same batches, so that what is trained is what is sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.diffusion import vprediction
from tavid_jax.diffusion.prediction import check_predicts, v_of_data, velocity_of_data
from tavid_jax.engine.method import Arrays, Params, Spec
from tavid_jax.models.cogvideox.config import PRESETS as COGVIDEOX
from tavid_jax.models.cogvideox.sharding import SHARDING as COGVIDEOX_SHARDING
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.kv_cache import KVCache
from tavid_jax.models.layers.ports import (
    AttentionBias,
    CrossAttention,
    Ports,
    Prediction,
    Probe,
    Residuals,
)
from tavid_jax.models.layers.streams import CONDITION, IMAGE, TEXT
from tavid_jax.models.wan.config import PRESETS as WAN
from tavid_jax.models.wan.sharding import SHARDING as WAN_SHARDING
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.parallel.sharding import PathTable
from tavid_jax.pipelines.control import CONTROL, CONTROLS, control_spec, with_channels

VIDEO_AXES = ("time", None, None, "embed")
TOKEN_AXES = (None, "embed")
# CLIP tokens of one image in the Wan 2.1 image branch.
IMAGE_TOKENS = 257
# Channels that tell Wan image-to-video which latent frames are given.
MASK_CHANNELS = 4
# Entry of a precomputed batch: keys and values by stream.
CACHES = "caches"
# Entries of a batch with targets: masks as further channels of latent frame 0, and a bias on the
# logits between video queries and text keys, in all blocks.
MASK, BIAS = "mask", "bias"
# A batch, or one that `precompute` returned.
Conditions = dict[str, Any]
# A side network: (latents with all channels, timestep, extra channels), as the transformer reads
# them, -> what it adds to the transformer's tokens.
Side = Callable[[Array, Array, Array | None], Residuals]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Pixel size of the videos.

    Attributes:
      frames: 4k + 1 of them.
      size_hw: height and width.

    Raises:
      ValueError: not two sizes, or none at all.
    """

    frames: int
    size_hw: tuple[int, ...]

    def __post_init__(self):
        if len(self.size_hw) != 2 or min(self.size_hw) < 1:
            raise ValueError(f"size_hw {self.size_hw}: give height and width in pixels")
        if self.frames < 1:
            raise ValueError(f"frames {self.frames} must be at least 1")

    def latent(self, stride_hw: int, patch: tuple[int, int, int]) -> tuple[int, int, int]:
        """Latent size (F, H, W), F padded to whole patches.

        Raises:
          ValueError: a size that the autoencoder's strides or the patch do not divide.
        """
        height, width = self.size_hw
        if (self.frames - 1) % 4:
            raise ValueError(f"frames {self.frames} is not 4k + 1: use {self.frames // 4 * 4 + 1}")
        step_h, step_w = stride_hw * patch[1], stride_hw * patch[2]
        for name, size, step in (("height", height, step_h), ("width", width, step_w)):
            if size % step:
                raise ValueError(
                    f"size_hw: {name} {size} is not a multiple of {step}: "
                    f"use {max(1, round(size / step)) * step}"
                )
        frames = (self.frames - 1) // 4 + 1
        return frames + -frames % patch[0], height // stride_hw, width // stride_hw


@dataclasses.dataclass(frozen=True)
class CogVideoXBackbone:
    """CogVideoX, text-to-video or image-to-video.

    A batch holds "video" latents, "text" features, and for image-to-video "image", the latent of
    the first frame; its channels stand beside the noisy ones in latent frame 0, zeros elsewhere.
    With `config.extra_channels` it holds "mask", these channels of frame 0; with
    `config.condition_videos` what control.py says.

    Attributes:
      model, geometry: the transformer, and the size of its videos.
      stride: pixels per latent position, along height and width.
      predicts: what the network's output is: "velocity", as published, or "data", the clean
        latent, which small models of raw pixels learn far better. Samplers read v either way.
    """

    model: CogVideoX
    geometry: Geometry
    stride: int = 8
    predicts: str = "velocity"
    sharding: PathTable = COGVIDEOX_SHARDING
    given_frames: int = 0  # the image is given in channels

    @property
    def snr_shift(self) -> float:
        """Of the noise schedule: the 2B model, which has no rotary positions, has another."""
        return 1.0 if self.model.config.rotary else 3.0

    @property
    def fixed(self) -> tuple[str, ...]:
        """Paths that stay as published when all weights are trained: the table of positions."""
        return ("pos_embed",) if self.model.config.learned_positions else ()

    @property
    def has_image(self) -> bool:
        """Whether the first frame is given."""
        return self.model.config.in_channels > self.model.config.out_channels

    def spec(self) -> dict[str, Spec]:
        """The encoded batch.

        Raises:
          ValueError: another size than that of the table of positions.
        """
        c = self.model.config
        frames, height, width = self.geometry.latent(self.stride, c.patch_size)
        if c.learned_positions and (height, width) != c.sample_hw:
            rows, columns = (self.stride * size for size in c.sample_hw)
            raise ValueError(
                f"size_hw {self.geometry.size_hw}: this model's table of positions is for "
                f"({rows}, {columns}), use that size"
            )
        spec = {
            "video": Spec((frames, height, width, c.out_channels), np.float32, VIDEO_AXES),
            "text": Spec((c.text_length, c.text_dim), jnp.bfloat16, TOKEN_AXES),
        }
        if self.has_image:
            channels = c.in_channels - c.out_channels
            spec["image"] = Spec((height, width, channels), np.float32, VIDEO_AXES[1:])
        spec |= control_spec(spec["video"], c.condition_videos, self.has_image)
        return spec | _mask_spec(c, height, width)

    @property
    def shares_control(self) -> bool:
        """Whether the keys and values of condition videos serve every prompt."""
        return True

    def precompute(self, params: Params, batch: Arrays) -> Conditions:
        """The batch with all that does not change over sampling steps: keys and values of
        condition videos in their place. Attention of text and video is joint."""
        if CONTROL not in batch:
            return batch
        cache = self.model.apply(
            {"params": params},
            embed_control(self.model, params, batch),
            self.model.config.grid(batch[CONTROL].shape[2:5]),
            method=CogVideoX.condition_cache,
        )
        rest = {name: x for name, x in batch.items() if name not in CONTROLS}
        return rest | {CACHES: {CONDITION: cache}}

    def predict(
        self, params: Params, state: Float[Array, "B F H W C"], timestep: Array, batch: Conditions
    ) -> Float[Array, "B F H W C"]:
        """v of a noisy latent."""
        out = self.output(params, state, timestep, batch)
        if self.predicts == "velocity":
            return out
        return v_of_data(state, out, vprediction.alpha_at(timestep, self.snr_shift))

    def output(
        self, params: Params, state: Float[Array, "B F H W C"], timestep: Array, batch: Conditions
    ) -> Float[Array, "B F H W C"]:
        """What the network says of a noisy latent, see `predicts`."""
        return self.evaluate(params, state, timestep, batch).sample

    def evaluate(
        self,
        params: Params,
        state: Float[Array, "B F H W C"],
        timestep: Array,
        batch: Conditions,
        probe: Probe | None = None,
        side: Side | None = None,
    ) -> Prediction:
        """The network's output with a side network's residuals, and what a probe of its
        attention saw."""
        extra = _mask_channels(batch, state, self.model.config.extra_channels)
        if self.has_image:
            image = _in_first_frame(batch["image"], state)
            state = jnp.concatenate([state, image], axis=-1)
        return self.model.apply(
            {"params": params},
            state,
            timestep,
            batch["text"],
            extra=extra,
            condition=embed_control(self.model, params, batch),
            ports=Ports(
                kv_in=batch.get(CACHES, {}),
                probe=probe,
                attention_bias=_bias(batch, self.model.config.num_layers),
                residuals=None if side is None else side(state, timestep, extra),
            ),
            method=CogVideoX.predict,
        )


@dataclasses.dataclass(frozen=True)
class WanBackbone:
    """Wan, text-to-video or image-to-video by channels.

    A batch holds "video" latents, "text" features, and for the models that read an image
    "condition", the latent of the video that holds the given frames and is grey elsewhere,
    "given" (0 or 1 per latent frame and mask channel), and for Wan 2.1 "clip", the image's tokens.

    Attributes:
      model, geometry: the transformer, and the size of its videos.
      stride: pixels per latent position, along height and width.
      predicts: as in `CogVideoXBackbone`.
      given_frames: how many latent frames at the start stay clean, at timestep 0: Wan 2.2 TI2V
        reads its image so. "video" holds them; they are neither noised nor predicted.
    """

    model: Wan
    geometry: Geometry
    stride: int = 8
    predicts: str = "velocity"
    given_frames: int = 0
    sharding: PathTable = WAN_SHARDING
    fixed: tuple[str, ...] = ()

    def __post_init__(self):
        if self.given_frames and self.has_image:
            raise ValueError(
                "model.first_frame: this model reads its image in further channels; set it to False"
            )

    @property
    def has_image(self) -> bool:
        """Whether frames are given in further channels."""
        return self.model.config.in_channels > self.model.config.out_channels

    def spec(self) -> dict[str, Spec]:
        """The encoded batch."""
        c = self.model.config
        frames, height, width = self.geometry.latent(self.stride, c.patch_size)
        spec = {
            "video": Spec((frames, height, width, c.out_channels), np.float32, VIDEO_AXES),
            "text": Spec((c.text_length, c.text_dim), jnp.bfloat16, TOKEN_AXES),
        }
        if self.has_image:
            channels = c.in_channels - c.out_channels - MASK_CHANNELS
            spec["condition"] = Spec((frames, height, width, channels), np.float32, VIDEO_AXES)
            spec["given"] = Spec((frames, MASK_CHANNELS), np.float32, ("time", None))
        if c.image_dim is not None:
            tokens = c.image_tokens or IMAGE_TOKENS
            spec["clip"] = Spec((tokens, c.image_dim), jnp.bfloat16, TOKEN_AXES)
        spec |= control_spec(spec["video"], c.condition_videos, has_image=False)
        return spec | _mask_spec(c, height, width)

    @property
    def shares_control(self) -> bool:
        """Whether the keys and values of condition videos serve every prompt: here their tokens
        attend to the text."""
        return False

    def precompute(self, params: Params, batch: Arrays) -> Conditions:
        """The batch with keys and values of its text, image and condition videos in place of
        their features.

        They do not depend on the video or the timestep; a walk with one video token gives them,
        or that of the condition's tokens.
        """
        rest = {n: x for n, x in batch.items() if n not in ("text", "clip", CONTROL)}
        return rest | {CACHES: self._caches(params, batch)}

    def _caches(self, params: Params, batch: Arrays) -> Mapping[str, KVCache]:
        c = self.model.config
        if CONTROL in batch:
            return self.model.apply(
                {"params": params},
                embed_control(self.model, params, batch),
                batch["text"],
                c.grid(batch[CONTROL].shape[2:5]),
                batch.get("clip"),
                method=Wan.condition_caches,
            )
        size, kinds = batch["text"].shape[0], (TEXT, IMAGE) if "clip" in batch else (TEXT,)
        walked = self.model.apply(
            {"params": params},
            jnp.zeros((size, *c.patch_size, c.in_channels), jnp.float32),
            jnp.zeros((size,)),
            batch["text"],
            image=batch.get("clip"),
            extra=jnp.zeros((size, *c.patch_size, c.extra_channels)) if c.extra_channels else None,
            ports=Ports(kv_out=kinds),
            method=Wan.predict,
        )
        return walked.caches

    def predict(
        self, params: Params, state: Float[Array, "B F H W C"], timestep: Array, batch: Conditions
    ) -> Float[Array, "B F H W C"]:
        """Velocity of a noisy latent; the batch may be a precomputed one."""
        out = self.output(params, state, timestep, batch)
        if self.predicts == "velocity":
            return out
        return velocity_of_data(state, out, timestep.astype(jnp.float32) / 1000.0)

    def output(
        self, params: Params, state: Float[Array, "B F H W C"], timestep: Array, batch: Conditions
    ) -> Float[Array, "B F H W C"]:
        """What the network says of a noisy latent, see `predicts`; the batch as in `predict`."""
        return self.evaluate(params, state, timestep, batch).sample

    def evaluate(
        self,
        params: Params,
        state: Float[Array, "B F H W C"],
        timestep: Array,
        batch: Conditions,
        probe: Probe | None = None,
        side: Side | None = None,
        cross: CrossAttention | None = None,
    ) -> Prediction:
        """The network's output with a side network's residuals or another cross-attention, and
        what a probe of the published one saw."""
        extra = _mask_channels(batch, state, self.model.config.extra_channels)
        if self.has_image:
            mask = batch["given"][:, :, None, None].astype(state.dtype)
            mask = jnp.broadcast_to(mask, (*state.shape[:-1], MASK_CHANNELS))
            condition = batch["condition"].astype(state.dtype)
            state = jnp.concatenate([state, mask, condition], axis=-1)
        if self.given_frames:
            noisy = jnp.arange(state.shape[1]) >= self.given_frames
            timestep = jnp.where(noisy, timestep[:, None], 0.0)
        return self.model.apply(
            {"params": params},
            state,
            timestep,
            batch.get("text"),
            image=batch.get("clip"),
            extra=extra,
            condition=embed_control(self.model, params, batch),
            ports=Ports(
                kv_in=batch.get(CACHES, {}),
                probe=probe,
                attention_bias=_bias(batch, self.model.config.num_layers),
                cross_attention=cross,
                residuals=None if side is None else side(state, timestep, extra),
            ),
            method=Wan.predict,
        )


def embed_control(
    model: CogVideoX | Wan, params: Params, batch: Conditions
) -> Float[Array, "B N D"] | None:
    """Condition tokens of a batch, None where it holds no condition videos."""
    if CONTROL not in batch:
        return None
    videos = with_channels(batch, model.config.in_channels)
    return model.apply({"params": params}, videos, method=type(model).embed_condition)


def _mask_spec(config: Any, height: int, width: int) -> dict[str, Spec]:
    if not config.extra_channels:
        return {}
    return {MASK: Spec((height, width, config.extra_channels), np.float32, VIDEO_AXES[1:])}


def _in_first_frame(x: Float[Array, "B H W C"], state: Array) -> Float[Array, "B F H W C"]:
    """Channels in latent frame 0, zeros behind it."""
    behind = ((0, 0), (0, state.shape[1] - 1), (0, 0), (0, 0), (0, 0))
    return jnp.pad(x[:, None].astype(state.dtype), behind)


def _mask_channels(batch: Conditions, state: Array, count: int) -> Float[Array, "B F H W K"] | None:
    # Examples may hold masks that this model does not read.
    return _in_first_frame(batch[MASK], state) if count else None


def _bias(batch: Conditions, depth: int) -> AttentionBias | None:
    return AttentionBias(batch[BIAS], jnp.ones((depth,))) if BIAS in batch else None


Backbone = CogVideoXBackbone | WanBackbone


def make_backbone(
    name: str,
    geometry: Geometry,
    changes: dict[str, Any],
    first_frame: bool,
    *,
    stride: int,
    predicts: str = "velocity",
    **running: Any,
) -> Backbone:
    """The backbone of a published name.

    Args:
      name: of a preset, such as "cogvideox-5b-i2v" or "wan2.1-t2v-14b".
      geometry: pixel size of the videos.
      changes: fields of the preset to replace, for small models of the same kind.
      first_frame: whether the first latent frame is given, clean; for Wan 2.2 TI2V.
      stride: pixels per latent position of the autoencoder.
      predicts: see `CogVideoXBackbone.predicts`.
      running: attributes of the module: dtypes, lora, scan, remat, attention.

    Raises:
      ValueError: a name, a field or an option that does not exist for it; sizes that do not fit.
    """
    check_predicts(predicts)
    if name in COGVIDEOX:
        if first_frame:
            raise ValueError(f"model.first_frame is Wan's: {name} has one timestep per video")
        backbone = CogVideoXBackbone(
            CogVideoX(_changed(COGVIDEOX[name], changes), **running), geometry, stride, predicts
        )
    elif name in WAN:
        backbone = WanBackbone(
            Wan(_changed(WAN[name], changes), **running),
            geometry,
            stride=stride,
            predicts=predicts,
            given_frames=int(first_frame),
        )
    else:
        raise ValueError(f"model.backbone {name!r} is none of {', '.join([*COGVIDEOX, *WAN])}")
    frames = backbone.spec()["video"].shape[0]
    if frames <= backbone.given_frames:
        raise ValueError(
            f"model.first_frame: nothing is left to predict of data.frames {geometry.frames}: "
            "use at least 5"
        )
    return backbone


def _changed(config: Any, changes: dict[str, Any]) -> Any:
    fields = [field.name for field in dataclasses.fields(config)]
    unknown = sorted(set(changes) - set(fields))
    if unknown:
        raise ValueError(
            f"model.changes.{unknown[0]} is no field of {type(config).__name__}; "
            f"there are {', '.join(fields)}"
        )
    # Configs that were read from JSON hold lists, which no module can carry.
    changes = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    return dataclasses.replace(config, **changes)
