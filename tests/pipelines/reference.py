"""diffusers' pipelines on what ours are given: the same weights, ids, noise and pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import torch
from PIL import Image

from tavid_jax.models.text.cleaning import clean
from tavid_jax.models.vision.images import wan_preprocess
from tavid_jax.pipelines.encoders import Encoders
from tavid_jax.pipelines.images import to_pixels
from tavid_jax.pipelines.pipeline import SAMPLER, Pipeline
from tests.models.random_weights import relative_error

STEPS = 6
PROMPT, NEGATIVE = "a red ball rolls to the left", "a blue square"
TOLERANCE = 1e-4
COGVIDEOX_SCHEDULE = dict(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
    prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True,
    timestep_spacing="trailing", clip_sample=False, steps_offset=0,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Made:
    """A video before it becomes bytes.

    Attributes:
      latents: (F, h, w, C), in the transformer's units.
      pixels: (T, H, W, 3), [-1, 1].
    """

    latents: np.ndarray
    pixels: np.ndarray

    def assert_near(self, other: Made, tolerance: float = TOLERANCE) -> None:
        """Both within `tolerance` of the other's root mean square, and neither trivial."""
        assert np.ptp(other.latents) > 0.5 and np.ptp(other.pixels) > 0.1
        assert relative_error(self.latents, other.latents) <= tolerance
        assert relative_error(self.pixels, other.pixels) <= tolerance


def noise_of(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Initial noise (F, h, w, C)."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def picture(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A picture that is neither flat nor symmetric."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size_hw[::-1], Image.Resampling.BICUBIC))


def sample(pipeline: Pipeline, prompt: str = PROMPT, **fields: Any) -> Made:
    """Ours."""
    video = pipeline.sample(prompt, **{"negative_prompt": NEGATIVE, "steps": STEPS} | fields)
    pixels = np.clip(pipeline.decode(video.latents), -1, 1)
    return Made(np.asarray(video.latents), pixels)


def features(
    pipeline: Pipeline | Encoders, models: dict[str, torch.nn.Module], prompt: str, length: int = 0
) -> torch.Tensor:
    """Of the torch encoder, from our ids: Wan hides padding and puts zeros there."""
    wan = pipeline.published.family == "wan"
    length = length or pipeline.parts["transformer"].config.text_length
    ids, mask = pipeline.tokenizer(clean(prompt) if wan else prompt, length)
    ids, mask = torch.from_numpy(ids).long(), torch.from_numpy(mask)
    with torch.no_grad():
        out = models["text_encoder"](ids, mask.long() if wan else None).last_hidden_state
    return out * mask[..., None] if wan else out


def wan(
    pipeline: Pipeline,
    models: dict[str, torch.nn.Module],
    noise: np.ndarray,
    size_hw: tuple[int, int],
    frames: int,
    guidance: float | tuple[float, float] = 5.0,
    shift: float = 3.0,
    sampler: str = "unipc",
    images: Sequence[np.ndarray] = (),
    prompt: str = PROMPT,
) -> Made:
    """diffusers' Wan pipeline."""
    published = pipeline.published
    kind = diffusers.WanImageToVideoPipeline if images else diffusers.WanPipeline
    theirs = kind(
        tokenizer=None,
        text_encoder=models["text_encoder"],
        vae=models["vae"],
        scheduler=_flow_scheduler(sampler, shift),
        transformer=models["transformer"],
        transformer_2=models.get("transformer_2"),
        boundary_ratio=published.boundary,
        expand_timesteps=published.backbone == "wan2.2-ti2v-5b",
    )
    theirs.set_progress_bar_config(disable=True)
    fields: dict[str, Any] = {
        name: Image.fromarray(image)
        for name, image in zip(("image", "last_image"), images, strict=False)
    }
    if "image_encoder" in models:
        tokens = clip_tokens(models, images)
        theirs.encode_image = lambda image, device: tokens
    scales = guidance if isinstance(guidance, tuple) else (guidance,)
    fields |= dict(zip(("guidance_scale", "guidance_scale_2"), scales, strict=False))
    fields |= dict(
        prompt_embeds=features(pipeline, models, prompt),
        negative_prompt_embeds=features(pipeline, models, NEGATIVE),
        height=size_hw[0], width=size_hw[1], num_frames=frames, num_inference_steps=STEPS,
        latents=torch.from_numpy(noise.transpose(3, 0, 1, 2)[None].copy()),
    )  # fmt: skip
    latents = theirs(**fields, output_type="latent").frames[0].permute(1, 2, 3, 0).numpy()
    return Made(latents, theirs(**fields, output_type="np").frames[0] * 2 - 1)


