"""Providers by name, embedded and one's own; files of texts; words by colour; objects by motion."""

import json

import numpy as np
import pytest

from tavid_jax.data.clip import ClipError
from tavid_jax.data.grounding import providers
from tavid_jax.data.grounding.colours import colour_name, colour_texts
from tavid_jax.data.grounding.moving import moving_objects
from tavid_jax.data.grounding.providers import Objects, fingerprint, provider
from tavid_jax.data.grounding.texts import find_texts, in_order, read_texts
from tests.data.grounding import squares


def test_ones_own_provider_is_loaded_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "own_eyes.py").write_text(
        "class Model:\n    fingerprint = 'v2'\n"
        "    def __call__(self, clip):\n        return clip.masks[:1]\n"
        "NUMBER = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    made = provider("segmenter", "own_eyes:Model")
    assert made(squares.clip()).shape == (1, *squares.HW)
    assert fingerprint("own_eyes:Model", made) == "own_eyes:Model v2"
    with pytest.raises(ClipError, match="cannot be loaded: .*no attribute 'Nothing'"):
        provider("segmenter", "own_eyes:Nothing")
    with pytest.raises(ClipError, match="is a int: it must be a function"):
        provider("captioner", "own_eyes:NUMBER")
    with pytest.raises(ClipError, match="No module named 'nowhere'"):
        provider("captioner", "nowhere:caption")
    with pytest.raises(ClipError, match="no annotator 'color': there are clip, colour, or name"):
        provider("annotator", "color")


def test_embedded_providers_read_the_clip():
    clip, point = squares.clip(), np.zeros((2, 2), np.float32)
    objects = provider("segmenter", "clip")(clip)
    np.testing.assert_array_equal(objects.masks, squares.masks())
    assert provider("annotator", "clip")(clip, objects, point) == squares.TEXTS
    bare, named = clip.replace(local_captions=()), Objects(squares.masks(), ("hat", "ball"))
    assert providers.own_texts(bare, named, point) == ("hat", "ball")
    with pytest.raises(ClipError, match="has no texts of its objects"):
        providers.own_texts(bare, objects, point)
    assert provider("captioner", "joined")(clip) == "a red square and a blue square"
    with pytest.raises(ClipError, match="1 names for 2 masks"):
        Objects(squares.masks(), ("hat",))


def test_colours_and_motion_stand_in_for_models():
    objects = Objects(squares.masks(), ("hat", "ball"))
    point = np.zeros((2, 2), np.float32)
    assert colour_texts(squares.clip(), objects, point) == ("a red hat", "a blue ball")
    assert colour_name(np.array([250, 150, 20], np.uint8)) == "orange"
    found = moving_objects(squares.clip()).masks
    assert len(found) == 2
    for mask in squares.masks():
        overlap = [(mask & one).sum() / (mask | one).sum() for one in found]
        assert max(overlap) > 0.6
    with pytest.raises(ClipError, match="nothing moves"):
        moving_objects(squares.clip(video=squares.video(still=True)))


def test_texts_come_from_files(tmp_path):
    (tmp_path / "a.texts.json").write_text('["one", " two "]')
    assert find_texts(tmp_path / "a.mp4") == {1: "one", 2: "two"}
    assert find_texts(tmp_path / "b.mp4") == {}
    all_json, table = tmp_path / "all.json", tmp_path / "all.csv"
    all_json.write_text(json.dumps({"a": {"2": "two"}, "b": []}))
    assert read_texts(all_json) == {"a": {2: "two"}, "b": {}}
    table.write_text("video_path,object,text\nx/a.mp4,1,one\nx/a.mp4,3,three\n")
    assert read_texts(table) == {"a": {1: "one", 3: "three"}}
    assert in_order({3: "three", 1: "one"}, 4) == ("one", "", "three", "")
    assert in_order({}, 4) == () and in_order({2: "b"}, None) == ("", "b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", "[1", "cannot be read as texts"),
        ("t.json", '["a"]', "must map names of videos to texts, got a list"),
        ("t.json", '{"a": {"0": "x"}}', "'0' is no number of an object"),
        ("t.json", '{"a": [1]}', "the text of object 1 is a int"),
        ("t.json", '{"a": 3}', "must be a list of texts"),
        ("t.csv", "videoid,words\na,b\n", "texts need the columns 'object', 'text'"),
        ("t.csv", "videoid,object,text\na,1,x\na,1,y\n", "'a' has two texts for object 1"),
    ],
)
def test_broken_files_of_texts_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ClipError, match=message) as caught:
        read_texts(tmp_path / name)
    assert name in str(caught.value)


def test_a_text_of_no_object_is_an_error():
    with pytest.raises(ClipError, match=r"text for object 3 \('c'\), but 2 masks"):
        in_order({3: "c"}, 2)
