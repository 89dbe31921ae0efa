"""Trained models as folders: what was trained is what is opened, here and by the publishers."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tavid_jax.models.layers.lora import LoraRule, init_lora
from tavid_jax.models.text.tokenizer import CAPTIONS
from tavid_jax.pipelines import Adapters, Model, open_pipeline
from tavid_jax.pipelines.card import CARD, read_card
from tavid_jax.weights import WeightsError, open_parameters
from tests.pipelines import trained

FAMILIES = ("wan", "cogvideox")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    for family in FAMILIES:
        trained.save(family, root / family)
    return {family: root / family for family in FAMILIES}


def refuses(words):
    return pytest.raises(WeightsError, match=words)


# ---- what is saved is what was trained ------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_those_of_the_trees_in_memory(folders, family):
    got = trained.sample(open_pipeline(folders[family]))
    want = trained.sample(trained.in_memory(family))
    assert got.shape == (3, 8, 8, 48) and np.ptp(want) > 0.5
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_has_its_place(folders, family):
    found = {p.relative_to(folders[family]).as_posix() for p in folders[family].rglob("*.*")}
    assert found == {
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "vae/config.json",
        "tokenizer/spiece.model",
        CARD,
    }
    card = read_card(folders[family])
    assert set(card.files) == found - {CARD}
    assert dataclasses.replace(card, files={}) == trained.CARDS[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_come_back(folders, family):
    for part, model in trained.parts_of(family).items():
        assert open_parameters(folders[family] / part).config == model.config


def test_another_length_is_sampled_too(folders):
    latents = trained.sample(open_pipeline(folders["wan"]), frames=13, size_hw=(16, 24), steps=1)
    assert latents.shape == (4, 8, 12, 48)


def test_pixels_come_out(folders):
    video = open_pipeline(folders["wan"]).sample(trained.PROMPT, steps=1)
    assert video.frames.shape == (9, 16, 16, 3) and video.frames.dtype == np.uint8
    assert video.provenance["model"] == "smallest-wan"
    assert set(video.provenance["weights"]) == {"transformer", "text_encoder", "vae"}


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_half_precision_is_what_the_card_says(tmp_path, stored):
    card = dataclasses.replace(trained.CARDS["wan"], stored=stored)
    trained.save("wan", tmp_path / "model", card=card)
    leaves = open_parameters(tmp_path / "model" / "transformer").leaves
    assert {str(leaf.dtype) for leaf in leaves.values()} == {stored}
    want = trained.sample(trained.in_memory("wan"))
    near = trained.sample(open_pipeline(tmp_path / "model"))
    assert 0 < np.abs(near - want).max() < 0.2 * np.ptp(want)


# ---- adapters -------------------------------------------------------------------------------


def adapted(seed=5):
    config = trained.CONFIGS["wan"]
    rules = (LoraRule("blocks/attn/(q|k|v|o)", rank=2, alpha=4),)
    base = trained.parts_of("wan")["transformer"].params
    shapes = jax.eval_shape(lambda: init_lora(jax.random.key(0), base, rules))
    return Adapters(config, trained.random_params(shapes, seed), rules)


def test_adapters_are_saved_with_the_name_of_their_base(folders, tmp_path):
    adapters = adapted()
    card = dataclasses.replace(trained.CARDS["wan"], checkpoint=str(folders["wan"]))
    trained.save("wan", tmp_path / "lora", card=card, parts={}, adapters=adapters, tokenizer=None)
    files = {p.name for p in (tmp_path / "lora").iterdir()}
    assert files == {CARD, "pytorch_lora_weights.safetensors"}
    got = trained.sample(open_pipeline(tmp_path / "lora"))
    memory = trained.in_memory("wan", lora=adapters.rules)
    memory.parts["transformer"].added = {"lora": adapters.params}
    want = trained.sample(memory)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.abs(want - trained.sample(trained.in_memory("wan"))).max() > 0.1
    with pytest.raises(ValueError, match="has adapters of its own"):
        open_pipeline(tmp_path / "lora", lora=tmp_path / "lora")


# ---- the publishers' libraries --------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_opens_the_transformer(folders, family):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    kinds = {"wan": "WanTransformer3DModel", "cogvideox": "CogVideoXTransformer3DModel"}
    theirs = getattr(diffusers, kinds[family]).from_pretrained(folders[family] / "transformer")
    config, rng = trained.CONFIGS[family], np.random.default_rng(0)
    latents = rng.standard_normal((1, 3, 8, 8, config.in_channels)).astype(np.float32)
    text = rng.standard_normal((1, 12, 16)).astype(np.float32)
    part = trained.in_memory(family).parts["transformer"]
    with part.hold() as params:
        want = np.asarray(part.apply(params, latents, np.array([640.0], np.float32), text))
    axis, time = (1, torch.tensor([640.0])) if family == "wan" else (2, torch.tensor([640]))
    given = [torch.from_numpy(np.moveaxis(latents, -1, axis).copy())]
    more = {}
    if family == "wan":
        given += [time, torch.from_numpy(text)]
    else:
        given += [torch.from_numpy(text), time]
        more = {"image_rotary_emb": _rotary(config)}
    with torch.no_grad():
        got = theirs(*given, **more, return_dict=False)[0].numpy()
    np.testing.assert_allclose(np.moveaxis(got, axis, -1), want, rtol=0, atol=2e-4)


def _rotary(config):
    from tests.models.cogvideox.test_parity import torch_rotary

    return torch_rotary(config, (3, 8, 8))


@pytest.mark.parity
@pytest.mark.parametrize(
    ("family", "kind"), [("wan", "UMT5EncoderModel"), ("cogvideox", "T5EncoderModel")]
)
def test_transformers_opens_the_text_encoder(folders, family, kind):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    theirs = getattr(transformers, kind).from_pretrained(folders[family] / "text_encoder")
    pipeline = trained.in_memory(family)
    ids, mask = pipeline.tokenizer(trained.PROMPT, 12)
    part = pipeline.parts["text_encoder"]
    with part.hold() as params:
        want = np.asarray(part.apply(params, ids, mask))
    with torch.no_grad():
        got = theirs(torch.from_numpy(ids).long(), torch.from_numpy(mask).long())
    real = mask[0]
    np.testing.assert_allclose(
        got.last_hidden_state.numpy()[0][real], want[0][real], rtol=0, atol=1e-4
    )


# ---- what cannot be saved -------------------------------------------------------------------


def with_leaf(value):
    """The Wan parts with one parameter that is all `value`."""
    parts = dict(trained.parts_of("wan"))
    params = dict(parts["transformer"].params)
    params["out_modulation"] = np.full_like(params["out_modulation"], value)
    return parts | {"transformer": Model(parts["transformer"].config, params)}


def test_too_large_for_half_precision(tmp_path):
    card = dataclasses.replace(trained.CARDS["wan"], stored="float16")
    with refuses("transformer: out_modulation reaches 7e\\+04, more than float16 holds; store it"):
        trained.save("wan", tmp_path / "model", card=card, parts=with_leaf(7e4))
    assert not list(tmp_path.iterdir())
    trained.save("wan", tmp_path / "model", parts=with_leaf(7e4))


def test_not_finite(tmp_path):
    with refuses("transformer: out_modulation holds values that are not finite"):
        trained.save("wan", tmp_path / "model", parts=with_leaf(np.nan))
    assert not list(tmp_path.iterdir())


def test_parts_that_are_missing_are_named(tmp_path):
    parts = {"vae": trained.parts_of("wan")["vae"]}
    with refuses("smallest-wan: transformer, text_encoder, tokenizer missing: give them, or the"):
        trained.save("wan", tmp_path / "model", parts=parts, tokenizer=None)
    card = dataclasses.replace(trained.CARDS["wan"], backbone="wan2.1-i2v-14b")
    with refuses("smallest-wan: image_encoder missing"):
        trained.save("wan", tmp_path / "model", card=card)


def test_arguments_that_make_no_sense(tmp_path):
    card = dataclasses.replace(trained.CARDS["wan"], stored="int8")
    with refuses("weights stored as 'int8': there are float32, bfloat16, float16"):
        trained.save("wan", tmp_path / "model", card=card)
    with refuses("'unet' cannot be saved; there are transformer, text_encoder, vae"):
        trained.save("wan", tmp_path / "model", parts={"unet": trained.parts_of("wan")["vae"]})
    with refuses("adapters beside a transformer that was trained itself"):
        trained.save("wan", tmp_path / "model", adapters=adapted())


def test_an_older_one_is_replaced_and_other_folders_are_not(tmp_path):
    trained.save("wan", tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("of the older one")
    with refuses("not finite"):
        trained.save("wan", tmp_path / "model", parts=with_leaf(np.inf))
    read_card(tmp_path / "model")  # still whole
    again = trained.save("wan", tmp_path / "model", parts=trained.parts_of("wan", 1))
    assert read_card(tmp_path / "model") == again
    assert not (tmp_path / "model" / "notes.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with refuses("mine exists already and is no folder of a trained model"):
        trained.save("wan", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"
    assert {p.name for p in tmp_path.iterdir()} == {"model", "mine"}


def test_a_tokenizer_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "spiece.model").write_bytes(CAPTIONS.read_bytes())
    (tmp_path / "words" / "added_tokens.json").write_text(json.dumps({"<new>": 300}))
    trained.save("wan", tmp_path / "model", tokenizer=tmp_path / "words")
    assert (tmp_path / "model" / "tokenizer" / "added_tokens.json").is_file()
