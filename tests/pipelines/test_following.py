"""Videos that follow tracks: from a job to pixels, against diffusers' pipeline and autoencoders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("imageio_ffmpeg")

import torch
from PIL import Image

from tavid_jax.data.rle_masks import write_rle_masks
from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.data.video import write_video
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.pipelines import Job, open_pipeline
from tavid_jax.pipelines.cli import main
from tavid_jax.pipelines.control import CONTROL, CONTROL_IMAGE
from tavid_jax.pipelines.images import to_pixels
from tavid_jax.tracks.trajectories import Trajectories
from tavid_jax.viz import media
from tavid_jax.weights import save_flextraj
from tests.models.random_weights import relative_error
from tests.pipelines import tiny
from tests.pipelines.reference import cogvideox, noise_of, picture, sample

SIZE_HW, FRAMES = (32, 48), 9
TRANSFORMER = dict(in_channels=8, use_learned_positional_embeddings=True)
COGVIDEOX, WAN = "cogvideox-5b-i2v", "wan2.2-ti2v-5b"
SMALL = dict(size_hw=SIZE_HW, frames=FRAMES, posterior="mode")
IMAGE = picture(SIZE_HW, 5)
TRACKS = Trajectories(
    np.random.default_rng(0).uniform(0, 32, (20, 1, 2)) + np.arange(FRAMES)[:, None] * [1.0, 0.5],
    np.random.default_rng(1).uniform(size=(20, FRAMES)) > 0.2,
    SIZE_HW,
)
HIDDEN = TRACKS.replace(visibility=np.zeros_like(TRACKS.visibility))


def control_file(path, pipeline, paths):
    """As the released ones are, of random numbers."""
    part, kind = pipeline.parts["transformer"], pipeline.published.family
    rules = (LoraRule(paths, 3, stream="condition"),)
    module, dim = part.module.clone(lora=rules), part.config.dim
    init = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros(1), method="embed_time")["params"]
    )
    rng = np.random.default_rng(5)
    shapes = {"lora": init["lora"], "fuse": {"kernel": np.zeros((dim, dim)), "bias": np.zeros(dim)}}
    params = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape, scale=0.3)), shapes)
    return save_flextraj(path, params, kind, part.config, rules)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(pipeline without, pipeline with a file of control, models of torch, folder)."""
    folder = tmp_path_factory.mktemp("following")
    models = tiny.cogvideox_folder(folder / "base", 90, transformer=TRANSFORMER)
    base = open_pipeline(COGVIDEOX, folder / "base", strict=False)
    file = control_file(folder / "control.safetensors", base, "blocks/attn/(q|k|v|o)")
    return (
        base,
        open_pipeline(COGVIDEOX, folder / "base", control=file, strict=False),
        models,
        folder,
    )


def encoded(pipeline, job, size_hw=SIZE_HW, **options):
    """A task after the phase of encoding."""
    options = {"size_hw": size_hw, "frames": FRAMES, "posterior": "mode"} | options
    task = pipeline._task(Job.of({**job, **options}), "one")
    pipeline._encode([task])
    return task


def latents_of(models, videos):
    """Modes of the torch autoencoder's posteriors, (M, F, h, w, C), not scaled."""
    x = torch.from_numpy(to_pixels(np.stack(videos)).transpose(0, 4, 1, 2, 3).copy())
    with torch.no_grad():
        found = torch.cat([models["vae"].encode(one[None]).latent_dist.mode() for one in x])
    return found.numpy().transpose(0, 2, 3, 4, 1)


def test_a_whole_pipeline_equals_diffusers_with_condition_tokens_in_lock_step(made, monkeypatch):
    """diffusers' own pipeline samples; its transformer is ours, to which the condition's latents,
    from diffusers' autoencoder, are given in every step. Ours walks them once."""
    _, pipeline, models, _ = made
    noise = noise_of((3, 4, 6, 4), 8)
    job = dict(image=IMAGE, tracks=TRACKS, source=np.stack([IMAGE] * FRAMES))
    job["follow"] = {"colour": "frame", "keep_frames": 0.4}
    got = sample(pipeline, **job, noise=noise, **SMALL, guidance=6.0)
    task = pipeline._task(Job.of({"prompt": "a", **job, **SMALL}), "one")
    ids, colours = task.guide.videos()
    assert [bool(frame.any()) for frame in ids] == [t in (0, 4, 8) for t in range(FRAMES)]
    assert colours.any() and not colours[ids[..., 0] == 0].any()
    scale = pipeline.parts["vae"].config.scaling_factor
    control = {
        CONTROL: scale * latents_of(models, [ids, colours]),
        CONTROL_IMAGE: scale * latents_of(models, [ids[:1], colours[:1]])[:, 0],
    }
    predict = jax.jit(task.backbone.predict)

    def forward(hidden_states, encoder_hidden_states, timestep, **_):
        x = jnp.asarray(hidden_states.numpy().transpose(0, 1, 3, 4, 2))
        batch = {name: jnp.stack([jnp.asarray(y)] * len(x)) for name, y in control.items()}
        batch |= {"text": jnp.asarray(encoder_hidden_states.numpy()), "image": x[:, 0, ..., 4:]}
        out = predict(params, x[..., :4], jnp.asarray(timestep.numpy(), jnp.float32), batch)
        return (torch.from_numpy(np.asarray(out).transpose(0, 1, 4, 2, 3).copy()),)

    monkeypatch.setattr(models["transformer"], "forward", forward)
    monkeypatch.setattr(
        "diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video.retrieve_latents",
        lambda found, _: found.latent_dist.mode(),
    )
    with pipeline.parts["transformer"].hold() as params:
        want = cogvideox(pipeline, models, noise, SIZE_HW, FRAMES, 6.0, image=IMAGE)
    got.assert_near(want)


