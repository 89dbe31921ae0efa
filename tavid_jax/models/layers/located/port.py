"""Location-aware cross-attention as the `cross_attention` port of a backbone."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tavid_jax.models.layers import streams
from tavid_jax.models.layers.attention import attention
from tavid_jax.models.layers.linear import Params, project
from tavid_jax.models.layers.located.attention import Floor, answer, pick, put
from tavid_jax.models.layers.located.keys import HIDDEN, Keys, key_bias, text_keys
from tavid_jax.models.layers.located.pairs import Route, route
from tavid_jax.models.layers.located.params import whole
from tavid_jax.models.layers.located.types import Laca, LocalTexts
from tavid_jax.models.layers.norms import rms_norm
from tavid_jax.models.layers.ports import CrossAttention, at
from tavid_jax.models.layers.streams import TEXT, VIDEO

Grid = tuple[int, int, int]


@flax.struct.dataclass
class Inputs:
    """What all blocks are given.

    Attributes:
      text: embedded local texts (b, N, L, D); None with a cache.
      lengths: their real positions (b, N).
      text_bias: of the prompt's keys, (P,); or None.
      strength: (B,).
      route: of the pairs.
      owner, gauss: of every token, (B, T): 0 or trajectory + 1, and G; "segments" alone.
      base: the published cross-attention, stacked over all blocks; a low-rank form alone.
    """

    text: Any
    lengths: Any
    text_bias: Any
    strength: Any
    route: Route
    owner: Any
    gauss: Any
    base: Any


def cross_attention_port(
    params: Params,
    laca: Laca,
    texts: LocalTexts,
    *,
    grid: Grid,
    heads: int,
    epsilon: float,
    dtype: DTypeLike,
    text_length: int,
    text_bias: Float[Array, " P"] | None = None,
    base: Params | None = None,
    caches: Keys | None = None,
    implementation: str = "auto",
) -> CrossAttention:
    """The port that gives (1 - strength) published + strength LACA; make it under the active mesh.

    A bias of the port `attention_bias` is not seen here.

    Args:
      params: from `init_laca`.
      laca: what it is.
      texts: of the batch, (B, ...); `text` may be of fewer examples, each of which serves as many
        neighbours, and is None with `caches`.
      grid: (F, h, w) of the video tokens. If F divides S, no frame has more than S / F pairs.
      heads, epsilon, dtype: of the published cross-attention.
      text_length: to which the published model pads a text; a local text counts as padded so far.
      text_bias: added to the logits of the prompt's keys, as given to the backbone.
      base: the published blocks' cross-attention, stacked over *all* blocks; a low-rank form
        stands on it.
      caches: from `laca_caches`: no text is read then.
      implementation: of the attention to the prompt, or of "segments".

    Raises:
      ValueError: a low-rank form without `base`; texts and caches both or neither; arrays of
        texts or pairs that do not fit one another.
    """
    _check(laca, texts, base, caches, text_length)
    way = route(texts, grid)
    owner = gauss = None
    if laca.formulation == "segments":
        owner, gauss = _maps(way, grid, texts.token.shape[0])
    # A stack of leaves per replaced block; of the whole stack `base` each block takes its own.
    stack = {"laca": params, "caches": caches}
    if laca.rank is not None:
        stack["place"] = _places(params, laca)
    inputs = Inputs(
        text=texts.text,
        lengths=texts.lengths,
        text_bias=text_bias,
        strength=texts.strength,
        route=way,
        owner=owner,
        gauss=gauss,
        base=base if laca.rank is not None else None,
    )
    apply = Located(laca, heads, epsilon, jnp.dtype(dtype), text_length, implementation)
    return CrossAttention(params=stack, inputs=inputs, apply=apply, layers=laca.layers)


def laca_caches(
    params: Params,
    laca: Laca,
    prompt: Float[Array, "b P D"] | None,
    local: Float[Array, "b N L D"],
    *,
    heads: int,
    epsilon: float,
    dtype: DTypeLike,
    base: Params | None = None,
) -> Keys:
    """Keys and values of all texts in all blocks, for `cross_attention_port(caches=...)`.

    They do not depend on time: a sampling run projects its texts once.

    Args:
      params: from `init_laca`.
      laca: what it is.
      prompt: embedded prompt; not read where `laca.outside` is "skip".
      local: embedded texts of the trajectories, see `LocalTexts.text`.
      heads, epsilon, dtype, base: as in `cross_attention_port`.

    Raises:
      ValueError: a low-rank form without `base`; no prompt where it is read.
    """
    _check_base(laca, base)
    if laca.outside == "prompt" and prompt is None:
        raise ValueError("laca_caches: give the embedded prompt: outside='prompt' reads it")
    stack = {"laca": params}
    if laca.rank is not None:
        stack["place"] = _places(params, laca)

    def one(layer: Mapping[str, Any]) -> Keys:
        weights = _weights(layer, base, laca)
        return text_keys(weights, laca, prompt, local, heads=heads, epsilon=epsilon, dtype=dtype)

    return jax.lax.map(one, stack)


@dataclasses.dataclass(frozen=True)
class Located:
    """`CrossAttention.apply`; equal options are equal programs."""

    laca: Laca
    heads: int
    epsilon: float
    dtype: Any
    text_length: int
    implementation: str

    def __call__(
        self,
        params: Params,
        x: Float[Array, "B T D"],
        context: Mapping[str, Array],
        base: Any,
        inputs: Inputs,
    ) -> Float[Array, "B T D"]:
        if x.shape[0] != inputs.strength.shape[0]:
            raise ValueError(
                f"LocalTexts has pairs of {inputs.strength.shape[0]} examples, the batch has "
                f"{x.shape[0]}: give each its own"
            )
        weights = _weights(params, inputs.base, self.laca)
        keys, bias = self._keys(weights, params["caches"], context, x.shape[0], inputs)
        published = base()
        if self.laca.outside == "skip":
            near, kept = pick(x, inputs.route), pick(published, inputs.route)
            mixed = self._answers(weights, self._queries(weights, near), keys, bias, inputs.route)
            rows = _blend(kept, self._joined(weights, mixed), inputs.strength)
            return put(published, rows, inputs.route)
        q = self._queries(weights, x)
        if self.laca.formulation == "segments":
            mixed = self._segments(weights, q, keys, bias, inputs)
        else:
            mixed = self._attend(q, [(keys.prompt_k, keys.prompt_v)], [inputs.text_bias])
            near = pick(q, inputs.route)
            near = self._answers(weights, near, keys, bias, inputs.route)
            mixed = put(mixed, near, inputs.route)
        return _blend(published, self._joined(weights, mixed), inputs.strength)

    def _keys(
        self,
        weights: Params,
        caches: Keys | None,
        context: Mapping[str, Array],
        batch: int,
        inputs: Inputs,
    ) -> tuple[Keys, Float[Array, "B N L"]]:
        """Keys and values of the whole batch, and the bias of the local ones."""
        keys = caches
        if caches is None:
            if self.laca.outside == "prompt" and TEXT not in context:
                raise ValueError(
                    "location-aware cross-attention reads the prompt, whose tokens are not there "
                    "(kv_in has its keys): give caches from laca_caches"
                )
            keys = text_keys(
                weights,
                self.laca,
                context.get(TEXT),
                inputs.text,
                heads=self.heads,
                epsilon=self.epsilon,
                dtype=self.dtype,
            )
        bias = key_bias(inputs.lengths, keys.k.shape[2], self.text_length, self.laca.mask_pads)
        return jax.tree.map(lambda leaf: _of_batch(leaf, batch), (keys, bias))

    def _queries(self, weights: Params, x: Float[Array, "B T D"]) -> Float[Array, "B T K d"]:
        q = project(weights["q"], x, self.dtype, VIDEO)
        q = rms_norm(q, weights["q_norm"]["scale"], self.epsilon).astype(self.dtype)
        return rearrange(q, "b t (k d) -> b t k d", k=self.heads)

    def _joined(self, weights: Params, mixed: Float[Array, "B T K d"]) -> Float[Array, "B T D"]:
        mixed = checkpoint_name(rearrange(mixed, "b t k d -> b t (k d)"), "attention")
        return project(weights["o"], mixed, self.dtype, VIDEO)

    def _answers(
        self, weights: Params, q: Array, keys: Keys, bias: Array, way: Route
    ) -> Float[Array, "B R K d"]:
        """What the pairs read in the trajectories' texts."""
        floor = self._floor(weights)
        return answer(
            q,
            keys,
            bias,
            floor,
            way,
            gaussian=self.laca.gaussian,
            overlap=self.laca.overlap,
            epsilon=self.epsilon,
        )

    def _floor(self, weights: Params) -> Floor:
        key = weights["k"]["bias"].astype(jnp.float32)
        value = weights["v"]["bias"].astype(self.dtype).astype(jnp.float32)
        apart = (self.heads, -1)
        return Floor(
            key=(key * weights["k_norm"]["scale"]).reshape(apart),
            square=jnp.mean(jnp.square(key)),
            value=value.reshape(apart),
        )

    def _attend(
        self, q: Array, parts: list[tuple[Array, Array]], biases: list[Array | None]
    ) -> Float[Array, "B T K d"]:
        """All tokens attend to texts, whose keys are the same for all devices' tokens."""
        placed = {(0, i): _four(bias) for i, bias in enumerate(biases) if bias is not None}
        (out,) = attention(
            [streams.query(VIDEO, q)],
            [streams.part(TEXT, k, v, None) for k, v in parts],
            implementation=self.implementation,
            biases=placed,
        )
        return out

    def _segments(
        self, weights: Params, q: Array, keys: Keys, bias: Array, inputs: Inputs
    ) -> Float[Array, "B T K d"]:
        """One attention to prompt and texts, where a token sees those of its owner alone."""
        owner = inputs.owner[..., None]
        nobody = jnp.where(owner == 0, 0.0, HIDDEN)
        if inputs.text_bias is not None:
            nobody = nobody + inputs.text_bias
        count, positions = keys.k.shape[1:3]
        theirs = jnp.repeat(1 + jnp.arange(count), positions)
        mine = jnp.where(owner == theirs, rearrange(bias, "b n l -> b 1 (n l)"), HIDDEN)
        k, v = (rearrange(x, "b n l k d -> b (n l) k d") for x in (keys.k, keys.v))
        parts = [(keys.prompt_k, keys.prompt_v), (k, v)]
        out = self._attend(q, parts, [nobody, mine])
        if self.laca.gaussian == "none":
            return out
        g = inputs.gauss[..., None, None]
        out = g * out.astype(jnp.float32) + (1 - g) * self._floor(weights).value
        return out.astype(self.dtype)


