"""What a run has trained is what its folder samples, here and by the publishers' libraries."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tavid_jax
from configs.tavid import get_config
from tavid_jax.engine.method import Results
from tavid_jax.engine.placement import result_of
from tavid_jax.methods.registry import make_system
from tavid_jax.pipelines import read_card
from tavid_jax.pipelines.card import ADAPTERS, CARD, VECTORS
from tavid_jax.weights.patch_embed import COGVIDEOX_FILE
from tests.methods.finetune.tiny import random_params
from tests.methods.finetune.trained import STEPS
from tests.pipelines import trained

IMAGE = np.random.default_rng(7).integers(0, 256, (16, 16, 3), dtype=np.uint8)
MASK = np.zeros((16, 16), bool)
MASK[4:10, 2:6] = True
RULE = dict(path="blocks/attn/(q|k|v|o)", rank=2, alpha=3)  # a scale that is not one


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "cogvideox"
    trained.save("cogvideox", folder)
    return folder


def config_of(base, lora=(RULE,), **targets):
    """The demo, upon the smallest base."""
    made = get_config("demo")
    sizes, text = trained.CONFIGS["cogvideox"], trained.text_config("cogvideox")
    with made.unlocked():
        made.model.changes.update(dataclasses.asdict(sizes))
        made.text.changes.update(dataclasses.asdict(text))
    made.checkpoint = str(base)
    made.data.update(size_hw=(16, 16), frames=9)
    made.model.update(lora=lora, dtype="float32")
    made.targets.update(targets)
    made.attention.blocks.chosen = (0, 1)
    made.stages.tavid.steps = STEPS
    made.sampling.stored = "float32"
    return made


def finished(config, seed=4):
    """(system, method, params, results): random weights in the place of what is learned."""
    system = make_system(config)
    method = system.method("tavid")
    params = random_params(method, seed)
    result = jax.tree.map(np.asarray, result_of(method, params))
    curves, marks = {"tavid": [{"step": 1.0, "loss": 1.0}]}, {"config": "c", "weights/tavid": "w"}
    return system, method, params, Results(lambda *_: result, curves, {"tavid": 1.0}, marks)


def in_memory(method, params, sampling):
    """The base with what was learned."""
    lora = params["backbone"]["lora"] if method.backbone.model.lora else {}
    pipeline = trained.in_memory("cogvideox", lora=method.backbone.model.lora)
    part = pipeline.parts["transformer"]
    part.module = part.module.clone(config=method.backbone.model.config)
    names = ("patch_embed", "patch_embed_extra") if lora else tuple(params["backbone"])
    part.added = {name: params["backbone"][name] for name in names if name in params["backbone"]}
    part.added |= {"lora": lora} if lora else {}
    published = dataclasses.replace(pipeline.published, sampling=sampling)
    embedding = params.get("target_embedding")
    return dataclasses.replace(
        pipeline,
        published=published,
        targets=method.reader.targets,
        embedding=None if embedding is None else np.asarray(embedding),
    )


def sampled(pipeline, **fields):
    given = {"image": IMAGE, "mask": MASK, "seed": 3, "steps": 3} | fields
    return pipeline.sample("the red touches the target", **given).latents


def opened(system, results, folder):
    return system.sampler(results, types.SimpleNamespace(workdir=folder))


@pytest.mark.parametrize("embedding", [False, True])
def test_adapters_projection_and_vectors(base, tmp_path, embedding):
    system, method, params, results = finished(config_of(base, embedding=embedding, latent="max"))
    pipeline = opened(system, results, tmp_path)
    folder = tmp_path / "model"
    wanted = {CARD, ADAPTERS, COGVIDEOX_FILE, "vae"} | ({VECTORS} if embedding else set())
    assert {p.name for p in folder.iterdir()} == wanted
    card = read_card(folder)
    assert card.read_targets() == method.reader.targets == pipeline.targets
    assert card.backbone == "cogvideox-5b-i2v" and card.trained["weights/tavid"] == "w"
    want = sampled(in_memory(method, params, pipeline.published.sampling))
    np.testing.assert_allclose(sampled(pipeline), want, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(sampled(tavid_jax.load(folder)), sampled(pipeline))
    assert np.abs(want - sampled(pipeline, mask=MASK[:, ::-1].copy())).max() > 0.05
    # Written once: the same run is found there again.
    written = (folder / CARD).stat().st_mtime_ns
    system.export(results, folder)
    assert (folder / CARD).stat().st_mtime_ns == written


def test_a_whole_model(base, tmp_path):
    """Without adapters the transformer is saved as the published one, its channels beside it."""
    system, method, params, results = finished(config_of(base, lora=()))
    pipeline = opened(system, results, tmp_path)
    assert (tmp_path / "model" / "transformer").is_dir()
    assert (tmp_path / "model" / COGVIDEOX_FILE).is_file()
    assert pipeline.parts["transformer"].opened.config == trained.CONFIGS["cogvideox"]
    want = sampled(in_memory(method, params, pipeline.published.sampling))
    np.testing.assert_allclose(sampled(pipeline), want, rtol=0, atol=1e-5)


def test_the_baseline_without_masks(base, tmp_path):
    """Its projection was trained too, but it reads nothing, and says so."""
    config = config_of(base)
    config.masks.given = False
    config.attention.weight = 0.0
    system, method, params, results = finished(config)
    pipeline = opened(system, results, tmp_path)
    assert (tmp_path / "model" / COGVIDEOX_FILE).is_file() and pipeline.targets is None
    want = sampled(in_memory(method, params, pipeline.published.sampling), mask=None)
    np.testing.assert_allclose(sampled(pipeline, mask=None), want, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="reads no mask: it was not trained with targets"):
        sampled(pipeline)
    config.masks.patch = False
    system, _, _, results = finished(config)
    system.export(results, tmp_path / "other")
    assert not (tmp_path / "other" / COGVIDEOX_FILE).exists()


@pytest.mark.parity
def test_diffusers_opens_both_files(base, tmp_path):
    """As the released code does: the convolution by its state, the adapters by their loader."""
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    pytest.importorskip("peft")
    from safetensors.torch import load_file as load_torch

    from tests.models.cogvideox.test_parity import torch_rotary

    system, method, params, results = finished(config_of(base))
    folder = system.export(results, tmp_path / "model")
    theirs = diffusers.CogVideoXTransformer3DModel.from_pretrained(base / "transformer")
    config = method.backbone.model.config
    conv = torch.nn.Conv2d(config.in_channels + 1, config.dim, 2, 2)
    conv.load_state_dict(torch.load(folder / COGVIDEOX_FILE, weights_only=True), strict=True)
    theirs.patch_embed.proj = conv
    theirs.load_lora_adapter(load_torch(folder / ADAPTERS), prefix="transformer")
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((1, 3, 8, 8, config.in_channels)).astype(np.float32)
    mask = rng.random((1, 3, 8, 8, 1)).astype(np.float32)
    text = rng.standard_normal((1, 12, 16)).astype(np.float32)
    with torch.no_grad():
        got = theirs(
            torch.from_numpy(np.moveaxis(np.concatenate([latents, mask], -1), -1, 2).copy()),
            torch.from_numpy(text),
            torch.tensor([640]),
            image_rotary_emb=torch_rotary(config, (3, 8, 8)),
            return_dict=False,
        )[0].numpy()
    learned = params["backbone"]
    names = ("lora", "patch_embed", "patch_embed_extra")
    whole = trained.parts_of("cogvideox")["transformer"].params | {n: learned[n] for n in names}
    given = map(jnp.asarray, (latents, np.array([640.0], np.float32), text))
    want = jax.jit(method.backbone.model.apply)(
        {"params": jax.tree.map(jnp.asarray, whole)}, *given, extra=jnp.asarray(mask)
    )
    np.testing.assert_allclose(np.moveaxis(got, 2, -1), np.asarray(want), rtol=0, atol=2e-4)
