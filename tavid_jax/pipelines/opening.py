"""From a name and a folder to a pipeline, or to the encoders alone; no weights are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.attention import IMPLEMENTATIONS
from tavid_jax.models.text.sharding import SHARDING as TEXT_SHARDING
from tavid_jax.models.text.t5 import T5Encoder
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.models.vision.clip import CLIPVision
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.parallel.mesh import make_mesh
from tavid_jax.parallel.sharding import PathTable
from tavid_jax.pipelines.additions import adapt, extend, read_embedding, steer, targets_of
from tavid_jax.pipelines.autoencoders import PRESETS as AUTOENCODERS
from tavid_jax.pipelines.autoencoders import make_autoencoder, sharding_of, tiles_of
from tavid_jax.pipelines.backbones import (
    COGVIDEOX_SHARDING,
    WAN_SHARDING,
    Backbone,
    Geometry,
    make_backbone,
)
from tavid_jax.pipelines.encoders import Encoders, tokenizer_mark
from tavid_jax.pipelines.finding import Found, find, find_model
from tavid_jax.pipelines.folder import IMAGE, TEXT, TOKENIZER, TRANSFORMER, VAE, find_parts
from tavid_jax.pipelines.keeping import Keep
from tavid_jax.pipelines.laca_files import put_around
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.part import Part, open_part
from tavid_jax.pipelines.pipeline import Pipeline
from tavid_jax.pipelines.recipe import Recipe
from tavid_jax.pipelines.settings import Published
from tavid_jax.pipelines.targets import TargetReader, Targets
from tavid_jax.weights import PRESETS, WeightsError
from tavid_jax.weights.peft import AUTO

# Fields that tell nothing about what is computed here: Wan reads no features of the image tower,
# so checkpoints with and without their projection are the same to it.
UNREAD = {IMAGE: ("feature_dim",)}
__all__ = ["find", "open_encoders", "open_pipeline"]


def open_pipeline(
    name: str | Path,
    path: str | Path | None = None,
    *,
    parts: Mapping[str, str | Path] | None = None,
    lora: str | Path | None = None,
    control: str | Path | None = None,
    laca: str | Path | None = None,
    points: int | None = None,
    patch_embed: str | Path | None = None,
    targets: Targets | None = None,
    lora_scale: float | int | str = AUTO,
    dtype: DTypeLike | None = None,
    memory: Memory | None = None,
    mesh: Mapping[str, int] | None = None,
    negative_prompt: str = "",
    attention: str = "auto",
    strict: bool = True,
) -> Pipeline:
    """A published model, or one that was trained here, ready to sample from.

    Args:
      name: of the model, a key of `PUBLISHED`; or, without `path`, that of a packaged base, or a
        folder that `save_pipeline` wrote.
      path: folder of the whole checkpoint, in diffusers' or the original layout, or
        `hf:owner/name`. Its parts may also be imported ones (`python -m tavid_jax.weights import`).
      parts: {part: path} of parts that lie elsewhere, see `folder.PARTS`.
      lora: adapters of the transformer, any form that `weights.load_lora` reads; of two experts
        a file may hold both or one. TAViD's release is such a file and one of `patch_embed`.
      control: what reads condition videos, any form that `weights.load_flextraj` reads: FlexTraj's
        release, or a file of a model that was trained here.
      laca: location-aware cross-attention of a Wan, by which trajectories have texts of their own:
        a file that was trained here, or its folder.
      points: room for so many trajectories with texts, instead of as many as the model was trained
        with: no weight is of it.
      patch_embed: patch projection with channels for masks, any form that
        `weights.load_patch_embed` reads; of two experts, that of those that `lora` is of.
      targets: trigger words of these channels, by default the one of TAViD's release, "target";
        of a model that was trained here, in place of those in its card.
      lora_scale: of the adapters, instead of alpha / rank; "auto" is what their file says and, as
        for TAViD's release, 1 where it says nothing.
      dtype: of the transformer and the encoders; default: bfloat16, on a CPU float32, or what
        the model's card says. The autoencoder computes in float32.
      memory: see `Memory`; default: `Memory()`.
      mesh: sizes of the mesh axes, to use several devices: {"fsdp": 4, "context": 2}.
      negative_prompt: what guidance leads away from where a job does not say. Wan's publishers use
        a list of flaws that stands in each of its model cards.
      attention: implementation of attention, see `attention.attention`.
      strict: whether a checkpoint of other sizes than the published ones is refused.

    Raises:
      ValueError: an unknown name, type or attention, a mesh that does not fit the devices, or
        targets that do not fit the channels of `patch_embed`.
      WeightsError: parts that are missing, damaged or do not fit.
    """
    additions = dict(adapters=lora, control=control, laca=laca, patch_embed=patch_embed)
    found = _with_additions(find_model(name, path), name, additions, lora_scale)
    published, strict = found.published, strict and found.is_published
    memory = Memory() if memory is None else memory
    dtype = _dtype(dtype, found)
    if attention not in IMPLEMENTATIONS:
        raise ValueError(f"attention {attention!r}: there are {', '.join(IMPLEMENTATIONS)}")
    needed = [TRANSFORMER, VAE, TEXT, TOKENIZER]
    needed += [IMAGE] if published.image_encoder else []
    where = _find_parts(found, needed, parts)
    opened = {
        part: open_model_part(part, where[part], published, dtype, memory, attention, strict)
        for part in needed
        if part != TOKENIZER
    }
    _check_experts(published, opened[TRANSFORMER], where[TRANSFORMER])
    targets, embedding = _plug_in(opened[TRANSFORMER], found, targets, lora_scale)
    if points is not None and found.laca is None:
        raise ValueError(f"points {points}: {name} reads no texts of trajectories; give laca")
    inject = None if found.laca is None else put_around(opened[TRANSFORMER], found.laca, points)
    return Pipeline(
        published,
        opened,
        Tokenizer.open(where[TOKENIZER]),
        memory,
        None if mesh is None else _mesh(mesh),
        negative_prompt,
        targets,
        embedding,
        follow=found.follow,
        inject=inject,
    )


def _with_additions(
    found: Found,
    name: str | Path,
    additions: Mapping[str, str | Path | None],
    scale: float | int | str,
) -> Found:
    """The model with what the caller adds to it, of which it must have none of its own."""
    given = {field: source for field, source in additions.items() if source is not None}
    for field, source in given.items():
        own = getattr(found, field)
        if own is not None and field == "adapters":
            raise ValueError(f"lora {source}: {name} has adapters of its own, {own}")
        if own is not None:
            raise ValueError(f"{field} {source}: {name} has its own, {own}")
    found = dataclasses.replace(found, **given)
    if scale != AUTO and found.adapters is None:
        raise ValueError(f"lora_scale {scale}: there are no adapters to scale, give lora")
    return found


def _plug_in(
    transformer: Part, found: Found, targets: Targets | None, scale: float | int | str
) -> tuple[Targets | None, Any]:
    """Adds what there is to the transformer; returns its targets and the vectors of their words."""
    experts, channels, embedding = (), 0, None
    if found.adapters is not None:
        experts = adapt(transformer, found.adapters, scale)
    if found.control is not None:
        steer(transformer, found.control)
    if found.patch_embed is not None:
        channels = extend(transformer, found.patch_embed, experts)
    targets = targets_of(targets or found.targets, channels, found.patch_embed or "")
    if found.embedding is not None:
        words = (targets or Targets(sentence="")).count
        embedding = read_embedding(found.embedding, (words, transformer.config.text_dim))
    return targets, embedding


def open_encoders(
    name: str,
    path: str | Path,
    geometry: Geometry,
    *,
    backbone: Backbone | None = None,
    posterior: str | None = None,
    image_noise: bool | None = None,
    stored: str = "float32",
    seed: int = 0,
    parts: Mapping[str, str | Path] | None = None,
    dtype: DTypeLike | None = None,
    memory: Memory | None = None,
    mesh: Mapping[str, int] | None = None,
    per_device: int = 1,
    targets: Targets | None = None,
    keep: Keep | None = None,
    strict: bool = True,
) -> Encoders:
    """The encoders of a published model, ready to turn clips into training examples.

    Args:
      name, path, parts, dtype, memory, strict: see `open_pipeline`. The checkpoint may lack the
        transformer, unless its sizes are not the published ones.
      geometry: of the clips.
      backbone: what will be trained; None is the published model.
      posterior: "sample", "mode" or "moments", see `Recipe`; None is what the published trainers
        do: CogVideoX's sample, Wan's take the mode.
      image_noise: see `Recipe`; None is as published: CogVideoX image-to-video alone.
      stored: type of the latents on disk, see `Encoders`.
      seed: of what is drawn.
      mesh: sizes of the mesh axes over this host's devices; None is all of them along "fsdp".
      per_device: clips that a device encodes at once.
      targets: what examples hold of targets besides; the clips need their masks then.
      keep: what they keep of trajectories; the clips need tracks and local captions then.

    Raises:
      ValueError, WeightsError: see `open_pipeline`; sizes that do not fit the model; image noise
        for a model that reads no latent of an image alone; trajectories for CogVideoX.
    """
    found = find_model(name, path)
    published, strict = found.published, strict and found.is_published
    if keep is not None and published.family != "wan":
        raise ValueError(f"trajectories: their texts are read by a Wan, not by {name}")
    memory = Memory() if memory is None else memory
    dtype = _dtype(dtype, found)
    needed = [VAE, TEXT, TOKENIZER] + ([IMAGE] if published.image_encoder else [])
    needed += [] if strict or backbone is not None else [TRANSFORMER]
    where = _find_parts(found, needed, parts)
    opened = {
        part: open_model_part(part, where[part], published, dtype, memory, "auto", strict)
        for part in needed
        if part != TOKENIZER
    }
    coder = opened[VAE].module
    if backbone is None:
        transformer = opened.pop(TRANSFORMER, None)
        config = PRESETS[published.preset] if transformer is None else transformer.config
        stride = coder.config.stride_hw
        fields = vars(config) | {"extra_channels": 0 if targets is None else targets.count}
        backbone = make_backbone(published.preset, geometry, fields, False, stride=stride)
    # Of CogVideoX's autoencoder, not of pixels as they are.
    draws = published.autoencoder.startswith("cogvideox")
    has_noise = draws and backbone.has_image
    if image_noise and not has_noise:
        raise ValueError(f"image_noise is CogVideoX image-to-video's: {name} has none")
    recipe = Recipe(
        backbone,
        coder,
        posterior or ("sample" if draws else "mode"),
        has_noise if image_noise is None else image_noise,
        last_frame=published.preset == "wan2.1-flf2v-14b",
        chunk=memory.chunk,
        tiles=tiles_of(coder.config, memory.tiles),
    )
    tokenizer, wan = Tokenizer.open(where[TOKENIZER]), published.family == "wan"
    length = backbone.model.config.text_length
    return Encoders(
        published,
        opened,
        tokenizer,
        tokenizer_mark(where[TOKENIZER]),
        recipe,
        stored,
        seed,
        memory,
        _local_mesh(mesh),
        per_device,
        None if targets is None else TargetReader(targets, tokenizer, backbone, length, wan),
        keep,
    )


def _local_mesh(axes: Mapping[str, int] | None) -> Mesh | None:
    devices = jax.local_devices()
    if axes is None and len(devices) == 1:
        return None
    return _mesh({"fsdp": -1} if axes is None else axes, devices)


def _find_parts(
    found: Found, needed: Sequence[str], given: Mapping[str, str | Path] | None
) -> dict[str, str]:
    inside = {part: path for part, path in found.parts.items() if part in needed}
    return find_parts(found.source, needed, inside | dict(given or {}))


def _mesh(axes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    try:
        return make_mesh(dict(axes), devices)
    except ValueError as error:  # which speaks of the flags of training
        raise ValueError(str(error).replace("--config.mesh.", "mesh axis ")) from error


def _dtype(given: DTypeLike | None, found: Found) -> DTypeLike:
    if given is None:
        return jnp.float32 if found.dtype == "float32" else default_dtype()
    try:
        known = jnp.issubdtype(jnp.dtype(given), jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise ValueError(f"dtype {given!r}: give one of floats, such as bfloat16 or float32")
    return given


def default_dtype() -> DTypeLike:
    """bfloat16 where there is an accelerator."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16


