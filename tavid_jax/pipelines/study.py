"""The block study: whose attention of a word is most like the mask of its object.

TAViD chose by it which blocks its loss leads (arXiv:2503.18950): those whose maps of the word are
already the most mask-like.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.diffusion.paths import per_clip_normal
from tavid_jax.engine.telemetry import Progress
from tavid_jax.models.layers.ports import Probe
from tavid_jax.models.wan.experts import expert_at
from tavid_jax.pipelines.backbones import MASK, Backbone
from tavid_jax.pipelines.encoding import Autoencoding, encode_clip, encode_prompts
from tavid_jax.pipelines.folder import IMAGE, TEXT, TRANSFORMER, VAE
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.looking import ALL, V2T, apart, check_direction, look, probe_of
from tavid_jax.pipelines.maps import MEASURES, chance, measures
from tavid_jax.pipelines.masks import check_mask
from tavid_jax.pipelines.noising import noised
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.ranking import record_of
from tavid_jax.pipelines.recipe import MODE, Recipe
from tavid_jax.pipelines.targets import ACTOR, COLUMNS, TARGET, TargetReader
from tavid_jax.pipelines.words import holds, word_columns

SHARES = (0.25, 0.5, 0.75, 0.9)


# Each of `MEASURES`: (levels, clips, blocks).
Measured = dict[str, np.ndarray]


@dataclasses.dataclass(eq=False)
class _Example:
    """A clip for the backbone.

    Attributes:
      prompt: that the model reads.
      columns: weights of the word's positions (1, L).
      aim: the mask of the word's object on the tokens of the first latent frame.
      triggers: positions (K, L) of the model's trigger words; None of a model that has none.
      images: frames that an image tower reads.
      batch: what the backbone reads, without a batch axis.
    """

    prompt: str
    columns: Float[np.ndarray, "1 L"]
    aim: Float[np.ndarray, " N"]
    triggers: Float[np.ndarray, "K L"] | None = None
    images: Sequence[np.ndarray] = ()
    batch: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def study(
    pipeline: Pipeline,
    sources: Sequence[Clip] | Sequence[Job],
    word: str | Sequence[str] = "target",
    *,
    shares: Sequence[float | int] = SHARES,
    steps: Sequence[int] | None = None,
    direction: str = V2T,
    among: str = ALL,
    seed: int = 0,
) -> dict[str, Any]:
    """How well the map of a word in every block overlaps with the mask of its object.

    Maps are those of the first latent frame, of the conditional text; of "both" directions the
    numbers are means. Clips are real videos with a share of noise; jobs are sampled.

    Args:
      pipeline: the model, one that reads masks or one that does not.
      sources: clips of one size and length with captions and the masks of their first frame; or
        jobs with an image and a mask.
      word: that the prompts hold; of several, in each prompt the first one that it holds.
      shares: of noise, in (0, 1]; of clips.
      steps: at which is looked, see `look`; of jobs.
      direction, among: see `look`.
      seed: of the noise of clips.

    Returns:
      A record, see `ranking.record_of`.

    Raises:
      ValueError: nothing to study, shares out of range, or what is wrong with a job or clip.
    """
    if not len(sources):
        raise ValueError(
            "nothing to study: give clips with masks, or jobs with an image and a mask"
        )
    words = (word,) if isinstance(word, str) else tuple(word)
    if isinstance(sources[0], Job):
        levels, found, guess = _of_jobs(pipeline, sources, words, steps, direction, among)
    else:
        _check_shares(shares)
        levels = [float(share) for share in shares]
        found, guess = _of_clips(pipeline, sources, words, levels, direction, among, seed)
    return record_of(
        found,
        model=pipeline.published.backbone,
        weights=pipeline.parts[TRANSFORMER].opened.fingerprint(),
        kind="steps" if isinstance(sources[0], Job) else "shares of noise",
        levels=levels,
        words=list(words),
        direction=direction,
        among=among,
        chance=guess,
    )


def _check_shares(shares: Sequence[float | int]) -> None:
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"shares {tuple(shares)}: give shares of noise above 0, up to 1")


def _of_jobs(
    pipeline: Pipeline,
    jobs: Sequence[Job],
    words: Sequence[str],
    steps: Sequence[int] | None,
    direction: str,
    among: str,
) -> tuple[list[int], Measured, float]:
    """(steps, measures (steps, jobs, blocks), chance)."""
    found, asked, guesses = [], [], []
    for number, job in enumerate(jobs):
        try:
            seen = _of_job(pipeline, job, words, steps, direction, among)
        except ValueError as error:
            raise ValueError(f"job {job.name or f'{number:04d}'}: {error}") from error
        found.append({name: seen[name] for name in MEASURES})
        guesses.append(seen["chance"])
        asked.append(seen["steps"])
    if len(set(asked)) > 1:
        raise ValueError("the jobs take different numbers of steps: say at which is looked")
    stacked = {name: np.stack([one[name] for one in found], axis=1) for name in MEASURES}
    return list(asked[0]), stacked, float(np.mean(guesses))


def _of_job(
    pipeline: Pipeline,
    job: Job,
    words: Sequence[str],
    steps: Sequence[int] | None,
    direction: str,
    among: str,
) -> dict[str, Any]:
    if not job.masks:
        raise ValueError("it has no mask to compare maps with: give image and mask")
    bare, _ = apart(pipeline, job)
    word = _held(pipeline.reader(pipeline.plan(bare)[1]), job.prompt, words)
    looked = look(pipeline, job, [word], steps=steps, frames=(0,), direction=direction, among=among)
    seen = [looked.measured(place) for place in range(len(looked.words))]
    if seen[0] is None:
        raise ValueError(f"none of its masks is that of {word!r}")
    means = {name: np.mean([one[name] for one in seen], axis=0) for name in MEASURES}
    return means | {"chance": chance(looked.aims[0].ravel()), "steps": looked.steps}


def _held(reader: TargetReader, prompt: str, words: Sequence[str]) -> str:
    """The first of the words that a prompt holds; the first of all if it holds none."""
    return next((word for word in words if holds(reader, prompt, word)), words[0])


# ---- clips ---------------------------------------------------------------------------------------


def _of_clips(
    pipeline: Pipeline,
    clips: Sequence[Clip],
    words: Sequence[str],
    shares: Sequence[float],
    direction: str,
    among: str,
    seed: int,
) -> tuple[Measured, float]:
    """(measures (shares, clips, blocks), chance)."""
    backbone = _backbone_for(pipeline, clips[0])
    check_direction(backbone, direction, among)
    depth = backbone.model.config.num_layers
    mesh = contextlib.nullcontext() if pipeline.mesh is None else jax.set_mesh(pipeline.mesh)
    with mesh:
        examples = _read(pipeline, backbone, clips, words)
        _add_conditions(pipeline, examples)
        found = {name: np.zeros((len(shares), len(examples), depth)) for name in MEASURES}
        told, done = Progress("study", len(shares) * len(examples)), 0
        for expert, rows in _by_expert(pipeline, shares).items():
            with pipeline.parts[TRANSFORMER].hold(pipeline.mesh, expert) as params:
                for place, example in enumerate(examples):
                    asked = example.columns[None], range(depth), (0, 1), direction, among
                    probe, batch = probe_of(backbone, *asked), _batch(pipeline, example)
                    key = jax.random.fold_in(jax.random.key(seed), place)[None]
                    for row in rows:
                        share = jnp.float32(shares[row])
                        seen = _seen(backbone, params, batch, probe, example.aim, key, share)
                        for name in MEASURES:
                            found[name][row, place] = np.asarray(seen[name])
                        done += 1
                        told.show(done, last=done == len(shares) * len(examples))
    return found, float(np.mean([chance(example.aim) for example in examples]))


@functools.partial(jax.jit, static_argnums=0)
def _seen(
    backbone: Backbone,
    params: Any,
    batch: dict[str, Array],
    probe: Probe,
    aim: Float[Array, " N"],
    keys: Array,
    share: Float[Array, ""],
) -> dict[str, Float[Array, " depth"]]:
    """`MEASURES` of every block for one clip, means over directions."""
    video = batch["video"].astype(jnp.float32)
    state, timesteps = noised(backbone, video, per_clip_normal(keys, video.shape[1:]), share)
    maps = backbone.evaluate(params, state, timesteps, batch, probe).probe
    seen = measures(maps, jnp.broadcast_to(aim, maps.shape))
    return {name: x.mean((1, 2)) for name, x in seen.items()}


def _by_expert(pipeline: Pipeline, shares: Sequence[float]) -> dict[str, list[int]]:
    """Places of the shares that each of the experts serves."""
    boundary = pipeline.published.boundary
    served: dict[str, list[int]] = {}
    for row, share in enumerate(shares):
        expert = "" if boundary is None else expert_at(1000.0 * share, boundary)
        served.setdefault(expert, []).append(row)
    return served


def _backbone_for(pipeline: Pipeline, clip: Clip) -> Backbone:
    """Of clips like this one, given the image where the model reads one."""
    published = pipeline.published
    if clip.video is None:
        raise ClipError(f"clip {clip.id!r} has no video")
    frames, height, width, _ = clip.video.shape
    sampling = published.sampling.changed({"size_hw": (height, width), "frames": frames})
    published.check(sampling)
    return pipeline.backbone(sampling, published.images > 0)


def _read(
    pipeline: Pipeline, backbone: Backbone, clips: Sequence[Clip], words: Sequence[str]
) -> list[_Example]:
    """Everything of the clips that no tower of text or images is needed for."""
    coding = Autoencoding(pipeline.parts[VAE], pipeline.memory)
    last = pipeline.published.preset == "wan2.1-flf2v-14b"
    encode = jax.jit(
        Recipe(
            backbone, coding.part.module, MODE, last_frame=last, chunk=coding.memory.chunk,
            tiles=coding.tiles,
        )
    )  # fmt: skip
    reader, shape = (
        pipeline.reader(backbone),
        (backbone.geometry.frames, *backbone.geometry.size_hw),
    )
    examples = []
    with pipeline.parts[VAE].hold(pipeline.mesh) as params:
        for number in range(len(clips)):
            clip = clips[number]
            if clip.video is None or clip.video.shape[:3] != shape:
                raise ClipError(
                    f"clip {clip.id!r}: its video is not of the first one's size {shape}"
                )
            example = _example(reader, clip, words)
            keys = jax.random.key(number)[None]  # nothing is drawn of the mode
            latents = jax.device_get(encode(params, jnp.asarray(clip.video)[None], keys))
            example.batch.update({name: x[0] for name, x in latents.items()})
            example.images = [clip.video[0], clip.video[-1]] if last else [clip.video[0]]
            examples.append(example)
    return examples


def _example(reader: TargetReader, clip: Clip, words: Sequence[str]) -> _Example:
    """The texts and masks of a clip."""
    try:
        prompt = reader.prompt(clip.caption)
        word = _held(reader, prompt, words)
        columns = word_columns(reader, prompt, [word])
    except ValueError as error:
        raise ClipError(f"clip {clip.id!r}: {error}") from error
    example = _Example(prompt, columns, _aim(reader, clip, word))
    if reader.backbone.model.config.extra_channels:
        known = reader.read(clip)
        example.batch[MASK] = known[MASK]
        example.triggers = (known[COLUMNS] > 0).astype(np.float32)
    return example


def _aim(reader: TargetReader, clip: Clip, word: str) -> Float[np.ndarray, " N"]:
    """The mask of the word's object on the tokens: that of its trigger, or else of the target."""
    named = dict(zip(map(str.lower, reader.targets.words), reader.targets.objects, strict=True))
    number = named.get(word.lower(), TARGET)
    if isinstance(number, str):
        number = {TARGET: clip.target, ACTOR: clip.actor}[number]
    there = 0 if clip.masks is None else len(clip.masks)
    if number < 1 and there == 1:
        number = 1  # whose else
    if not 1 <= number <= there:
        raise ClipError(f"clip {clip.id!r}: has no mask of what {word!r} means (it has {there})")
    mask = clip.masks[number - 1].astype(np.float32)
    try:
        check_mask(mask, "the mask")
    except ValueError as error:
        raise ClipError(f"clip {clip.id!r}: {error}") from error
    return reader.aim(mask)


def _add_conditions(pipeline: Pipeline, examples: Sequence[_Example]) -> None:
    """Features of prompts and, where the model reads them, of first frames."""
    features = encode_prompts(
        pipeline.parts[TEXT],
        pipeline.tokenizer,
        [example.prompt for example in examples],
        pipeline.parts[TRANSFORMER].config.text_length,
        wan=pipeline.published.family == "wan",
        mesh=pipeline.mesh,
    )
    for example in examples:
        text = features[example.prompt]
        if example.triggers is not None and pipeline.embedding is not None:
            text = text + example.triggers.T @ pipeline.embedding
        example.batch["text"] = text
    if IMAGE in pipeline.parts:
        groups = [example.images for example in examples]
        tokens = encode_clip(pipeline.parts[IMAGE], groups, pipeline.mesh)
        for example, rows in zip(examples, tokens, strict=True):
            example.batch["clip"] = rows


def _batch(pipeline: Pipeline, example: _Example) -> dict[str, Array]:
    dtype = pipeline.parts[TRANSFORMER].dtype
    return {
        name: jnp.asarray(x, dtype if name in ("text", "clip") else None)[None]
        for name, x in example.batch.items()
    }
