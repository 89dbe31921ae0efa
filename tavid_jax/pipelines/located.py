"""Wan with a location-aware cross-attention: what a batch holds, and one evaluation.

A batch holds besides, for N trajectories: "local_text", features (N, L, E) of the text encoder,
"local_length", real positions (N,), and the pairs "near_token", "near_owner", "near_gauss",
"near_share" (S,), see `tracks.neighbourhoods.Pairs`; optionally "strength", lambda. A batch
without them is the published model's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tavid_jax.engine.method import Arrays, Params, Spec
from tavid_jax.models.layers.located import Laca, LocalTexts, cross_attention_port, laca_caches
from tavid_jax.models.layers.ports import CrossAttention, Prediction, Probe
from tavid_jax.models.wan.checks import check_located
from tavid_jax.models.wan.sharding import LOCATED_SHARDING
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.parallel.sharding import PathTable
from tavid_jax.pipelines.backbones import TOKEN_AXES, Backbone, Conditions, Side, WanBackbone
from tavid_jax.tracks.neighbourhoods import Grid, Rule, capacity

LOCAL_TEXT, LOCAL_LENGTH, STRENGTH = "local_text", "local_length", "strength"
NEAR = ("near_token", "near_owner", "near_gauss", "near_share")
# Node of the parameters, beside those of the backbone: leaves with a leading axis over the blocks
# that have one: q, k, v, o (kernel, bias), q_norm, k_norm (scale); low-rank: q, k, v, o (a, b).
NODE = "laca"
# Entry of a precomputed batch: keys and values of the prompt and of all local texts.
LOCAL_CACHES = "local_caches"


@dataclasses.dataclass(frozen=True)
class Locate:
    """All that a located backbone is besides its model.

    Attributes:
      laca: of the attention.
      rule: what a neighbourhood is.
      points: trajectories that there is room for, N.
      text_positions: of a local text, L, the last one of which is padding.

    Raises:
      ValueError: room for nothing, or two different rules for overlaps.
    """

    laca: Laca = Laca()
    rule: Rule = Rule()
    points: int = 5
    text_positions: int = 32

    def __post_init__(self):
        if self.points < 1:
            raise ValueError(f"locate: points {self.points}: make room for at least 1 trajectory")
        if self.text_positions < 2:
            raise ValueError(
                f"locate: text_positions {self.text_positions}: a text has at least 2, one of "
                "them padding"
            )
        if self.laca.overlap != self.rule.overlap:
            raise ValueError(
                f"locate: laca.overlap is {self.laca.overlap!r}, rule.overlap "
                f"{self.rule.overlap!r}: give both the same"
            )

    def to_json(self) -> dict[str, Any]:
        """As `of` reads it."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Locate:
        """From nested mappings; lists, as JSON has them, count as tuples.

        Raises:
          ValueError: a field that does not exist, or see the class.
        """
        made = _known(cls, "locate", fields)
        for name, kind in (("laca", Laca), ("rule", Rule)):
            if isinstance(made.get(name), Mapping):
                made[name] = kind(**_known(kind, f"locate.{name}", made[name]))
        return cls(**made)


def _known(kind: type, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"{name} has no field {unknown[0]!r} (there are {', '.join(known)})")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


