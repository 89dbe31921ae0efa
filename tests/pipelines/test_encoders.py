"""What is kept of a clip equals what the published encoders make of it, for every kind of model."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from tavid_jax.data.clip import ClipError
from tavid_jax.pipelines.backbones import Geometry
from tavid_jax.pipelines.encoders import Encoders
from tavid_jax.pipelines.encoding import Autoencoding
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.opening import open_encoders
from tavid_jax.pipelines.recipe import IMAGE_NOISE, drawn
from tests.models.random_weights import relative_error
from tests.pipelines import tiny
from tests.pipelines.clips import Clips
from tests.pipelines.reference import clip_tokens, features

pytestmark = pytest.mark.parity
FRAMES, EXACT = 9, 1e-4
ROUNDED = dict(rtol=2**-8, atol=1e-3)  # to bfloat16
COG_IMAGE = dict(in_channels=8)
COG_LATER = dict(
    in_channels=8, patch_size_t=2, patch_bias=False, ofs_embed_dim=8, sample_height=8,
    sample_width=12,
)  # fmt: skip
WAN_IMAGE = dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A published model at a tiny size."""

    model: str
    family: str
    transformer: dict[str, Any] = dataclasses.field(default_factory=dict)
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    size_hw: tuple[int, int] = (32, 48)

    def write(self, folder):
        make = tiny.wan_folder if self.family == "wan" else tiny.cogvideox_folder
        return make(folder, 200, transformer=self.transformer, **self.others)


KINDS = {
    "cogvideox i2v": Kind("cogvideox-5b-i2v", "cogvideox", COG_IMAGE),
    "cogvideox 1.5 i2v": Kind(
        "cogvideox1.5-5b-i2v", "cogvideox", COG_LATER, dict(invert_scale_latents=True)
    ),
    "wan i2v": Kind("wan2.1-i2v-14b", "wan", WAN_IMAGE, dict(clip=True)),
    "wan flf2v": Kind(
        "wan2.1-flf2v-14b", "wan", WAN_IMAGE | dict(pos_embed_seq_len=10), dict(clip=True)
    ),
    "wan ti2v": Kind(
        "wan2.2-ti2v-5b",
        "wan",
        dict(in_channels=6, out_channels=6),
        dict(vae=tiny.WAN_VAE_2),
        (32, 64),
    ),
}


@dataclasses.dataclass
class Made:
    """A model, and examples of three clips by it: posterior's mode, no noise."""

    kind: Kind
    folder: Any
    models: dict[str, torch.nn.Module]
    encoders: Encoders
    clips: Clips
    examples: list[dict[str, np.ndarray]]


def opened(made: Made, **options: Any) -> Encoders:
    geometry = Geometry(FRAMES, made.kind.size_hw)
    return open_encoders(made.kind.model, made.folder, geometry, strict=False, **options)


