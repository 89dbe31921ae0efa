"""A finished run is sampled from its folder as it was trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tavid_jax
from tavid_jax.engine.method import Results
from tavid_jax.methods.registry import make_system
from tavid_jax.models.layers.located import Laca
from tavid_jax.pipelines import Locate, open_pipeline, read_card
from tavid_jax.pipelines import bases as packaged
from tavid_jax.pipelines.card import ADAPTERS, STEERING
from tavid_jax.pipelines.denoising import sampler_of
from tavid_jax.pipelines.laca_files import shapes_of
from tavid_jax.pipelines.located import NODE
from tavid_jax.weights import WeightsError
from tests.methods.finetune import bases, tiny
from tests.pipelines.trained import random_params

PRESETS = ("tiny_wan", "tiny_cogvideox")
RULES = (dict(path="blocks/attn/(q|k|v|o)", rank=2, alpha=4),)
STEER = dict(path="blocks/attn/(q|k|v|o)", rank=2, alpha=2, stream="condition", name="steer")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{preset: (folder, config)} of runs that are over."""
    root = tmp_path_factory.mktemp("runs")
    made = {}
    for preset in PRESETS:
        made[preset] = root / preset, bases.config(preset)
        bases.write_run(*made[preset])
    return made


def as_trained(method, params, sampler, scale, noise, tokens, image):
    """Deterministic sampling by the functions that training uses, in terms of the clean latent."""
    encoded = method.encode(params, {"video": image, **tokens}, jax.random.split(jax.random.key(0)))
    batch = {"text": method.words.features(params["text_encoder"], **tokens)}
    batch |= {"image": encoded["image"]} if "image" in encoded else {}
    x = jnp.stack([noise, noise])  # without the caption, with it
    for i, timestep in enumerate(sampler.timesteps):
        time = jnp.full((2,), timestep, jnp.float32)
        without, given = method.backbone.output(params["backbone"], x, time, batch)
        x0 = without + scale * (given - without)
        if "x0" in sampler.table:  # DDIM
            x = sampler.table["x"][i] * x + sampler.table["x0"][i] * x0
        else:
            noise = (x - sampler.alphas[i] * x0) / sampler.sigmas[i]
            x = sampler.alphas[i + 1] * x0 + sampler.sigmas[i + 1] * noise
    return np.asarray(x[0])


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_sampled_is_what_was_trained(runs, preset):
    folder, config = runs[preset]
    system, results, inputs = bases.opened(folder, config)
    method = system.method(bases.STAGE)
    params = jax.tree.map(jnp.asarray, results.params(bases.STAGE))
    pipeline = system.sampler(results, inputs)
    clip = inputs.open("test")[0]
    noise = np.random.default_rng(0).standard_normal((3, 12, 12, 48)).astype(np.float32)
    image = {"image": clip.video[0]} if preset == "tiny_cogvideox" else {}
    got = pipeline.sample(clip.caption, noise=noise, **image).latents
    sampling = pipeline.published.sampling
    assert (sampling.steps, sampling.guidance, sampling.size_hw) == (2, 3.5, (24, 24))
    sampler = sampler_of(method.backbone, pipeline.published, sampling)
    both = [method.words.read(caption) for caption in ("", clip.caption)]
    tokens = {name: jnp.stack([one[name] for one in both]) for name in both[0]}
    video = jnp.stack([clip.video, clip.video])
    want = as_trained(method, params, sampler, 3.5, noise, tokens, video)
    assert np.ptp(want) > 0.5
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)


def test_the_card_of_a_run(runs):
    folder, config = runs["tiny_wan"]
    system, results, inputs = bases.opened(folder, config)
    card = read_card(system.export(results, folder / "model"))
    assert (card.name, card.backbone, card.predicts) == ("tiny-wan", "wan2.1-t2v-1.3b", "data")
    assert (card.autoencoder, card.dtype, card.stored) == ("space-to-depth", "float32", "float32")
    assert (card.sampling.shift, card.sampling.fps, card.checkpoint) == (4.0, 8.0, "")
    assert card.loss_curve == ((1, 1.0), (2, 0.5), (3, 1 / 3))
    origin = dict(card.trained)
    assert origin.pop("devices").endswith("cpu")
    assert origin == {
        "config": results.provenance["config"],
        "seed": 0,
        "command": "python -m tavid_jax.main --config=configs/finetune.py:tiny_wan",
        "steps": 300,
        "seconds": 12.5,
        "version": tavid_jax.__version__,
        "weights/finetune": "mark0",
    }


def test_a_run_is_written_once_and_again_when_it_changes(tmp_path):
    config = bases.config()
    bases.write_run(tmp_path / "run", config)
    folder = tmp_path / "run" / "model"
    for seed, sampling in ((0, {}), (0, dict(stored="bfloat16")), (1, dict(stored="bfloat16"))):
        config.sampling.update(sampling)
        bases.write_run(tmp_path / "run", config, seed)
        system, results, _ = bases.opened(tmp_path / "run", config)
        system.export(results, folder)
        written = (folder / "base.json").stat().st_mtime_ns
        assert read_card(folder).trained["weights/finetune"] == f"mark{seed}"
        system.export(results, folder)
        assert (folder / "base.json").stat().st_mtime_ns == written
    (folder / "vae" / "config.json").unlink()
    system.export(results, folder)
    assert read_card(folder).stored == "bfloat16"


