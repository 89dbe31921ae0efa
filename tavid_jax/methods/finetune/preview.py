"""What a model will see: clips, tokens, what the autoencoder keeps, noise. Before any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune import pages
from tavid_jax.methods.finetune.method import CODER, Finetune
from tavid_jax.methods.finetune.words import MASK, TOKENS, Words
from tavid_jax.pipelines.backbones import CogVideoXBackbone
from tavid_jax.viz import media

# Shares of noise at which examples are shown.
SIGMAS = (0.25, 0.5, 0.75, 0.9)


def preview(config: Any, method: Finetune, inputs: Any, report: Any) -> dict[str, Any]:
    """Draws the first clips of every data set; returns how many there are.

    Args:
      config: of the run.
      method: what will be trained, from clips.
      inputs: of the run.
      report: to fill.
    """
    counts: dict[str, Any] = {}
    names = data_sets(config)
    for name in names:
        source = inputs.open(name)
        counts[name] = len(source)
        clips = [source[i] for i in range(min(config.report.scenes, len(source)))]
        report.section(f"Data set {name}", f"{len(source)} clips; the first ones, not chosen.")
        _show_clips(config, method, clips, report)
    if not names:
        report.text("No clips are named: give `--config.train_clips`, or scenes to draw.")
    return {"clips": counts}


def data_sets(config: Any) -> list[str]:
    """Names of the data sets that a config has clips of."""
    names = ["train"] if config.train_clips or config.data.scenes.train else []
    return names + (["test"] if config.data.scenes.test else [])


def _show_clips(config: Any, method: Finetune, clips: Sequence[Clip], report: Any) -> None:
    coder, words = coder_params(method), method.words
    # Published autoencoders take minutes per clip where there is no accelerator.
    decoded = 0 if coder is None else 1 if coder else len(clips)
    for number, clip in enumerate(clips):
        films = {"clip": clip.video}
        if number < decoded:
            films |= {"decoded": _there_and_back(method, coder, clip.video)}
        fps = config.report.fps or clip.fps
        pages.show(report, [films], [_caption(words, clip)], config.report, fps, {})
    report.table(
        "Captions as tokens",
        ["caption", "pieces", "ids", dict(name="tokens", digits=0)],
        [_token_row(words, clip.caption) for clip in clips],
        f"With the end token, of {words.length} places; what is over is cut off.",
    )
    if coder is None:
        report.text(
            "What the autoencoder gives back and how noise looks can be drawn once there is an "
            "autoencoder: name a `--config.checkpoint`."
        )
    else:
        report.text('"decoded" is what the autoencoder gives back of a clip.')
        for clip in clips[:1]:
            film = _noised(config, method, coder, clip)
            words_below = f"Noised, as decoded: {clip.caption}"
            report.media(film.data, words_below, least_width=min(film.width, 1100))


def _caption(words: Words, clip: Clip) -> str:
    count = int(words.read(clip.caption)[MASK].sum())
    return (
        f"{clip.caption or '(no caption)'} — `{clip.id}`, {clip.num_frames} frames, {count} tokens"
    )


def _token_row(words: Words, caption: str) -> list[Any]:
    read = words.read(caption)
    ids = read[TOKENS][read[MASK]]
    pieces = [words.tokenizer.decode([int(i)]) or "▁" for i in ids[:-1]]
    return [
        caption or "(no caption)",
        " · ".join([*pieces, "end"]),
        " ".join(map(str, ids)),
        len(ids),
    ]


def coder_params(method: Finetune) -> dict[str, Any] | None:
    """The autoencoder's parameters; None where a run has none to speak of."""
    shapes = jax.eval_shape(method.phases()["encode"].init, jax.random.key(0))
    if not jax.tree.leaves(shapes):
        return {}
    prefix = f"{CODER}/"
    leaves = {
        k.removeprefix(prefix): v for k, v in method.pretrained().items() if k.startswith(prefix)
    }
    params: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *nodes, last = path.split("/")
        place = params
        for node in nodes:
            place = place.setdefault(node, {})
        place[last] = jnp.asarray(np.asarray(leaf.read(), np.float32))
    return params or None


def _there_and_back(method: Finetune, coder: dict[str, Any], video: pages.Frames) -> pages.Frames:
    return _decoded(method, coder, _encoded(method, coder, video))


def _encoded(method: Finetune, coder: dict[str, Any], video: pages.Frames) -> jax.Array:
    pixels = jnp.asarray(video, jnp.float32)[None] / 127.5 - 1.0
    return jax.jit(method.encode_video)(coder, {"video": pixels}, jax.random.key(0))["video"]


def _decoded(method: Finetune, coder: dict[str, Any], latents: jax.Array) -> pages.Frames:
    pixels = jax.jit(method.decode_video)(coder, {"video": latents}, jax.random.key(0))["video"][0]
    return np.asarray(jnp.clip(jnp.round((pixels + 1.0) * 127.5), 0, 255), np.uint8)


def _noised(config: Any, method: Finetune, coder: dict[str, Any], clip: Clip) -> media.Media:
    """A clip under more and more noise; what the network is to see through."""
    latents = _encoded(method, coder, clip.video)
    noise = jax.random.normal(jax.random.key(config.seed), latents.shape)
    films = {"clip": clip.video}
    for sigma in SIGMAS[1::2] if coder else SIGMAS:
        signal, share = 1.0 - sigma, sigma
        if isinstance(method.backbone, CogVideoXBackbone):  # whose signal keeps its variance
            signal, share = (x / np.hypot(signal, share) for x in (signal, share))
        noisy = jnp.float32(signal) * latents + jnp.float32(share) * noise
        films[f"noise {100 * sigma:.0f} %"] = _decoded(method, coder, noisy)
    strip = pages.side_by_side(films, config.report.height)
    return media.encode_animation(strip, config.report.fps or clip.fps)
