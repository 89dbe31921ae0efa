"""Model FLOPs in closed form: what a step has to compute, however it is compiled.

Two per multiply-add of products and convolutions, once forward and once for every operand whose
gradient is needed: x @ w costs f = 2 rows in out forward, f more where x depends on anything that
is trained and f more where w is trained. So a frozen layer behind a trained one costs 2 f, a
trained layer 3 f, and what nothing trained stands before costs f alone. What remat computes again
is not counted, nor norms, activations, softmax and rotary turns, which are no products.

Whether a value depends on what is trained is called "live" here and told by a bool, which every
step of a formula hands on. Rows are counted over the whole batch. Models keep their formulas in a
file `flops.py` beside them, as functions of their config and of sizes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from tavid_jax.models.layers.linear import ALL_STREAMS
from tavid_jax.models.layers.lora import STACK, LoraRule
from tavid_jax.models.layers.streams import CONDITION

#: whether a parameter, by its path, is trained
Trained = Callable[[str], bool]


def everything(path: str) -> bool:
    """All is trained."""
    return bool(path)


def nothing(path: str) -> bool:
    """All is frozen."""
    return not path


class Work:
    """Adds up FLOPs."""

    def __init__(self) -> None:
        self.flops = 0

    def product(self, rows: int, n_in: int, n_out: int, *, x: bool, w: bool) -> bool:
        """(rows, n_in) @ (n_in, n_out), operands live or not; whether the result is."""
        self.flops += 2 * rows * n_in * n_out * (1 + x + w)
        return x or w

    def attend(
        self, queries: int, keys: int, width: int, *, q: bool, k: bool, v: bool, batch: int = 1
    ) -> bool:
        """softmax(q k^T) v of `batch` examples, all heads together `width` wide."""
        scores = self.product(batch * queries, width, keys, x=q, w=k)
        return self.product(batch * queries, keys, width, x=scores, w=v)

    def mlp(self, rows: int, n_in: int, hidden: int, n_out: int, *, x: bool, w: bool) -> bool:
        """Two products."""
        x = self.product(rows, n_in, hidden, x=x, w=w)
        return self.product(rows, hidden, n_out, x=x, w=w)


@dataclasses.dataclass(frozen=True)
class Weights:
    """Which parameters of a backbone are trained, and the low-rank terms beside them.

    Attributes:
      trained: of its own parameters, by path as in its tree ("blocks/attn/q/kernel").
      rules: of its adapters, which are trained.
      depth: of its stack.
    """

    trained: Trained = everything
    rules: Sequence[LoraRule] = ()
    depth: int = 0

    def project(
        self,
        work: Work,
        path: str,
        rows: int,
        n_in: int,
        n_out: int,
        *,
        x: bool,
        stream: str = "video",
        layer: int = 0,
    ) -> bool:
        """`linear.project` of one stream's tokens by the projection at `path`."""
        live = work.product(rows, n_in, n_out, x=x, w=self.trained(f"{path}/kernel"))
        live = live or self.trained(f"{path}/bias")
        for rule in self.rules:
            if rule.stream not in (ALL_STREAMS, stream) or not re.fullmatch(rule.path, path):
                continue
            if path.startswith(f"{STACK}/") and layer not in rule.selected(self.depth):
                continue
            down = work.product(rows, n_in, rule.rank, x=x, w=True)
            live = work.product(rows, rule.rank, n_out, x=down, w=True)
        return live


@runtime_checkable
class TokenSizes(Protocol):
    """Of a config of Wan or CogVideoX, what its tokens are made from."""

    dim: int
    in_channels: int
    extra_channels: int
    condition_videos: int

    @property
    def patch_elements(self) -> int: ...


def patches(work: Work, config: TokenSizes, weights: Weights, rows: int, *, extra: bool) -> bool:
    """Video tokens; whether they are live."""
    c = config
    n_in = c.patch_elements * c.in_channels
    live = weights.project(work, "patch_embed", rows, n_in, c.dim, x=False)
    if extra:
        n_in, path = c.patch_elements * c.extra_channels, "patch_embed_extra"
        live |= weights.project(work, path, rows, n_in, c.dim, x=False)
    return live


def embed_condition(work: Work, config: TokenSizes, weights: Weights, rows: int) -> bool:
    """Condition tokens, of one video or of two that are fused; whether they are live."""
    live = patches(work, config, weights, rows, extra=False)
    if config.condition_videos == 2:
        second = patches(work, config, weights, rows, extra=False)
        d = config.dim
        live |= weights.project(work, "fuse", rows, d, d, x=second, stream=CONDITION)
    return live