def open_model_part(
    part: str,
    source: str,
    published: Published,
    dtype: DTypeLike,
    memory: Memory,
    attention: str,
    strict: bool,
) -> Part:
    """One part of a published model; what it is follows from its name and the model's family.

    Arguments as in `open_pipeline`; raises WeightsError for another model, see `open_part`.
    """
    is_wan = published.family == "wan"
    running = {"dtype": dtype, "param_dtype": dtype}
    preset, make, sharding = {
        TRANSFORMER: (
            published.preset,
            partial(Wan if is_wan else CogVideoX, attention=attention, **running),
            WAN_SHARDING if is_wan else COGVIDEOX_SHARDING,
        ),
        VAE: (
            published.autoencoder,
            make_autoencoder,
            sharding_of(AUTOENCODERS[published.autoencoder]),
        ),
        TEXT: (published.text_encoder, partial(T5Encoder, **running), TEXT_SHARDING),
        IMAGE: (published.image_encoder, partial(CLIPVision, **running), PathTable()),
    }[part]
    return open_part(
        part,
        source,
        PRESETS[preset],
        make,
        strict=strict,
        unread=UNREAD.get(part, ()),
        dtype=jnp.float32 if part == VAE else dtype,
        sharding=sharding,
        keep=memory.keep,
        int8=part in memory.int8,
        on_cpu=part in (TEXT, IMAGE) and memory.encoders_on == "cpu",
    )


def _check_experts(published: Published, transformer: Part, source: str) -> None:
    pair, wanted = "experts" in transformer.opened.name, published.boundary is not None
    if pair != wanted:
        holds, needs = ("two experts", "one") if pair else ("one transformer", "two experts")
        raise WeightsError(f"transformer: {source} holds {holds}, {published.backbone} has {needs}")