def test_what_follows_nothing_is_the_base_model_s_video_bit_for_bit(made, caplog):
    base, pipeline, _, _ = made
    options = dict(image=IMAGE, **SMALL, steps=2, guidance=1.0, control_guidance=3.0)
    options["follow"] = {}
    want = base.sample("rests", **options)
    plain = pipeline.sample("rests", **options)
    caplog.set_level("INFO", logger="absl")
    hidden = pipeline.sample("rests", tracks=HIDDEN, **options | {"follow": {"unaligned": "given"}})
    for video in (plain, hidden):
        np.testing.assert_array_equal(video.latents, want.latents)
        assert video.guide is None
    assert "no point is visible in any frame; the plain cogvideox-5b-i2v makes it" in caplog.text
    assert plain.provenance["control"] is None
    assert hidden.provenance["control"]["unconditioned"] == "no point is visible"
    assert hidden.provenance["prompt"] == "rests"
    assert hidden.provenance["weights"]["control"] and "control" not in want.provenance["weights"]


def test_guidance_by_condition_videos_adds_a_branch_with_black_ones(made):
    pipeline = made[1]
    job = {"prompt": "rests", "image": IMAGE, "tracks": TRACKS, "follow": {"unaligned": "shift"}}
    task = encoded(pipeline, job, control_guidance=2.0)
    assert task.job.prompt == "unaligned, rests"
    (batch,) = pipeline._batches([task], 1)
    bare, without, with_ = batch.branches(True, np.float32)
    assert without[CONTROL] is with_[CONTROL] and not np.array_equal(bare[CONTROL], with_[CONTROL])
    black = np.zeros((FRAMES, *SIZE_HW, 3), np.uint8)
    want = pipeline.parts["vae"].config.scaling_factor * latents_of(made[2], [black] * 2)
    assert relative_error(np.asarray(bare[CONTROL][0]), want) < 1e-4
    np.testing.assert_array_equal(bare["text"], without["text"])
    assert not np.array_equal(without["text"], with_["text"])
    again = encoded(pipeline, job, control_guidance=2.0)
    assert again.black is task.black  # encoded once for a size
    drawn = encoded(pipeline, job, posterior="sample")
    other = encoded(pipeline, job, posterior="sample", seed=1)
    spread = np.std(drawn.conditions[CONTROL] - task.conditions[CONTROL])
    assert 0 < spread and not np.array_equal(drawn.conditions[CONTROL], other.conditions[CONTROL])


def test_wan_takes_the_mode(tmp_path):
    sizes = dict(in_channels=6, out_channels=6)
    models = tiny.wan_folder(tmp_path / "wan", 40, transformer=sizes, vae=tiny.WAN_VAE_2)
    base = open_pipeline(WAN, tmp_path / "wan", strict=False)
    paths = "blocks/(attn/(q|k|v|o)|cross/(q|o))"
    file = control_file(tmp_path / "control.safetensors", base, paths)
    pipeline = open_pipeline(WAN, tmp_path / "wan", control=file, strict=False)
    task = encoded(pipeline, {"prompt": "rests", "tracks": TRACKS}, (32, 64), frames=1)
    config = pipeline.parts["vae"].config
    found = latents_of(models, task.guide.videos())
    want = (found - np.asarray(config.latent_mean)) / np.asarray(config.latent_std)
    assert relative_error(task.conditions[CONTROL], want) < 1e-4
    assert CONTROL_IMAGE not in task.conditions


