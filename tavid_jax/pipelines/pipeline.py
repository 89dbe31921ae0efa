"""A published model at work: encode, precompute, denoise, decode; one model in memory at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Float

from tavid_jax.diffusion.schedulers.sampler import Sampler
from tavid_jax.engine.telemetry import Progress, is_told
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.models.wan.experts import HIGH_NOISE, LOW_NOISE
from tavid_jax.pipelines.backbones import (
    BIAS,
    MASK,
    Backbone,
    CogVideoXBackbone,
    Geometry,
    WanBackbone,
)
from tavid_jax.pipelines.denoising import Denoiser, sampler_of, scales_of, segments_of
from tavid_jax.pipelines.encoding import Autoencoding, encode_clip, encode_texts
from tavid_jax.pipelines.folder import IMAGE, TEXT, TRANSFORMER, VAE
from tavid_jax.pipelines.following import first_frame
from tavid_jax.pipelines.guiding import guide_for
from tavid_jax.pipelines.images import read_image, size_of_area, to_bytes
from tavid_jax.pipelines.jobs import Job
from tavid_jax.pipelines.locating import local_conditions, wanted_texts
from tavid_jax.pipelines.masks import fit_mask, latent_masks, read_mask
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.moving import moved_entries
from tavid_jax.pipelines.part import Part
from tavid_jax.pipelines.provenance import provenance
from tavid_jax.pipelines.settings import Published, Sampling
from tavid_jax.pipelines.targets import TargetReader, Targets
from tavid_jax.pipelines.task import CONDITION, NOISE, POSTERIOR, SAMPLER, Batch, Task, stacked
from tavid_jax.pipelines.video import Video
from tavid_jax.pipelines.watching import Watch


@dataclasses.dataclass(eq=False)
class Pipeline:
    """A published model, opened. Made by `open_pipeline`; nothing is in memory between calls
    unless `Memory.keep` says so.

    Attributes:
      published: what it is and how it was sampled.
      parts: its models by name.
      tokenizer: of its text encoder.
      memory: what is traded for memory.
      mesh: devices to divide the work over; None is one device.
      negative_prompt: what guidance leads away from where a job does not say.
      targets: what the model knows of targets; None, of one that was not trained with any, is
        one target that `Job.modulation` alone can lead attention to.
      follow: fields of `Follow` that jobs have where they do not say.
      embedding: vectors (K, D) that are added to the features of the targets' trigger words.
      inject: puts something around every backbone, such as a side network whose parameters are
        among the transformer's `Part.added`.
    """

    published: Published
    parts: dict[str, Part]
    tokenizer: Tokenizer
    memory: Memory = Memory()
    mesh: Mesh | None = None
    negative_prompt: str = ""
    targets: Targets | None = None
    embedding: Float[np.ndarray, "K D"] | None = None
    follow: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inject: Callable[[Backbone], Backbone] | None = None

    def __post_init__(self):
        self._autoencoding = Autoencoding(self.parts[VAE], self.memory)
        self._denoisers: dict[Any, Denoiser] = {}
        self._black: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
        self._told: Progress | None = None
        self._done = 0

    def sample(self, prompt: str, **fields: Any) -> Video:
        """One video.

        Args:
          prompt: what it shows.
          fields: of `Job` and `Sampling`: image, seed, negative_prompt, steps, guidance, ...

        Raises:
          ValueError: what does not fit the model; see `Job`, `Sampling`.
        """
        return next(self.run([Job.of({"prompt": prompt, **fields})]))

    def run(self, jobs: Sequence[Job], batch_size: int = 1) -> Iterator[Video]:
        """Videos of many jobs, in their order: every model is read once for all of them.

        All that can be wrong with the jobs is looked at before this returns.

        Args:
          jobs: of any sizes and options.
          batch_size: how many of equal options are denoised at once.

        Raises:
          ValueError: naming the job.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be at least 1")
        tasks = []
        for number, job in enumerate(jobs):
            name = job.name or f"{number:04d}"
            try:
                tasks.append(self._task(job, name))
            except ValueError as error:
                which = f"job {name}: " if len(jobs) > 1 else ""
                raise ValueError(f"{which}{error}") from error
        batches = self._batches(tasks, batch_size)
        return self._phases(tasks, batches)

    def watched(self, job: Job, watch: Watch) -> Video:
        """The video of a job, as `run` makes it, while somebody looks on.

        Raises:
          ValueError: what is wrong with the job.
        """
        task = self._task(job, job.name or "video")
        (batch,) = self._batches([task], 1)
        batch.watch = watch
        return next(self._phases([task], [batch]))

    def plan(self, job: Job) -> tuple[Sampling, Backbone]:
        """How a job would be sampled, and by what; ValueError for what is wrong with it."""
        task = self._task(job, job.name or "video")
        return task.sampling, task.backbone

    def _phases(self, tasks: list[Task], batches: list[Batch]) -> Iterator[Video]:
        with self._on_mesh():
            self._encode(tasks)
            self._denoise(batches)
        with contextlib.ExitStack() as held:
            with self._on_mesh():
                params = held.enter_context(self.parts[VAE].hold(self.mesh))
            for number, task in enumerate(tasks, 1):
                # Not around the yield: it would be the caller's mesh too.
                with self._on_mesh():
                    frames = to_bytes(self._autoencoding.decode(params, task.latents))
                if is_told(number, len(tasks)):
                    logging.info("decode %d/%d: %s", number, len(tasks), task.name)
                made_by, fps = provenance(self, task), task.sampling.fps
                yield Video(frames, fps, task.name, made_by, task.latents, task.masks, task.shown)
                task.latents = None

    def size_of(self, job: Job) -> tuple[int, int]:
        """Height and width of the video that a job makes.

        Raises:
          ValueError: what `run` would say of the job.
        """
        return self._task(job, job.name or "").sampling.size_hw

    def decode(self, latents: Float[np.ndarray, "F h w C"]) -> Float[np.ndarray, "T H W 3"]:
        """Pixels in [-1, 1] of a latent in the transformer's units, such as `Video.latents`."""
        with self._on_mesh(), self.parts[VAE].hold(self.mesh) as params:
            return self._autoencoding.decode(params, latents)

    def _on_mesh(self) -> Any:
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    # ---- before anything is read -------------------------------------------------------------

    def _task(self, job: Job, name: str) -> Task:
        published, sampling = self.published, self.published.sampling.changed(job.options)
        published.check(sampling)
        image = job.image
        if image is None and job.source is not None and published.images:
            image = first_frame(job.source)
        images = [image for image in (image, job.last_image) if image is not None]
        if len(images) > published.images:
            most = ("no image", "one image", "a first and a last image")[published.images]
            raise ValueError(f"{published.backbone} reads {most}, {len(images)} given")
        if published.needs_image and not images:
            raise ValueError(f"{published.backbone} makes videos from an image: give one")
        if published.preset == "wan2.1-flf2v-14b" and len(images) < 2:
            raise ValueError(f"{published.backbone} needs a first and a last image")
        if images and sampling.frames == 1:
            least = 9 if published.family == "cogvideox" else 5
            raise ValueError(f"frames 1: the image would be all of it, use at least {least}")
        read = tuple(read_image(image) for image in images)
        if read and sampling.fit in ("area", "area_published"):
            sampling = self._by_area(sampling, read[0].shape[:2])
        backbone = self.backbone(sampling, bool(images))
        self._check_noise(job, backbone)
        sampler_of(backbone, published, sampling)  # an unknown solver is told now
        guide = guide_for(job, name, sampling, backbone, read, published, self.follow)
        if guide is not None:
            job = dataclasses.replace(job, prompt=guide.prefix + job.prompt)
        masks = self._masks(job, sampling, backbone, read)
        return Task(job, name, sampling, backbone, read, masks, guide)

    def _masks(
        self, job: Job, sampling: Sampling, backbone: Backbone, images: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        """The masks of a job on the frames; what is wrong with them or with the prompt is told."""
        name, channels = self.published.backbone, backbone.model.config.extra_channels
        words, given = self.reader(backbone).targets.words, job.masks
        if not channels and given and not job.modulation:
            raise ValueError(
                f"{name} reads no mask: it was not trained with targets. Give the folder or the "
                "files (lora, patch_embed) of a model that was, or lead its attention: modulation"
            )
        if (channels or given) and len(given) != len(words):
            raise ValueError(
                f"{name} has {len(words)} target{'s' * (len(words) > 1)} ({', '.join(words)}): "
                f"give one mask for each, not {len(given)}"
            )
        if given or self.embedding is not None:
            self.reader(backbone).columns(job.prompt)  # a trigger word that is not there
        return tuple(
            fit_mask(
                read_mask(mask, self.reader(backbone).targets.soft),
                images[0].shape[:2],
                sampling.size_hw,
                sampling.fit or "cover",
                f"mask {mask}" if isinstance(mask, str | os.PathLike) else f"mask {number}",
            )
            for number, mask in enumerate(given, 1)
        )

    def reader(self, backbone: Backbone) -> TargetReader:
        """What finds this model's targets in prompts."""
        return TargetReader(
            self.targets or Targets(sentence=""),
            self.tokenizer,
            backbone,
            backbone.model.config.text_length,
            wan=self.published.family == "wan",
        )

    def _by_area(self, sampling: Sampling, image_hw: tuple[int, int]) -> Sampling:
        """Of a size with the image's aspect ratio."""
        multiple = self.parts[VAE].config.stride_hw * self.parts[TRANSFORMER].config.patch_size[1]
        published = sampling.fit == "area_published"
        height, width = sampling.size_hw
        size_hw = size_of_area(image_hw, height * width, multiple, published=published)
        # What was published resizes each axis on its own; the ratio is nearly the image's.
        return dataclasses.replace(
            sampling, size_hw=size_hw, fit="stretch" if published else "cover"
        )

    def backbone(self, sampling: Sampling, has_image: bool) -> Backbone:
        """The transformer with its conditions, for videos of a size.

        Raises:
          ValueError: a size that does not fit.
        """
        model = self.parts[TRANSFORMER].module
        geometry = Geometry(sampling.frames, sampling.size_hw)
        kind = CogVideoXBackbone if self.published.family == "cogvideox" else WanBackbone
        stride = self.parts[VAE].config.stride_hw
        backbone: Backbone = kind(model, geometry, stride, self.published.predicts)
        if has_image and isinstance(backbone, WanBackbone) and not backbone.has_image:
            backbone = dataclasses.replace(backbone, given_frames=1)
        backbone.spec()  # sizes that do not fit are told now
        return backbone if self.inject is None else self.inject(backbone)

    def _check_noise(self, job: Job, backbone: Backbone) -> None:
        shape = backbone.spec()["video"].shape
        if job.noise is not None and tuple(np.shape(job.noise)) != shape:
            raise ValueError(f"noise of shape {np.shape(job.noise)}: this video takes {shape}")

    def _batches(self, tasks: list[Task], size: int) -> list[Batch]:
        groups: dict[Any, list[Task]] = {}
        for task in tasks:
            groups.setdefault(task.program, []).append(task)
        batches = []
        for key, group in groups.items():
            denoiser = self._denoisers.get(key) or self._denoiser(group[0])
            self._denoisers[key] = denoiser
            segments = segments_of(denoiser.sampler, self.published, denoiser.scales)
            for i in range(0, len(group), size):
                batches.append(Batch(group[i : i + size], denoiser, segments))
        return batches

    def _denoiser(self, task: Task) -> Denoiser:
        sampler: Sampler = sampler_of(task.backbone, self.published, task.sampling)
        return Denoiser(
            task.backbone,
            sampler,
            scales_of(sampler, self.published, task.sampling, task.dual),
            control_guidance=task.control_guidance,
            sequential=self.memory.sequential_guidance,
            report=self._tick,
            dual=task.dual,
        )

    # ---- encode ------------------------------------------------------------------------------

    def _encode(self, tasks: list[Task]) -> None:
        self._encode_texts(tasks)
        with_images = [task for task in tasks if task.images]
        if with_images and IMAGE in self.parts:
            groups = [task.images for task in with_images]
            tokens = encode_clip(self.parts[IMAGE], groups, self.mesh)
            for task, rows in zip(with_images, tokens, strict=True):
                task.conditions["clip"] = rows
        shown = [task for task in tasks if task.images or task.is_guided]
        if not shown:
            return
        with self.parts[VAE].hold(self.mesh) as params:
            for number, task in enumerate(shown, 1):
                if task.images:
                    self._encode_image(params, task)
                if task.is_guided:
                    self._encode_control(params, task)
                if is_told(number, len(shown)):
                    what = "image" if task.images else "condition videos"
                    logging.info("encode %s %d/%d: %s", what, number, len(shown), task.name)

    def _encode_texts(self, tasks: list[Task]) -> None:
        length = self.parts[TRANSFORMER].config.text_length
        pairs = ((task.job.prompt, self.negative(task)) for task in tasks)
        wanted = [(text, length) for pair in pairs for text in pair]
        for task in tasks:
            if task.is_located:
                wanted += wanted_texts(task.guide, task.sampling, task.backbone)
        features = encode_texts(
            self.parts[TEXT],
            self.tokenizer,
            wanted,
            wan=self.published.family == "wan",
            mesh=self.mesh,
        )
        for task in tasks:
            prompt, negative = task.job.prompt, self.negative(task)
            task.conditions["text"] = features[prompt, length]
            task.conditions["negative"] = features[negative, length]
            if task.is_located:
                read = task.guide, task.sampling, task.backbone
                task.conditions |= local_conditions(*read, self.tokenizer, features)
            if task.masks or self.embedding is not None:
                self._add_targets(task)

    def _add_targets(self, task: Task) -> None:
        """Mask channels, learned vectors of the trigger words, and a bias that leads attention."""
        reader, c = self.reader(task.backbone), task.conditions
        columns = reader.columns(task.job.prompt)
        if task.backbone.model.config.extra_channels:
            c[MASK] = latent_masks(task.masks, task.backbone.stride, reader.targets.latent)
        if self.embedding is not None:
            c["text"] = c["text"] + (columns > 0).astype(np.float32).T @ self.embedding
        if task.job.modulation:
            c[BIAS] = task.job.modulation * reader.bias(task.masks, columns)

    def negative(self, task: Task) -> str:
        """What guidance leads away from."""
        own = task.job.negative_prompt
        return self.negative_prompt if own is None else own

    def _encode_image(self, params: Any, task: Task) -> None:
        coder, (image, *last) = self._autoencoding, task.fitted()
        if isinstance(task.backbone, CogVideoXBackbone):
            key = task.key(POSTERIOR)
            task.conditions["image"] = coder.beside(params, image, key, task.sampling.posterior)
        elif task.backbone.given_frames:
            task.given = coder.first_frame(params, image)
        else:
            frames = task.sampling.frames
            task.conditions |= coder.given(params, image, last[0] if last else None, frames)
            if task.is_moved:
                task.conditions |= moved_entries(task.guide, task.conditions)

    def _encode_control(self, params: Any, task: Task) -> None:
        """Condition videos, and black ones where guidance reads them: once for a size."""
        coder, sampling = self._autoencoding, task.sampling
        key = None
        if isinstance(task.backbone, CogVideoXBackbone) and sampling.posterior == "sample":
            key = task.key(CONDITION)
        videos = task.guide.videos()[: task.backbone.model.config.condition_videos]
        task.conditions |= coder.control(params, videos, task.backbone, key)
        if task.control_guidance != 1:
            size = sampling.frames, *sampling.size_hw
            if size not in self._black:
                black = [np.zeros_like(video) for video in videos]
                self._black[size] = coder.control(params, black, task.backbone)
            task.black = self._black[size]

    # ---- denoise -----------------------------------------------------------------------------

    def _denoise(self, batches: list[Batch]) -> None:
        steps = sum(batch.denoiser.sampler.steps for batch in batches)
        self._told, self._done = Progress("denoise", steps), 0
        experts = ("",) if self.published.boundary is None else (HIGH_NOISE, LOW_NOISE)
        for batch in batches:
            batch.state = self._noise(batch)
        for expert in experts:
            mine = [b for b in batches if any(s.expert == expert for s in b.segments)]
            if mine:
                self._serve(mine, expert)
        for batch in batches:
            for task, latents in zip(batch.tasks, np.asarray(batch.state.x), strict=True):
                task.latents = latents[-self._decoded_frames(task) :]
            batch.state = None
        self._told.show(self._done, last=True)

    def _serve(self, batches: list[Batch], expert: str) -> None:
        """One expert's steps; on return nothing refers to its weights, so the next one has room."""
        with self.parts[TRANSFORMER].hold(self.mesh, expert) as params:
            for batch in batches:
                self._walk(params, batch, expert)

    def _walk(self, params: Any, batch: Batch, expert: str) -> None:
        """The segments of one expert."""
        made: dict[bool, Any] = {}
        dtype = self.parts[TRANSFORMER].dtype
        keys = jnp.stack([task.key(SAMPLER) for task in batch.tasks])
        given = stacked(batch.tasks, lambda task: task.given)
        for segment in batch.segments:
            if segment.expert != expert:
                continue
            if segment.guided not in made:
                branches = batch.branches(segment.guided, dtype)
                made = {segment.guided: batch.denoiser.precompute(params, branches)}
            for piece in segment.cut(batch.watch.steps if batch.watch else ()):
                if batch.watch and piece.start in batch.watch.steps:
                    *_, branch = batch.branches(False, dtype)
                    now = (params, batch.state, piece.start, branch, given)
                    batch.watch.show(batch.denoiser, *now)
                batch.state = batch.denoiser.run(
                    params, batch.state, made[piece.guided], piece, keys, given
                )
                jax.block_until_ready(batch.state)
        jax.effects_barrier()

    def _noise(self, batch: Batch) -> jax.Array:
        shape = batch.tasks[0].backbone.spec()["video"].shape

        def of(task: Task) -> Any:
            if task.job.noise is not None:
                return task.job.noise
            return jax.random.normal(task.key(NOISE), shape, jnp.float32)

        return jnp.stack([jnp.asarray(of(task), jnp.float32) for task in batch.tasks])

    def _decoded_frames(self, task: Task) -> int:
        """Latent frames of the video: what was added in front to fill patches falls away."""
        return (task.sampling.frames - 1) // self.parts[VAE].config.stride_t + 1

    def _tick(self, index: int) -> None:
        del index
        self._done += 1
        self._told.show(self._done)