def test_load_opens_a_run(runs):
    folder, _ = runs["tiny_wan"]
    video = tavid_jax.load(folder).sample("a red disc moves left", steps=1)
    assert video.frames.shape == (9, 24, 24, 3)
    again = tavid_jax.load(folder / "model").sample("a red disc moves left", steps=1)
    np.testing.assert_array_equal(video.frames, again.frames)


def test_adapters_of_a_packaged_base(runs, tmp_path, monkeypatch):
    folder, _ = runs["tiny_wan"]
    system, results, _ = bases.opened(*runs["tiny_wan"])
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "bases")
    base = system.export(results, tmp_path / "bases" / "tiny_wan")
    config = bases.config()
    config.checkpoint = "tiny-wan"
    config.model.lora = RULES
    config.text.train = False
    config.sampling.options = dict(guidance=1.0)
    bases.write_run(tmp_path / "run", config, seed=4)
    system, results, inputs = bases.opened(tmp_path / "run", config)
    pipeline = system.sampler(results, inputs)
    assert {p.name for p in (tmp_path / "run" / "model").iterdir()} == {
        "base.json", "vae", "pytorch_lora_weights.safetensors",
    }  # fmt: skip
    # What the config does not say is the base's.
    assert pipeline.published.sampling.steps == 2 and pipeline.published.sampling.guidance == 1.0
    assert pipeline.published.sampling.shift == 4.0
    options = dict(seed=1, guidance=1.0)
    with_them = pipeline.sample("a red disc moves left", **options).latents
    without = open_pipeline(base).sample("a red disc moves left", **options).latents
    assert np.abs(with_them - without).max() > 1e-2


def test_a_model_of_which_parts_lie_nowhere(tmp_path):
    config = bases.config()
    config.text.train, config.evaluate.judge = False, "none"
    bases.write_run(tmp_path / "run", config)
    system, results, inputs = bases.opened(tmp_path / "run", config)
    with pytest.raises(WeightsError, match="tiny-wan: text_encoder, tokenizer missing: give them"):
        system.sampler(results, inputs)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("lora", [(), (STEER,), (STEER, *RULES)], ids=["all", "steer", "both"])
def test_what_reads_condition_videos_has_a_file_of_its_own(runs, tmp_path, lora):
    system, results, _ = bases.opened(*runs["tiny_wan"])
    base = system.export(results, tmp_path / "base")
    config = bases.config()
    config.checkpoint, config.text.train, config.model.lora = str(base), False, lora
    with config.unlocked():
        config.model.changes.condition_videos = 2
    system = make_system(config)
    params = tiny.random_params(system.method(bases.STAGE), 3)
    result = {"backbone": jax.tree.map(np.asarray, params["backbone"])}
    curves, marks = {bases.STAGE: [{"step": 1.0, "loss": 1.0}]}, {"config": "c"}
    results = Results(lambda *_: result, curves, {bases.STAGE: 1.0}, marks)
    folder = system.export(results, tmp_path / "model")
    assert (folder / STEERING).is_file()
    assert (folder / ADAPTERS).is_file() == (len(lora) == 2)
    assert (folder / "transformer").is_dir() == (not lora)
    part = open_pipeline(folder).parts["transformer"]
    assert part.config.condition_videos == 2
    streams = {0: [], 1: ["condition"], 2: ["all", "condition"]}
    assert sorted(rule.stream for rule in part.module.lora) == streams[len(lora)]
    with part.hold() as have:
        np.testing.assert_array_equal(have["fuse"]["kernel"], result["backbone"]["fuse"]["kernel"])
        if lora:
            steered = have["lora"]["steer"]["blocks"]["attn"]["q"]["b"]
            wanted = result["backbone"]["lora"]["steer"]["blocks"]["attn"]["q"]["b"]
            np.testing.assert_allclose(steered, wanted, rtol=1e-6)


def test_what_reads_local_texts_has_a_file_of_its_own(runs, tmp_path, monkeypatch):
    """Beside it stands the transformer only where the run has trained it, too."""
    system, results, _ = bases.opened(*runs["tiny_wan"])
    base = system.export(results, tmp_path / "base")
    config = bases.config()
    config.checkpoint, config.text.train = str(base), False
    system = make_system(config)
    method = system.method(bases.STAGE)
    how = Locate(Laca(rank=2), points=3, text_positions=6)
    monkeypatch.setattr(type(method), "locate", lambda self: how.to_json())
    own = results.params(bases.STAGE)["backbone"]
    node = random_params(shapes_of(how, method.backbone.model.config), 5)
    curves, marks = {bases.STAGE: [{"step": 1.0, "loss": 1.0}]}, {"config": "c"}
    for name, backbone in (("same", {}), ("other", jax.tree.map(lambda x: 2 * x, own))):
        result = {"backbone": {**backbone, NODE: node}}
        made = Results(lambda *_, r=result: r, curves, {bases.STAGE: 1.0}, marks)
        folder = system.export(made, tmp_path / name)
        assert (folder / "transformer").is_dir() == (name == "other")
        assert Locate.of(read_card(folder).locate) == how
        written = (folder / "base.json").stat().st_mtime_ns
        system.export(made, folder)  # the same lies there already
        assert (folder / "base.json").stat().st_mtime_ns == written
        with open_pipeline(folder).parts["transformer"].hold() as have:
            jax.tree.map(np.testing.assert_array_equal, have[NODE], node)
            want = backbone.get("out_modulation", own["out_modulation"])
            np.testing.assert_array_equal(have["out_modulation"], want)