def encoded(encoders: Encoders, clips: Clips) -> list[dict[str, np.ndarray]]:
    return list(encoders.examples([clip.caption for clip in clips], iter(clips)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By name of the kind; each is made once."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            kind = KINDS[name]
            folder = tmp_path_factory.mktemp("encoders") / "model"
            clips = Clips(kind.size_hw, FRAMES)
            this = Made(kind, folder, kind.write(folder), None, clips, [])
            this.encoders = opened(this, posterior="mode", image_noise=None)
            this.encoders.recipe = dataclasses.replace(this.encoders.recipe, image_noise=False)
            this.examples = encoded(this.encoders, clips)
            known[name] = this
        return known[name]

    return get


def theirs(made: Made, pixels: np.ndarray) -> np.ndarray:
    """Latent (F, h, w, C) of pixels (T, H, W, 3) in [-1, 1] by diffusers, the mode, unscaled."""
    x = torch.from_numpy(pixels.transpose(3, 0, 1, 2)[None].copy())
    with torch.no_grad():
        return made.models["vae"].encode(x).latent_dist.mode()[0].permute(1, 2, 3, 0).numpy()


def in_units(made: Made, latent: np.ndarray) -> np.ndarray:
    config = made.models["vae"].config
    if made.kind.family == "cogvideox":
        return latent * config.scaling_factor
    return (latent - np.array(config.latents_mean)) / np.array(config.latents_std)


def pixels_of(clip) -> np.ndarray:
    return clip.video.astype(np.float32) / 127.5 - 1


@pytest.mark.parametrize("name", KINDS)
def test_video_and_text(made, name):
    this = made(name)
    spec = this.encoders.recipe.backbone.spec()
    for clip, example in zip(this.clips, this.examples, strict=True):
        want = in_units(this, theirs(this, pixels_of(clip)))
        copies = len(example["video"]) - len(want)
        assert copies == (1 if "1.5" in name else 0)
        want = np.concatenate([want[:1]] * copies + [want])
        assert np.ptp(want) > 0.5 and relative_error(example["video"], want) <= EXACT
        text = features(this.encoders, this.models, clip.caption, len(example["text"]))[0]
        np.testing.assert_allclose(example["text"].astype(np.float32), text.numpy(), **ROUNDED)
        for key, one in spec.items():
            if key != "clip":
                assert (example[key].shape, example[key].dtype) == (one.shape, one.dtype), key
    np.testing.assert_array_equal(
        this.encoders.shared()["null_text"],
        encoded(this.encoders, _Silent(this.clips))[0]["text"],
    )


class _Silent(list):
    def __init__(self, clips):
        super().__init__([clips[0].replace(caption="")])


@pytest.mark.parametrize("name", ["cogvideox i2v", "cogvideox 1.5 i2v"])
def test_the_image_beside_the_video(made, name):
    """Scaled as the model's sampler scales it."""
    this = made(name)
    scale = 0.7 if "1.5" not in name else 1 / 0.7
    for clip, example in zip(this.clips, this.examples, strict=True):
        want = theirs(this, pixels_of(clip)[:1])[0] * scale
        assert relative_error(example["image"], want) <= EXACT
        with this.encoders.parts["vae"].hold() as params:
            coder = Autoencoding(this.encoders.parts["vae"], this.encoders.memory)
            sampled = coder.beside(params, clip.video[0], jax.random.key(0), "mode")
        np.testing.assert_allclose(example["image"], sampled, atol=1e-5)


@pytest.mark.parametrize("name", ["wan i2v", "wan flf2v"])
def test_given_frames(made, name):
    this = made(name)
    last = "flf" in name
    for clip, example in zip(this.clips, this.examples, strict=True):
        grey = np.zeros_like(pixels_of(clip))
        for frame in [0, -1] if last else [0]:
            grey[frame] = pixels_of(clip)[frame]
        want = in_units(this, theirs(this, grey))
        assert relative_error(example["condition"], want) <= EXACT
        given = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, int(last)]]
        np.testing.assert_array_equal(example["given"], given)
        pictures = [clip.video[0]] + ([clip.video[-1]] if last else [])
        tokens = clip_tokens(this.models, pictures).reshape(-1, 20).numpy()
        np.testing.assert_allclose(example["clip"].astype(np.float32), tokens, **ROUNDED)
        assert example["clip"].dtype == jnp.bfloat16


def test_the_first_latent_frame_is_that_of_the_image_alone(made):
    """So a model whose first frame is given needs no further condition."""
    this = made("wan ti2v")
    for clip, example in zip(this.clips, this.examples, strict=True):
        want = in_units(this, theirs(this, pixels_of(clip)[:1]))
        np.testing.assert_allclose(example["video"][:1], want, atol=1e-4)
        assert set(example) == {"video", "text"}


def test_published_defaults(made):
    recipes = [opened(made(name)).recipe for name in ("cogvideox i2v", "wan ti2v")]
    assert [(r.posterior, r.image_noise) for r in recipes] == [("sample", True), ("mode", False)]
    with pytest.raises(ValueError, match="image_noise is CogVideoX image-to-video's: wan2.2-ti2v"):
        opened(made("wan ti2v"), image_noise=True)
    with pytest.raises(ValueError, match="posterior 'mean' is none of sample, mode, moments"):
        opened(made("wan ti2v"), posterior="mean")
    with pytest.raises(ValueError, match="stored as 'int8': there are float32, float16, bfloat16"):
        opened(made("wan ti2v"), stored="int8")


@pytest.fixture(scope="module")
def moments(made):
    return encoded(opened(made("cogvideox i2v"), posterior="moments", image_noise=False), _clips())


def _clips() -> Clips:
    return Clips((32, 48), FRAMES)


def test_moments_are_the_posterior(made, moments):
    this = made("cogvideox i2v")
    vae = this.models["vae"]
    for clip, modes, example in zip(this.clips, this.examples, moments, strict=True):
        pixels = torch.from_numpy(pixels_of(clip).transpose(3, 0, 1, 2)[None].copy())
        with torch.no_grad():
            for name, x in (("video", pixels), ("image", pixels[:, :, :1])):
                std = 0.7 * vae.encode(x).latent_dist.std[0].permute(1, 2, 3, 0).numpy()
                std = std[0] if name == "image" else std
                assert relative_error(example[f"{name}_std"], std) <= EXACT
                np.testing.assert_allclose(example[name], modes[name], atol=1e-5)


