"""Model FLOPs of the Wan transformers, see layers/flops.py."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from tavid_jax.models.layers.flops import Weights, Work, embed_condition, patches
from tavid_jax.models.layers.streams import CONDITION, IMAGE, TEXT, VIDEO
from tavid_jax.models.wan.config import WanConfig

# (work, block, whether its tokens are live, published cross-attention -> live) -> live
Cross = Callable[[Work, int, bool, Callable[[], bool]], bool]


@dataclasses.dataclass(frozen=True)
class WanShape:
    """Sizes of one evaluation.

    Attributes:
      batch: videos.
      grid: tokens along (frames, rows, columns).
      groups: timesteps of a video, one or one for each latent frame.
      text_batch, text_tokens: prompts, which may serve several videos each, and their length.
      text_live: whether what the text encoder gives has a gradient.
      image_tokens: of the image branch; 0 without.
      condition_batch: examples of the condition stream; 0 without.
      extra: whether the config's extra channels are read.
      cross: what takes the place of the cross-attention of video tokens; None: as published.
      added: blocks behind which a trained side network adds something.
    """

    batch: int
    grid: tuple[int, int, int]
    text_batch: int
    text_tokens: int
    groups: int = 1
    text_live: bool = False
    image_tokens: int = 0
    condition_batch: int = 0
    extra: bool = False
    cross: Cross | None = None
    added: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Of a video."""
        return math.prod(self.grid)


def predict(work: Work, config: WanConfig, weights: Weights, shape: WanShape) -> None:
    """One evaluation and its gradient: what `Wan.predict` computes, condition tokens included."""
    s = shape
    times = {VIDEO: _time(work, config, weights, s.batch * s.groups)}
    live = {VIDEO: patches(work, config, weights, s.batch * s.tokens, extra=s.extra)}
    rows = {VIDEO: s.batch, CONDITION: s.condition_batch}
    if s.condition_batch:
        live[CONDITION] = embed_condition(work, config, weights, s.condition_batch * s.tokens)
        times[CONDITION] = _time(work, config, weights, s.condition_batch)
    context = embed_context(work, config, weights, s)
    for layer in range(config.num_layers):
        last = layer + 1 == config.num_layers
        live = block(work, config, weights, s, layer, live, times, context, rows, last=last)
        if layer in s.added:
            live[VIDEO] = True
    head_live = live[VIDEO] or times[VIDEO]
    outputs = config.patch_elements * config.out_channels
    weights.project(work, "out_proj", s.batch * s.tokens, config.dim, outputs, x=head_live)


def _time(work: Work, config: WanConfig, weights: Weights, rows: int) -> bool:
    d, live = config.dim, False
    for path, n_in, n_out in (
        ("time_embed/fc1", config.freq_dim, d),
        ("time_embed/fc2", d, d),
        ("time_proj", d, 6 * d),
    ):
        live = weights.project(work, path, rows, n_in, n_out, x=live)
    return live


def embed_context(
    work: Work, config: WanConfig, weights: Weights, shape: WanShape
) -> dict[str, tuple[int, int, bool]]:
    """(examples, tokens of each, live) of the embedded text and image."""
    s = shape
    live = embed_text(work, config, weights, s.text_batch * s.text_tokens, x=s.text_live)
    context = {TEXT: (s.text_batch, s.text_tokens, live)}
    if s.image_tokens:
        rows, e, d = s.text_batch * s.image_tokens, config.image_dim, config.dim
        options = dict(stream=IMAGE)
        live = weights.trained("image_embed/pos_embed")
        live = weights.project(work, "image_embed/fc1", rows, e, e, x=live, **options)
        live = weights.project(work, "image_embed/fc2", rows, e, d, x=live, **options)
        context[IMAGE] = (s.text_batch, s.image_tokens, live)
    return context


def embed_text(work: Work, config: WanConfig, weights: Weights, rows: int, *, x: bool) -> bool:
    """Text tokens; whether they are live."""
    d = config.dim
    x = weights.project(work, "text_embed/fc1", rows, config.text_dim, d, x=x, stream=TEXT)
    return weights.project(work, "text_embed/fc2", rows, d, d, x=x, stream=TEXT)


def block(
    work: Work,
    config: WanConfig,
    weights: Weights,
    shape: WanShape,
    layer: int,
    live: Mapping[str, bool],
    times: Mapping[str, bool],
    context: Mapping[str, tuple[int, int, bool]],
    examples: Mapping[str, int],
    *,
    last: bool = False,
) -> dict[str, bool]:
    """One block; which streams are live behind it.

    Of condition tokens the last block only needs keys and values.
    """
    c, n, d = config, shape.tokens, config.dim
    live = {name: x or times[name] for name, x in live.items()}

    def project(path: str, stream: str, n_in: int, n_out: int, x: bool) -> bool:
        rows = examples[stream] * n
        where = f"blocks/{path}"
        return weights.project(work, where, rows, n_in, n_out, x=x, stream=stream, layer=layer)

    needed = [name for name in live if name == VIDEO or not last]
    keys, out = {}, dict(live)
    for name, x in live.items():
        keys[name] = [project(f"attn/{which}", name, d, d, x) for which in "kv"]
    for name in needed:
        q = project("attn/q", name, d, d, live[name])
        seen = [name, CONDITION] if name == VIDEO and CONDITION in live else [name]
        k, v = (any(keys[other][i] for other in seen) for i in (0, 1))
        mixed = work.attend(n, n * len(seen), d, q=q, k=k, v=v, batch=examples[name])
        out[name] |= project("attn/o", name, d, d, mixed)
    parts = _context_keys(work, c, weights, context, layer)
    for name in needed:

        def base(name: str = name) -> bool:
            q, mixed = project("cross/q", name, d, d, out[name]), False
            for length, k, v in parts:
                mixed |= work.attend(n, length, d, q=q, k=k, v=v, batch=examples[name])
            return project("cross/o", name, d, d, mixed)

        replaced = name == VIDEO and shape.cross is not None
        added = shape.cross(work, layer, out[name], base) if replaced else base()
        out[name] |= added
        hidden = project("mlp/fc1", name, d, c.ffn_dim, out[name])
        out[name] |= project("mlp/fc2", name, c.ffn_dim, d, hidden)
    return out


def _context_keys(
    work: Work,
    config: WanConfig,
    weights: Weights,
    context: Mapping[str, tuple[int, int, bool]],
    layer: int,
) -> list[tuple[int, bool, bool]]:
    """(length, keys live, values live) of text and image in one block."""
    names, d = {TEXT: ("k", "v"), IMAGE: ("image_k", "image_v")}, config.dim
    parts = []
    for name, (examples, length, x) in context.items():
        k, v = (
            weights.project(
                work,
                f"blocks/cross/{which}",
                examples * length,
                d,
                d,
                x=x,
                stream=name,
                layer=layer,
            )
            for which in names[name]
        )
        parts.append((length, k, v))
    return parts
