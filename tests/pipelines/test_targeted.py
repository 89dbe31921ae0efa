"""Models with targets: as folders, in batches, with attention led by hand, with learned vectors."""

import dataclasses
import json

import numpy as np
import pytest

import tavid_jax
from tavid_jax.pipelines import Job, open_pipeline, read_card
from tavid_jax.pipelines.card import ADAPTERS, CARD, VECTORS, Card
from tavid_jax.pipelines.pretrained import open_trained
from tavid_jax.pipelines.targets import Targets
from tavid_jax.weights import WeightsError
from tavid_jax.weights.patch_embed import COGVIDEOX_FILE, WAN_FILE
from tests.pipelines import trained
from tests.pipelines.trained import TARGET_PROMPT

TARGETS = Targets(sentence="", embedding=True, latent="max")
IMAGE = np.random.default_rng(7).integers(0, 256, (16, 16, 3), dtype=np.uint8)
LEFT = np.zeros((16, 16), bool)
LEFT[4:10, 2:6] = True
RIGHT = LEFT[:, ::-1].copy()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "cogvideox"
    trained.save("cogvideox", folder)
    return folder


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory):
    """(folder, what lies in it)."""
    folder, made = tmp_path_factory.mktemp("trained") / "model", trained.targeted(targets=TARGETS)
    trained.save_targeted("cogvideox", base, folder, made)
    return folder, made


@pytest.fixture(scope="module")
def pipeline(saved):
    return open_pipeline(saved[0])


@pytest.fixture(scope="module")
def stock(base):
    return open_pipeline(base)


def sampled(pipeline, prompt=TARGET_PROMPT, **fields):
    return pipeline.sample(prompt, **{"image": IMAGE, "seed": 3} | fields).latents


# ---- folders --------------------------------------------------------------------------------


def test_what_is_saved_is_what_was_trained(saved, pipeline):
    folder, made = saved
    assert {p.name for p in folder.iterdir()} == {CARD, ADAPTERS, COGVIDEOX_FILE, VECTORS}
    assert read_card(folder).read_targets() == pipeline.targets == TARGETS
    got = sampled(pipeline, mask=LEFT)
    want = sampled(trained.targeted_in_memory("cogvideox", made), mask=LEFT)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.abs(got - sampled(pipeline, mask=RIGHT)).max() > 0.1
    # What is loaded by name is the same; a mask may be a file.
    np.testing.assert_array_equal(sampled(tavid_jax.load(folder), mask=LEFT), got)


@pytest.mark.parametrize("family", ["wan", "cogvideox"])
def test_the_whole_projection_is_replaced(family, tmp_path):
    """Also of a model without adapters, whose own files know no further channels."""
    made = trained.targeted(family)
    trained.save(
        family, tmp_path / "model", patch=trained.Model(made.config, made.patch),
        card=dataclasses.replace(trained.CARDS[family], targets=dataclasses.asdict(made.targets)),
    )  # fmt: skip
    name = {"wan": WAN_FILE, "cogvideox": COGVIDEOX_FILE}[family]
    assert (tmp_path / "model" / name).is_file()
    part = open_pipeline(tmp_path / "model").parts["transformer"]
    with part.hold() as params:
        for node, leaves in made.patch.items():
            for leaf, values in leaves.items():
                np.testing.assert_array_equal(params[node][leaf], values)
        own = trained.parts_of(family)["transformer"].params["blocks"]["attn"]["q"]["kernel"]
        np.testing.assert_array_equal(params["blocks"]["attn"]["q"]["kernel"], own)
    with pytest.raises(ValueError, match=f"has a patch projection of its own .{name}.: a stage"):
        open_trained(tmp_path / "model", ["transformer"])


def test_cards_of_before_and_bad_ones(base, saved, tmp_path):
    old = json.loads((base / CARD).read_text())
    assert old.pop("targets") == {}
    assert Card.of(old).read_targets() is None
    card = json.loads((saved[0] / CARD).read_text())
    assert Card.of(card) == read_card(saved[0])
    card["targets"]["latent"] = "mean"
    with pytest.raises(ValueError, match=r"targets\.latent 'mean' is none of nearest, area, max"):
        Card.of(card)
    card["targets"] = {"word": "target"}
    with pytest.raises(ValueError, match=r"targets\.word is no field; there are words"):
        Card.of(card)