@dataclasses.dataclass(frozen=True)
class LocatedWan(WanBackbone):
    """Wan whose tokens near a trajectory read the trajectory's text.

    The parameters hold the attention under "laca".

    Attributes:
      laca, rule, points, text_positions: see `Locate`.
    """

    laca: Laca = Laca()
    rule: Rule = Rule()
    points: int = 5
    text_positions: int = 32
    sharding: PathTable = LOCATED_SHARDING

    def __post_init__(self):
        super().__post_init__()
        config = self.model.config
        if self.has_image or config.image_dim is not None:
            raise ValueError(
                "local texts: this model reads an image in channels or a branch of its own; use "
                "one of text, such as wan2.1-t2v-14b or wan2.2-ti2v-5b"
            )
        if config.condition_videos:
            raise ValueError("local texts: this model reads condition videos already")
        if self.text_positions > config.text_length:
            raise ValueError(
                f"text_positions {self.text_positions}: this model's texts have "
                f"{config.text_length}"
            )
        _ = self.where  # which has checks of its own
        check_located(config, self.laca)

    @property
    def where(self) -> Locate:
        """What it is besides its model."""
        return Locate(self.laca, self.rule, self.points, self.text_positions)

    @property
    def grid(self) -> Grid:
        """Tokens along (frames, rows, columns)."""
        config = self.model.config
        return config.grid(self.geometry.latent(self.stride, config.patch_size))

    @property
    def tokens(self) -> int:
        """F h w."""
        return math.prod(self.grid)

    def spec(self) -> dict[str, Spec]:
        """The encoded batch."""
        size, config = tuple(self.geometry.size_hw), self.model.config
        pairs = capacity(self.rule, self.points, self.grid, size, config.patch_size[1])
        text = (self.points, self.text_positions, config.text_dim)
        kinds = (np.int32, np.int32, np.float32, np.float32)
        near = {n: Spec((pairs,), kind, (None,)) for n, kind in zip(NEAR, kinds, strict=True)}
        return super().spec() | {
            LOCAL_TEXT: Spec(text, jnp.bfloat16, (None, *TOKEN_AXES)),
            LOCAL_LENGTH: Spec((self.points,), np.int32, (None,)),
            **near,
        }

    def null_local(self, batch: Arrays) -> Arrays:
        """A batch in which no trajectory is anywhere ("drop"): its texts are read by no token."""
        nothing = dict(zip(NEAR, (self.tokens, 0, 1, 0), strict=True))
        return {**batch, **{n: jnp.full_like(batch[n], value) for n, value in nothing.items()}}

    def empty_local(
        self,
        batch: Arrays,
        features: Float[Array, "*B L E"],
        length: Int[Array, "*B"] | int,
    ) -> Arrays:
        """A batch whose trajectories are where they were, with the text "" ("empty").

        Args:
          batch: encoded.
          features: of the text "", one for all or for each example, (B, 1, L, E).
          length: its real positions, () or (B, 1).
        """
        text, lengths = batch[LOCAL_TEXT], batch[LOCAL_LENGTH]
        return {
            **batch,
            LOCAL_TEXT: jnp.broadcast_to(features, text.shape).astype(text.dtype),
            LOCAL_LENGTH: jnp.broadcast_to(length, lengths.shape).astype(lengths.dtype),
        }

    def precompute(self, params: Params, batch: Arrays) -> Conditions:
        """The batch with keys and values of the prompt, for both attentions, and of all local
        texts in place of their features; see `WanBackbone.precompute`."""
        network, laca = _parted(params)
        if LOCAL_TEXT not in batch:
            return super().precompute(network, batch)
        rest = {name: x for name, x in batch.items() if name != LOCAL_TEXT}
        made = super().precompute(network, rest)
        texts = (self._embed(network, batch[name]) for name in ("text", LOCAL_TEXT))
        kept = laca_caches(laca, self.laca, *texts, **self._reading(network))
        return made | {LOCAL_CACHES: kept}

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
        """The network's output; see `WanBackbone.evaluate`. The batch may be a precomputed one."""
        network, laca = _parted(params)
        if NEAR[0] in batch:
            cross = cross_attention_port(
                laca,
                self.laca,
                self._texts(network, batch),
                grid=self.grid,
                text_length=self.model.config.text_length,
                caches=batch.get(LOCAL_CACHES),
                implementation=self.model.attention,
                **self._reading(network),
            )
        return super().evaluate(network, state, timestep, batch, probe, side, cross)

    def _embed(self, network: Params, text: Float[Array, "*B L E"]) -> Float[Array, "*B L D"]:
        """By the frozen projection of the prompt's features."""
        flat = text.reshape(-1, *text.shape[-2:])
        made = self.model.apply({"params": network}, flat, method=Wan.embed_text)
        return made.reshape(*text.shape[:-1], made.shape[-1])

    def _reading(self, network: Params) -> dict[str, Any]:
        """What the attention shares with the published one."""
        config, low_rank = self.model.config, self.laca.rank is not None
        return dict(
            heads=config.num_heads,
            epsilon=config.epsilon,
            dtype=self.model.dtype,
            base=network["blocks"]["cross"] if low_rank else None,
        )

    def _texts(self, network: Params, batch: Conditions) -> LocalTexts:
        near = (batch[name] for name in NEAR)
        size = batch[NEAR[0]].shape[0]
        strength = batch.get(STRENGTH, jnp.full((size,), self.laca.strength, jnp.float32))
        text = self._embed(network, batch[LOCAL_TEXT]) if LOCAL_TEXT in batch else None
        return LocalTexts(text, batch[LOCAL_LENGTH], *near, strength)


def locate(
    backbone: Backbone,
    laca: Laca | None = None,
    rule: Rule | None = None,
    points: int = 5,
    text_positions: int = 32,
) -> LocatedWan:
    """A backbone whose tokens near a trajectory read the trajectory's text.

    Args:
      backbone: Wan, of text.
      laca, rule, points, text_positions: see `Locate`; None: the defaults there.

    Raises:
      ValueError: CogVideoX, a Wan that reads images or condition videos; see `Locate`.
    """
    if not isinstance(backbone, WanBackbone):
        raise ValueError("local texts: CogVideoX has no cross-attention; use a Wan of text")
    fields = {f.name: getattr(backbone, f.name) for f in dataclasses.fields(WanBackbone)}
    fields["sharding"] = LOCATED_SHARDING
    how = Locate(laca or Laca(), rule or Rule(), points, text_positions)
    return LocatedWan(**fields, **vars(how))


def _parted(params: Params) -> tuple[Params, Params]:
    """(the published model's, those of the attention)."""
    rest = {name: node for name, node in params.items() if name != NODE}
    return rest, params.get(NODE, {})