def _four(bias: Float[Array, "..."]) -> Float[Array, "B 1 T P"]:
    """A bias (P,) or (B, T, P) as attention takes it."""
    return bias[None, None, None] if bias.ndim == 1 else bias[:, None]


def _of_batch(x: Float[Array, "b *S"], batch: int) -> Float[Array, "B *S"]:
    """Texts of fewer examples, each of which serves as many neighbours."""
    if batch % x.shape[0]:
        raise ValueError(
            f"location-aware cross-attention: texts of {x.shape[0]} examples for a batch of "
            f"{batch}: give one for all, one each, or one for every group of equal size"
        )
    return x if x.shape[0] == batch else jnp.repeat(x, batch // x.shape[0], axis=0)


def _blend(
    published: Float[Array, "B T D"], own: Float[Array, "B T D"], strength: Float[Array, " B"]
) -> Float[Array, "B T D"]:
    """Exactly what is published where both agree, or where the strength is 0."""
    published = published.astype(jnp.float32)
    return published + strength[:, None, None] * (own.astype(jnp.float32) - published)


def _weights(layer: Params, base: Params | None, laca: Laca) -> dict[str, Any]:
    """The weights of one block."""
    own = None if laca.rank is None else at(base, layer["place"])
    return whole(layer["laca"], own, laca)


def _places(params: Params, laca: Laca) -> Array:
    """Which block of the whole stack each replaced one is."""
    if laca.layers is not None:
        return jnp.array(laca.layers, jnp.int32)
    return jnp.arange(params["q_norm"]["scale"].shape[0], dtype=jnp.int32)


def _maps(way: Route, grid: Grid, batch: int) -> tuple[Array, Array]:
    """(0 or trajectory + 1, G) of every token, as the walk pads and places them."""
    tokens = jnp.zeros((batch, math.prod(grid), 1))
    empty = streams.pad(VIDEO, tokens)[..., 0]
    owner = put(empty.astype(jnp.int32), way.owner + 1, way)
    return owner, put(empty + 1, way.gauss, way)


def _check_base(laca: Laca, base: Params | None) -> None:
    if laca.rank is not None and base is None:
        raise ValueError(
            f"location-aware cross-attention of rank {laca.rank} stands on the published one: give "
            "base, its weights in all blocks"
        )


def _check(
    laca: Laca, texts: LocalTexts, base: Params | None, caches: Keys | None, text_length: int
) -> None:
    _check_base(laca, base)
    if (texts.text is None) == (caches is None):
        raise ValueError("location-aware cross-attention: give texts.text, or caches: exactly one")
    pairs, batch = texts.token.shape, texts.token.shape[0]
    for name in ("owner", "gauss", "share"):
        if getattr(texts, name).shape != pairs:
            raise ValueError(
                f"LocalTexts.{name} has shape {getattr(texts, name).shape}, token {pairs}: they "
                "belong to the same pairs (B, S)"
            )
    if texts.strength.shape != (batch,):
        raise ValueError(f"LocalTexts.strength has shape {texts.strength.shape}: give ({batch},)")
    if caches is not None:
        shape = caches.k.shape[1:4]
    else:
        shape = texts.text.shape[:3]
    if shape[:2] != texts.lengths.shape:
        raise ValueError(
            f"local texts are (B, N) = {shape[:2]}, their lengths {texts.lengths.shape}: give one "
            "length for each"
        )
    if shape[2] > text_length:
        raise ValueError(
            f"local texts of {shape[2]} positions: the model reads texts of {text_length}"
        )