def test_files_that_are_given_twice(saved):
    for name in ("lora", "patch_embed"):
        with pytest.raises(ValueError, match=f"{name} .*: .* has (adapters of )?its own, "):
            open_pipeline(saved[0], **{name: saved[0]})


def test_vectors_that_do_not_fit(base, tmp_path):
    made = trained.targeted(targets=TARGETS)
    made = made._replace(embedding=made.embedding[:, :5])
    trained.save_targeted("cogvideox", base, tmp_path / "model", made)
    with pytest.raises(WeightsError, match=r"shape \(1, 5\): this model's are \(1, 16\)"):
        open_pipeline(tmp_path / "model")
    made.embedding[0, 0] = np.nan
    with pytest.raises(WeightsError, match="trigger words hold values that are not finite"):
        trained.save_targeted("cogvideox", base, tmp_path / "other", made)
    assert not (tmp_path / "other").exists()


# ---- batches --------------------------------------------------------------------------------


def test_masks_and_modulation_in_batches_of_any_order(pipeline):
    """A modulated video is made by a program of its own, and only it is changed."""
    jobs = [
        Job(TARGET_PROMPT, image=IMAGE, mask=LEFT, seed=1, name="a"),
        Job("the target red", image=IMAGE, mask=RIGHT, seed=2, name="b"),
        Job(TARGET_PROMPT, image=IMAGE, mask=LEFT, seed=1, modulation=8.0, name="c"),
        Job(TARGET_PROMPT, image=IMAGE, mask=RIGHT, seed=1, modulation=8.0, name="d"),
    ]
    alone = {job.name: next(pipeline.run([job])).latents for job in jobs}
    for order in ((0, 1, 2, 3), (3, 1, 2, 0)):
        videos = list(pipeline.run([jobs[i] for i in order], batch_size=3))
        assert [video.name for video in videos] == [jobs[i].name for i in order]
        for video in videos:
            np.testing.assert_allclose(video.latents, alone[video.name], rtol=0, atol=1e-5)
    for first, second in (("a", "c"), ("c", "d")):
        assert np.abs(alone[first] - alone[second]).max() > 1e-2


def test_no_modulation_is_none(pipeline):
    none = sampled(pipeline, mask=LEFT)
    np.testing.assert_array_equal(sampled(pipeline, mask=LEFT, modulation=0), none)
    np.testing.assert_array_equal(sampled(pipeline, mask=LEFT, modulation=0.0), none)


def test_modulation_of_a_model_without_masks(stock):
    """Which reads none, but whose attention can be led; nothing else of the video changes."""
    plain = sampled(stock)
    led = sampled(stock, mask=LEFT, modulation=8.0)
    assert np.abs(led - plain).max() > 1e-2
    assert np.abs(led - sampled(stock, mask=RIGHT, modulation=8.0)).max() > 1e-2
    faint = sampled(stock, mask=LEFT, modulation=1e-6)
    np.testing.assert_allclose(faint, plain, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="or lead its attention: modulation"):
        sampled(stock, mask=LEFT)


# ---- learned vectors ------------------------------------------------------------------------


def test_vectors_are_added_to_the_features_of_the_trigger_alone(pipeline, monkeypatch):
    from tavid_jax.pipelines import pipeline as module

    plain = dataclasses.replace(pipeline, embedding=None)
    columns = pipeline.reader(pipeline.backbone(pipeline.published.sampling, True)).columns(
        TARGET_PROMPT
    )
    encode = module.encode_texts

    def by_hand(part, tokenizer, texts, **options):
        features = dict(encode(part, tokenizer, texts, **options))
        (own,) = [(text, length) for text, length in features if text == TARGET_PROMPT]
        changed = np.array(features[own])
        changed[columns[0] > 0] += pipeline.embedding[0]
        return features | {own: changed}

    got = sampled(pipeline, mask=LEFT)
    without = sampled(plain, mask=LEFT)
    monkeypatch.setattr(module, "encode_texts", by_hand)
    np.testing.assert_allclose(sampled(plain, mask=LEFT), got, rtol=0, atol=1e-5)
    assert np.abs(got - without).max() > 1e-2


def test_vectors_without_channels(stock):
    """Such a model was trained to read its word, though no mask."""
    vectors = np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32)
    pipeline = dataclasses.replace(stock, targets=TARGETS, embedding=vectors)
    assert np.abs(sampled(pipeline) - sampled(stock)).max() > 1e-2
    with pytest.raises(ValueError, match="lacks the word 'target'"):
        sampled(pipeline, "the red moves left")
