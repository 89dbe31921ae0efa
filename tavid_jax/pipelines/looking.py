"""What every block's attention sees of the words of a prompt, while a video is made."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.models.layers.ports import Probe
from tavid_jax.pipelines.backbones import Backbone, WanBackbone
from tavid_jax.pipelines.folder import TRANSFORMER, VAE
from tavid_jax.pipelines.images import read_image
from tavid_jax.pipelines.jobs import ImageSource, Job
from tavid_jax.pipelines.maps import measures
from tavid_jax.pipelines.masks import Mask, fit_mask, read_mask
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.settings import Sampling
from tavid_jax.pipelines.targets import TargetReader
from tavid_jax.pipelines.video import Video
from tavid_jax.pipelines.watching import Moment, Watch
from tavid_jax.pipelines.words import word_columns

V2T, T2V, BOTH = DIRECTIONS = ("video_to_text", "text_to_video", "both")
ALL, OWN = AMONG = ("all", "own")
# What is added to a word's name where it is the one that asks.
ASKS = " (asks)"


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
    """What was seen while a video was made.

    Letters: S looks, N blocks, M words, F latent frames, (h, w) the grid of tokens.

    Attributes:
      video: that was made.
      maps: mean over heads of the attention between a token and the pieces of a word, float32.
      words: that the maps are of; of direction "both" those of the second direction come behind,
        each with `ASKS`.
      steps: indices of the steps before which was looked.
      total_steps: how many the sampler takes.
      blocks: numbers of the blocks.
      frames: which latent frames, in patches of time.
      spans: (start, stop) of the video's frames that each of these stands for.
      masks: of each word, on the video's pixels; None where the job gave none for it.
      aims: the same on the grid of tokens.
    """

    video: Video
    maps: Float[np.ndarray, "S N M F h w"]
    words: tuple[str, ...]
    steps: tuple[int, ...]
    total_steps: int
    blocks: tuple[int, ...]
    frames: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    masks: tuple[Mask | None, ...]
    aims: tuple[Float[np.ndarray, "h w"] | None, ...]

    def first(self, word: int) -> Float[np.ndarray, "S N h w"] | None:
        """Maps of a word in the first latent frame; None if that was not looked at."""
        return self.maps[:, :, word, self.frames.index(0)] if 0 in self.frames else None

    def measured(self, word: int) -> dict[str, Float[np.ndarray, "S N"]] | None:
        """See `maps.measures`, of the first latent frame; None without a mask or that frame."""
        aim, maps = self.aims[word], self.first(word)
        return None if aim is None or maps is None else measured(maps, aim)


def measured(
    maps: Float[np.ndarray, "*S h w"], aim: Float[np.ndarray, "h w"]
) -> dict[str, Float[np.ndarray, "*S"]]:
    """`maps.measures` of maps on the grid of tokens."""
    flat = jnp.asarray(maps.reshape(*maps.shape[:-2], -1))
    wanted = jnp.broadcast_to(jnp.asarray(aim.ravel(), jnp.float32), flat.shape)
    return {name: np.asarray(x, np.float64) for name, x in measures(flat, wanted).items()}


def look(
    pipeline: Pipeline,
    job: Job,
    words: Sequence[str],
    *,
    steps: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
    blocks: Sequence[int] | None = None,
    direction: str = V2T,
    among: str = ALL,
) -> Looked:
    """Makes the video of a job, as `Pipeline.run` does, and looks at attention on the way.

    Before some steps the conditional branch is evaluated once more with a probe. An attention
    bias (`Job.modulation`) acts on the video but is not part of the maps.

    Args:
      pipeline: the model.
      job: what to make. A model that reads no masks may be given one: the maps are compared with
        it.
      words: of the prompt. The pieces of a word add up, several mentions are averaged.
      steps: indices from 0; None is those of the release, 1, 25 and 49 of 50, or what comes
        closest: the second, the middle and the last one.
      frames: latent frames, in patches of time, from 0; None is all.
      blocks: numbers from 0; None is all.
      direction: "video_to_text" (video tokens ask, as in the paper's loss), "text_to_video" (the
        words ask), or "both". Wan's text does not ask.
      among: over which keys attention sums to 1: "all", as it is, or "own", those of the text (or,
        if the words ask, of the video) alone, which makes CogVideoX comparable with Wan.

    Raises:
      ValueError: what is wrong with the job; a word that the prompt lacks or that is cut off; a
        step, frame or block that does not exist.
    """
    job, masks = apart(pipeline, job)
    sampling, backbone = pipeline.plan(job)
    check_direction(backbone, direction, among)
    asked = chosen_steps(steps, sampling.steps)
    reader, (count, *grid) = pipeline.reader(backbone), token_grid(backbone)
    kept = _chosen(frames, count, "latent frame")
    numbers = _chosen(blocks, backbone.model.config.num_layers, "block")
    columns = word_columns(reader, job.prompt, words)
    fitted = _fitted(job, masks, sampling, reader.targets.soft)
    of_words = _masks_of_words(reader, fitted, words)

    first, last = min(kept), max(kept)
    probe = probe_of(backbone, columns[None], numbers, (first, last + 1), direction, among)
    seen: dict[int, np.ndarray] = {}

    def see(moment: Moment) -> None:
        maps = np.asarray(moment.evaluate(probe).probe[:, 0])  # (depth, maps, tokens)
        maps = maps.reshape(*maps.shape[:2], last + 1 - first, *grid)
        seen[moment.index] = maps[list(numbers)][:, :, [i - first for i in kept]]

    video = pipeline.watched(job, Watch(asked, see))
    aims = [None if mask is None else reader.aim(mask).reshape(grid) for mask in of_words]
    ways = 2 if direction == BOTH else 1
    spans = pixel_spans(backbone, pipeline.parts[VAE].config.stride_t)
    return Looked(
        video=video,
        maps=np.stack([seen[step] for step in asked]),
        words=_labels(words, direction),
        steps=asked,
        total_steps=sampling.steps,
        blocks=numbers,
        frames=kept,
        spans=tuple(spans[i] for i in kept),
        masks=tuple(of_words * ways),
        aims=tuple(aims * ways),
    )


# ---- what is looked at ---------------------------------------------------------------------------


def probe_of(
    backbone: Backbone,
    columns: Float[np.ndarray, "B M L"],
    blocks: Sequence[int],
    frames: tuple[int, int],
    direction: str,
    among: str,
) -> Probe:
    """Hands out the maps (depth, B, maps, tokens) of the tokens of frames [start, stop); those of
    other blocks than `blocks` are zero."""
    _, rows, across = token_grid(backbone)
    weights = np.zeros(backbone.model.config.num_layers, np.float32)
    weights[list(blocks)] = 1.0
    start, stop = (frame * rows * across for frame in frames)
    return Probe(
        layers=jnp.asarray(weights),
        columns=jnp.asarray(columns, jnp.float32),
        score=_whole,
        rows=(start, stop),
        direction=direction,
        among=among,
        each=True,
        most=len(blocks),
    )


def _whole(maps: Array) -> Array:
    return maps


def token_grid(backbone: Backbone) -> tuple[int, int, int]:
    """Video tokens along time, height and width."""
    sizes = backbone.spec()["video"].shape[:3]
    patch = backbone.model.config.patch_size
    return tuple(size // step for size, step in zip(sizes, patch, strict=True))


def pixel_spans(backbone: Backbone, stride_t: int) -> list[tuple[int, int]]:
    """For every token along time: (start, stop) of the video's frames that it stands for.

    A latent frame stands for `stride_t` of them, the first one for one. What fills the last patch
    stands before all others, for no frame of its own.
    """
    latents, step = backbone.spec()["video"].shape[0], backbone.model.config.patch_size[0]
    real = (backbone.geometry.frames - 1) // stride_t + 1

    def start(latent: int) -> int:
        return 0 if latent <= 0 else stride_t * (latent - 1) + 1

    places = range(real - latents, real, step)
    return [(start(place), start(place + step)) for place in places]


def check_direction(backbone: Backbone, direction: str, among: str) -> None:
    """Raises ValueError for what cannot be looked at."""
    if direction not in DIRECTIONS:
        raise ValueError(f"direction {direction!r} is none of {', '.join(DIRECTIONS)}")
    if among not in AMONG:
        raise ValueError(f"among {among!r} is none of {', '.join(AMONG)}")
    if isinstance(backbone, WanBackbone) and direction != V2T:
        raise ValueError(
            f"direction {direction!r}: Wan's text is asked and does not ask, use {V2T!r}"
        )


def chosen_steps(steps: Sequence[int] | None, total: int) -> tuple[int, ...]:
    """Indices of steps, ascending; see `look`."""
    if steps is None:
        return tuple(sorted({min(1, total - 1), total // 2, total - 1}))
    return _chosen(steps, total, "step")


def _chosen(wanted: Sequence[int] | None, total: int, what: str) -> tuple[int, ...]:
    """Ascending, each once.

    Raises:
      ValueError: none, or one that does not exist.
    """
    numbers = tuple(range(total)) if wanted is None else tuple(sorted(set(map(int, wanted))))
    if not numbers:
        raise ValueError(f"no {what} to look at: there are {total}, 0 to {total - 1}")
    for number in numbers:
        if not 0 <= number < total:
            raise ValueError(f"{what} {number} does not exist: there are {total}, 0 to {total - 1}")
    return numbers


def _labels(words: Sequence[str], direction: str) -> tuple[str, ...]:
    asking = tuple(f"{word}{ASKS}" for word in words)
    return {V2T: tuple(words), T2V: asking, BOTH: (*words, *asking)}[direction]


# ---- masks ---------------------------------------------------------------------------------------


def apart(pipeline: Pipeline, job: Job) -> tuple[Job, tuple[ImageSource, ...]]:
    """The job as the model takes it, and its masks: one that reads none is not given any."""
    reads = pipeline.parts[TRANSFORMER].config.extra_channels or job.modulation
    return (job if reads else dataclasses.replace(job, mask=None)), job.masks


def _fitted(job: Job, masks: Sequence[ImageSource], sampling: Sampling, soft: bool) -> list[Mask]:
    """Masks on the video's pixels."""
    fitted = []
    for mask in masks:
        name = f"mask {mask}" if isinstance(mask, str | os.PathLike) else "the mask"
        image_hw = read_image(job.image).shape[:2]
        how = sampling.fit or "cover"
        fitted.append(fit_mask(read_mask(mask, soft), image_hw, sampling.size_hw, how, name))
    return fitted


def _masks_of_words(
    reader: TargetReader, masks: Sequence[Mask], words: Sequence[str]
) -> list[Mask | None]:
    """A single mask is that of all words; of several, each is that of its trigger word."""
    if len(masks) <= 1:
        return [masks[0] if masks else None] * len(words)
    triggers = [word.lower() for word in reader.targets.words]
    if len(masks) != len(triggers):
        raise ValueError(
            f"{len(masks)} masks: give one, or one for each of the model's words, "
            f"{', '.join(reader.targets.words)}"
        )
    return [
        masks[triggers.index(word.lower())] if word.lower() in triggers else None for word in words
    ]