def bench_file(folder):
    """FlexBench's list of three videos of one clip, with its files."""
    rng = np.random.default_rng(3)
    start = rng.uniform((100, 60), (600, 400), (40, 1, 2))
    tracks = start + np.arange(FRAMES)[:, None] * [9.0, 0.0]
    visible = np.ones(tracks.shape[:2], bool)
    depth = rng.uniform(size=visible.shape)
    made = Trajectories(tracks, visible, (480, 720), depth=depth)
    write_trajectories(folder / "clip" / "tracks.npy", made)
    masks = np.zeros((FRAMES, 2, 480, 720), bool)
    masks[:, 0, :, :360], masks[:, 1, 100:300, 360:] = True, True
    write_rle_masks(folder / "clip" / "masks.pkl", masks)
    write_video(folder / "clip" / "a.mp4", [picture((48, 72), t) for t in range(FRAMES)], 8)
    common = {
        "is_real_video": True,
        "tracking_map_path": "tracks.npy",
        "seg_map_path": "masks.pkl",
        "validation_prompt": "rests",
        "validation_videos": "a.mp4",
    }
    entries = [
        {"use_color": True, "temporal_config": {"temporal_scale": 0.0}},
        {"spatial_config": {"spatial_scale": 0.3, "spatial_mode": "region"}},
        {"unalign_config": {"shift_scale": 1.5}, "name": "moved"},
    ]
    lists = [{"prefix": "clip/", "validations": [common | entry for entry in entries]}]
    (folder / "flexbench.json").write_text(json.dumps(lists))
    return folder / "flexbench.json"


def test_flexbench_and_its_colours_by_the_command(made, tmp_path):
    folder = made[3]
    (tmp_path / "clip").mkdir()
    run = [COGVIDEOX, str(folder / "base"), "--control", str(folder / "control.safetensors")]
    run += ["--flexbench", str(bench_file(tmp_path)), "--root", str(tmp_path), "--any-size"]
    run += ["--size-hw", "32x48", "--frames", "9", "--steps", "1", "--guidance", "1"]
    out = tmp_path / "out"
    assert main([*run, "--batch-size", "3", "--out", str(out)]) == 0
    names = ["0_0", "0_1", "moved"]
    files = sorted(path.name for path in out.iterdir())
    assert files == sorted(f"{n}{end}.mp4" for n in names for end in ("", "_condition"))
    told = [media.read_provenance((out / f"{name}.mp4").read_bytes()) for name in names]
    assert [one["prompt"] for one in told] == ["rests", "rests", "unaligned, rests"]
    ways = [one["control"]["follow"] for one in told]
    assert [way["colour"] for way in ways] == ["frame", "none", "none"]  # it does not leak
    assert [way["keep_frames"] for way in ways] == [0.0, 1.0, 1.0]
    assert (ways[1]["choose"], ways[2]["unaligned"]) == ("region", "scale")
    videos = [one["control"]["videos"] for one in told]
    assert videos[1][1] == videos[2][1] != videos[0][1]  # black ones
    assert len({ids for ids, _ in videos}) == 3 and len({one["images"][0] for one in told}) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(tracks=TRACKS.window(0, 5)), "tracks have 5 frames, frames 0 to 8 are asked for"),
        (dict(tracks="gone.json"), "gone.json: no such file"),
        (dict(control_videos=[np.zeros((5, 8, 8, 3), np.uint8)]), "has 5 frames, 9 are needed"),
        (dict(tracks=TRACKS, follow={"colour": "frame"}), "give it"),
        (dict(tracks=TRACKS, follow={"keep_frames": [0, 9]}), "the last one is 8"),
        (dict(tracks=TRACKS, follow={"choose": "region", "keep_points": 0.5}), "needs regions"),
        (dict(tracks=TRACKS, segments=np.ones((1, 8, 8), bool)), "masks are 8x8"),
        (dict(tracks=TRACKS, control_guidance=-1), "control_guidance -1: give a scale"),
    ],
)
def test_what_cannot_be_followed_is_told_before_anything_is_made(made, fields, message):
    with pytest.raises(ValueError, match=message):
        made[1].run([Job.of({"prompt": "a", "image": IMAGE, **SMALL, **fields})])


def test_a_model_that_follows_nothing_says_what_to_give(made):
    with pytest.raises(ValueError, match="follows no tracks.*--control"):
        made[0].run([Job.of({"prompt": "a", "image": IMAGE, "tracks": TRACKS, **SMALL})])


def test_pictures_that_were_made_elsewhere_lie_over_tracks(made):
    ids = np.zeros((FRAMES + 3, 64, 96, 3), np.uint8)
    ids[:, :32] = (200, 1, 2)
    source = np.stack([np.asarray(Image.fromarray(IMAGE).resize((96, 64)))] * FRAMES)
    follow = {"colour": "frame", "native": True}
    job = {"prompt": "a", "tracks": TRACKS, "control_videos": ids, "source": source}
    task = made[1]._task(Job.of({**job, "follow": follow, **SMALL}), "one")
    drawn, colours = task.guide.videos()
    assert (drawn[:, :16] == (200, 1, 2)).all() and drawn[:, 16:].any()
    assert (drawn[:, 16:, :, 0] < 200).any()
    shown = drawn[..., 0] > 0
    assert not colours[~shown].any() and colours[shown].any()
    assert task.images[0].shape == (64, 96, 3)  # the source's first frame
