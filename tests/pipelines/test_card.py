"""Cards of trained models: what they say survives, and what is wrong is named."""

import dataclasses
import json
import shutil

import pytest

from tavid_jax.pipelines.card import CARD, Card, has_card, read_card, write_card
from tavid_jax.weights import WeightsError
from tests.pipelines import trained

FULL = dataclasses.replace(
    trained.CARDS["cogvideox"],
    stored="float16",
    trained={"config": "0123456789ab", "seed": 3, "steps": 6000, "seconds": 812.5},
    quality={"contact": {"mean": 0.93, "interval": [0.9, 0.96]}},
    loss_curve=((1, 0.5), (2, 0.25)),
)


@pytest.fixture
def folder(tmp_path):
    """Two files and their card."""
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    (tmp_path / "weights").write_bytes(bytes(range(256)))
    write_card(tmp_path, FULL)
    return tmp_path


def refuses(words):
    return pytest.raises(WeightsError, match=words)


def test_what_is_written_is_read(folder):
    card = read_card(folder)
    assert set(card.files) == {"vae/config.json", "weights"}
    assert dataclasses.replace(card, files={}) == FULL
    assert Card.of(json.loads(json.dumps(card.to_json()))) == card
    content = json.loads((folder / CARD).read_text())
    assert content["family"] == "cogvideox" and content["files"] == dict(card.files)
    assert has_card(folder) and not has_card(folder / "vae")


def test_what_a_pipeline_needs_to_know():
    published = FULL.published()
    assert (published.backbone, published.preset) == ("smallest-cogvideox", "cogvideox-5b-i2v")
    assert (published.family, published.predicts) == ("cogvideox", "data")
    assert published.needs_image and published.sampling.size_hw == (16, 16)


def test_damaged_and_missing_files_are_named(folder):
    content = bytearray((folder / "weights").read_bytes())
    content[100] ^= 1
    (folder / "weights").write_bytes(content)
    with refuses("weights is damaged: it is not the file that base.json tells; copy or train it"):
        read_card(folder)
    assert read_card(folder, check_files=False).name == FULL.name
    (folder / "weights").unlink()
    with refuses("is not complete: weights is missing; copy or train it again"):
        read_card(folder)


def test_no_card(tmp_path):
    with refuses("holds no base.json: it is no folder of a model trained here"):
        read_card(tmp_path)


BAD = {
    "no JSON": ("{", "base.json: cannot be read as JSON"),
    "a list": ("[]", "base.json is not a JSON object"),
    "unknown field": (dict(colour="red"), "is no card of a model: 'colour' is no field of a card"),
    "backbone": (dict(backbone="wan3"), "backbone 'wan3' is none of cogvideox-2b"),
    "sampling": (dict(sampling=dict(step=3)), "'step' is no option of sampling"),
    "shift of CogVideoX": (dict(sampling=dict(shift=3.0)), "shift 3.0: it is of Wan's noise"),
    "curve": (dict(loss_curve=[1, 2]), "is no card of a model"),
}


@pytest.mark.parametrize("case", BAD)
def test_cards_that_make_no_sense(folder, case):
    content, words = BAD[case]
    if isinstance(content, dict):
        content = json.dumps(json.loads((folder / CARD).read_text()) | content)
    (folder / CARD).write_text(content)
    with refuses(words):
        read_card(folder)


def test_what_a_card_lacks_is_listed(folder):
    (folder / CARD).write_text(json.dumps({"name": "mine", "sampling": {}}))
    with refuses("is no card of a model: it lacks backbone, autoencoder"):
        read_card(folder)


def test_copies_are_as_good(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("copy") / "model"
    shutil.copytree(folder, other)
    assert read_card(other) == read_card(folder)