def clip_tokens(models: dict[str, torch.nn.Module], images: Sequence[np.ndarray]) -> torch.Tensor:
    """Of the torch tower, from pictures as Wan prepares them: (pictures, tokens, width).

    diffusers joins the pictures' tokens itself where the model has a table of their positions.
    """
    tower = models["image_encoder"]
    size = tower.config.image_size
    prepared = [np.asarray(wan_preprocess(jnp.asarray(to_pixels(x))[None], size)) for x in images]
    x = torch.from_numpy(np.concatenate(prepared).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        tokens = tower(x, output_hidden_states=True).hidden_states[-2]
    if models["transformer"].config.pos_embed_seq_len is None:
        return tokens.flatten(0, 1)[None]
    return tokens


def cogvideox(
    pipeline: Pipeline,
    models: dict[str, torch.nn.Module],
    noise: np.ndarray,
    size_hw: tuple[int, int],
    frames: int,
    guidance: float = 6.0,
    sampler: str = "ddim",
    dynamic: bool = False,
    image: np.ndarray | None = None,
    seed: int = 0,
    prompt: str = PROMPT,
) -> Made:
    """diffusers' CogVideoX pipeline; dpm's noise is that of our job with this seed."""
    kind = diffusers.CogVideoXPipeline
    if image is not None:
        kind = diffusers.CogVideoXImageToVideoPipeline
    theirs = kind(
        tokenizer=None,
        text_encoder=models["text_encoder"],
        vae=models["vae"],
        scheduler=_v_scheduler(sampler, pipeline, seed),
        transformer=models["transformer"],
    )
    theirs.set_progress_bar_config(disable=True)
    fields = dict(
        prompt_embeds=features(pipeline, models, prompt),
        negative_prompt_embeds=features(pipeline, models, NEGATIVE),
        height=size_hw[0], width=size_hw[1], num_frames=frames, num_inference_steps=STEPS,
        guidance_scale=guidance, use_dynamic_cfg=dynamic,
        latents=torch.from_numpy(noise.transpose(0, 3, 1, 2)[None].copy()),
    )  # fmt: skip
    if image is not None:
        fields["image"] = Image.fromarray(image)
    latents = theirs(**fields, output_type="latent").frames[0].permute(0, 2, 3, 1).numpy()
    # In front stand the frames that fill patches.
    latents = latents[-((frames - 1) // 4 + 1) :]
    return Made(latents, theirs(**fields, output_type="np").frames[0] * 2 - 1)


class ReplayedDPM(diffusers.CogVideoXDPMScheduler):
    """Draws what the sampler of a job of ours draws."""

    def follow(self, seed: int) -> ReplayedDPM:
        self.seed = seed
        return self

    def step(self, output, before, timestep, timestep_back, sample, return_dict=False):
        index = int(np.flatnonzero(self.timesteps.numpy() == int(timestep))[0])
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), SAMPLER), index)
        frames, channels, height, width = sample.shape[1:]
        drawn = jax.random.normal(key, (frames, height, width, channels), jnp.float32)
        drawn = torch.from_numpy(np.asarray(drawn).transpose(0, 3, 1, 2)[None].copy())
        module = diffusers.schedulers.scheduling_dpm_cogvideox
        former, module.randn_tensor = module.randn_tensor, lambda *_, **__: drawn
        try:
            return super().step(output, before, timestep, timestep_back, sample)
        finally:
            module.randn_tensor = former


def _flow_scheduler(sampler: str, shift: float) -> Any:
    if sampler == "euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )


def _v_scheduler(sampler: str, pipeline: Pipeline, seed: int) -> Any:
    rotary = pipeline.parts["transformer"].config.rotary
    schedule = COGVIDEOX_SCHEDULE | {"snr_shift_scale": 1.0 if rotary else 3.0}
    if sampler == "ddim":
        return diffusers.CogVideoXDDIMScheduler(**schedule)
    return ReplayedDPM(**schedule).follow(seed)