def test_samples_are_drawn_by_the_clip_and_the_seed(made, moments):
    """One clip's draws are the same in any company; they have the posterior's spread."""
    this = made("cogvideox i2v")
    seeds = [opened(this, posterior="sample", image_noise=False, seed=s) for s in (0, 1)]
    first, other = (encoded(e, this.clips) for e in seeds)
    alone = list(seeds[0].examples(["a"], iter([this.clips[2]])))[0]
    for name in ("video", "image"):
        np.testing.assert_array_equal(alone[name], first[2][name])
        noise = [
            (x[name] - m[name]) / m[f"{name}_std"]
            for made_ in (first, other)
            for x, m in zip(made_, moments, strict=True)
        ]
        noise = np.stack(noise).reshape(6, -1)
        assert abs(noise.std() - 1) < 0.1 and abs(noise.mean()) < 0.15
        correlation = np.corrcoef(noise) - np.eye(6)
        assert np.abs(correlation).max() < 0.5


def test_drawing_from_moments(moments):
    """Anew for every key, with copies of the first frame where there are some."""
    names = ("video", "video_std", "image", "image_std")
    batch = {name: jnp.stack([e[name] for e in moments]) for name in names}
    keys = jax.random.split(jax.random.key(5), 3)
    got = drawn(batch, keys)
    assert set(got) == {"video", "image"}
    z = (got["video"] - batch["video"]) / batch["video_std"]
    assert 0.9 < float(z.std()) < 1.1
    assert not np.allclose(z[:, 0], z[:, 1])
    copied = drawn({k: v.at[:, 0].set(v[:, 1]) for k, v in batch.items()}, keys, copies=1)
    np.testing.assert_array_equal(copied["video"][:, 0], copied["video"][:, 1])
    assert drawn({"video": batch["video"]}, keys)["video"] is batch["video"]


def test_noise_on_the_first_frame(made, monkeypatch):
    """Of a random strength, before encoding; the video has none."""
    this = made("cogvideox i2v")
    noisy = opened(this, posterior="mode")
    assert noisy.recipe.image_noise
    one, two = (encoded(e, this.clips) for e in (noisy, dataclasses.replace(noisy)))
    strengths = []
    for plain, got, again in zip(this.examples, one, two, strict=True):
        np.testing.assert_array_equal(got["image"], again["image"])
        np.testing.assert_allclose(got["video"], plain["video"], atol=1e-5)
        strengths.append(np.abs(got["image"] - plain["image"]).mean())
        assert strengths[-1] > 1e-4
    assert len(np.unique(np.round(strengths, 6))) == 3
    assert IMAGE_NOISE == (-3.0, 0.5)


def test_latents_may_be_stored_in_fewer_bits(made):
    this = made("wan i2v")
    example = encoded(opened(this, stored="float16"), this.clips)[0]
    types = {name: x.dtype.name for name, x in example.items()}
    assert types == dict(
        video="float16", condition="float16", given="float32", text="bfloat16", clip="bfloat16"
    )
    want = this.examples[0]["video"]
    np.testing.assert_allclose(example["video"].astype(np.float32), want, rtol=2**-11, atol=1e-6)


def test_where_weights_are_kept_changes_nothing(made):
    this = made("wan i2v")
    encoders = opened(this, memory=Memory(keep="host", encoders_on="cpu"))
    for _ in range(2):
        for got, want in zip(encoded(encoders, this.clips), this.examples, strict=True):
            for name in want:
                np.testing.assert_array_equal(got[name], want[name])


def test_several_clips_at_once(made):
    """The last batch is filled up; nobody sees it."""
    this = made("cogvideox i2v")
    encoders = opened(this, posterior="mode", image_noise=False, per_device=2)
    for got, want in zip(encoded(encoders, this.clips), this.examples, strict=True):
        assert relative_error(got["video"], want["video"]) < 1e-5


def test_clips_of_another_size_are_refused(made):
    this = made("wan ti2v")
    short = Clips((32, 64), 5, 1)
    with pytest.raises(ClipError, match=r"'clip0': has frames of shape \(5, 32, 64, 3\), \(9, 32"):
        encoded(this.encoders, short)


def test_facts_name_every_encoder(made):
    this = made("wan i2v")
    facts = this.encoders.facts()
    assert set(facts["encoders"]) == {"vae", "text_encoder", "image_encoder", "tokenizer"}
    assert facts["arrays"]["clip"] == {"shape": [5, 20], "dtype": "bfloat16"}
    assert facts["arrays"]["text"] == {"shape": [512, 24], "dtype": "bfloat16"}
    assert (facts["size_hw"], facts["frames"], facts["model"]) == ([32, 48], 9, "wan2.1-i2v-14b")
    assert set(this.encoders.requirements()) < set(facts)


def test_encoders_of_another_model_are_refused(made, tmp_path):
    this = made("wan ti2v")
    other = made("wan i2v").folder / "vae"
    message = r"video: the encoders make \(3, 4, 8, 4\), wan2.2-ti2v-5b reads \(3, 4, 8, 6\)"
    with pytest.raises(ValueError, match=message):
        opened(this, parts={"vae": other})
