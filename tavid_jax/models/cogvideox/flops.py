"""Model FLOPs of the CogVideoX transformers, see layers/flops.py."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.layers.flops import Weights, Work, embed_condition, patches
from tavid_jax.models.layers.streams import CONDITION, TEXT, VIDEO


@dataclasses.dataclass(frozen=True)
class CogVideoXShape:
    """Sizes of one evaluation.

    Attributes:
      batch: videos, each with its text.
      grid: tokens along (frames, rows, columns).
      text_tokens: of a prompt.
      text_live: whether what the text encoder gives has a gradient.
      condition_batch: examples of the condition stream, each for as many videos; 0 without.
      extra: whether the config's extra channels are read.
      added: blocks behind which a trained side network adds something.
    """

    batch: int
    grid: tuple[int, int, int]
    text_tokens: int
    text_live: bool = False
    condition_batch: int = 0
    extra: bool = False
    added: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Of a video."""
        return math.prod(self.grid)

    def rows(self, stream: str) -> int:
        """Tokens of a stream, over the batch."""
        if stream == CONDITION:
            return self.condition_batch * self.tokens
        return self.batch * (self.text_tokens if stream == TEXT else self.tokens)

    def examples(self, stream: str) -> int:
        """Of a stream."""
        return self.condition_batch if stream == CONDITION else self.batch


def predict(work: Work, config: CogVideoXConfig, weights: Weights, shape: CogVideoXShape) -> None:
    """One evaluation and its gradient: what `CogVideoX.predict` computes, condition tokens
    included."""
    c, s, d = config, shape, config.dim
    time = embed_time(work, c, weights, s.batch)
    learned = c.learned_positions and weights.trained("pos_embed")
    text, rows = s.text_live, s.rows(TEXT)
    live = {
        TEXT: weights.project(work, "text_embed", rows, c.text_dim, d, x=text, stream=TEXT)
        or learned,
        VIDEO: patches(work, c, weights, s.rows(VIDEO), extra=s.extra) or learned,
    }
    times = {TEXT: time, VIDEO: time}
    if s.condition_batch:
        live[CONDITION] = embed_condition(work, c, weights, s.rows(CONDITION)) or learned
        times[CONDITION] = embed_time(work, c, weights, s.condition_batch)
    for layer in range(c.num_layers):
        last = layer + 1 == c.num_layers
        live = block(work, c, weights, s, layer, live, times, last=last)
        if layer in s.added:
            live[VIDEO] = True
    moved = weights.project(work, "out_mod", s.batch, c.time_embed_dim, 2 * d, x=time)
    outputs = c.patch_elements * c.out_channels
    weights.project(work, "out_proj", s.rows(VIDEO), d, outputs, x=live[VIDEO] or moved)


def embed_time(work: Work, config: CogVideoXConfig, weights: Weights, rows: int) -> bool:
    """The vector that modulates; whether it is live."""
    e, live = config.time_embed_dim, False
    for name, n_in in (("time_embed", config.dim), ("ofs_embed", config.ofs_dim)):
        if n_in is not None:
            hidden = weights.project(work, f"{name}/fc1", rows, n_in, e, x=False)
            live |= weights.project(work, f"{name}/fc2", rows, e, e, x=hidden)
    return live


def block(
    work: Work,
    config: CogVideoXConfig,
    weights: Weights,
    shape: CogVideoXShape,
    layer: int,
    live: Mapping[str, bool],
    times: Mapping[str, bool],
    *,
    last: bool = False,
) -> dict[str, bool]:
    """One block; which streams are live behind it.

    Video and text are one sequence. The last block needs no more of the text than its part in
    attention, and of condition tokens only keys and values.
    """
    c, s, d = config, shape, config.dim

    def project(path: str, stream: str, rows: int, n_in: int, n_out: int, x: bool) -> bool:
        where = f"blocks/{path}"
        return weights.project(work, where, rows, n_in, n_out, x=x, stream=stream, layer=layer)

    def modulated(which: str, stream: str, x: bool) -> bool:
        n_in = c.time_embed_dim
        return x or project(which, stream, s.examples(stream), n_in, 6 * d, times[stream])

    needed = [name for name in live if name == VIDEO or not last]
    heads, out = {}, dict(live)
    for name, x in live.items():
        moved, rows = modulated("mod1", name, False), s.rows(name)
        names = "kv" if name == CONDITION and last else "qkv"
        heads[name] = {w: project(f"attn/{w}", name, rows, d, d, x or moved) for w in names}
        out[name] |= moved  # through its gate
    joint = [TEXT, VIDEO]
    seen = [*joint, CONDITION] if CONDITION in live else joint
    q = any(heads[name]["q"] for name in joint)
    k, v = (any(heads[name][which] for name in seen) for which in "kv")
    asking = s.text_tokens + s.tokens
    keys = asking + (s.tokens if CONDITION in live else 0)
    mixed = dict.fromkeys(joint, work.attend(asking, keys, d, q=q, k=k, v=v, batch=s.batch))
    if CONDITION in needed:
        n, own = s.tokens, heads[CONDITION]
        mixed[CONDITION] = work.attend(n, n, d, **own, batch=s.condition_batch)
    for name in needed:
        rows = s.rows(name)
        out[name] |= project("attn/o", name, rows, d, d, mixed[name])
        moved = modulated("mod2", name, False)
        hidden = project("mlp/fc1", name, rows, d, c.mlp_ratio * d, out[name] or moved)
        out[name] |= moved | project("mlp/fc2", name, rows, c.mlp_ratio * d, d, hidden)
    return out
