"""Targets in prompts and clips: what a model is told, and where it finds them."""

import dataclasses
import functools

import numpy as np
import pytest

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.pipelines.backbones import MASK, Geometry, make_backbone
from tavid_jax.pipelines.targets import (
    AIM,
    COLUMNS,
    SENTENCE,
    TargetReader,
    Targets,
    with_trigger,
)

SIZES = dict(num_heads=2, head_dim=16, num_layers=2, text_dim=8, time_embed_dim=8)
SIZE_HW = (32, 48)
PAIR = Targets(words=("source", "target"), objects=("actor", "target"), sentence="")


@functools.cache
def backbone_of(channels, length):
    changes = SIZES | dict(extra_channels=channels, text_length=length, sample_hw=(4, 6))
    return make_backbone(
        "cogvideox-5b-i2v", Geometry(9, SIZE_HW), changes | dict(sample_frames=9), False, stride=8
    )


def reader(targets=Targets(sentence=""), length=12):  # noqa: B008 (frozen)
    backbone = backbone_of(targets.count, length)
    return TargetReader(targets, Tokenizer.captions(), backbone, length, wan=False)


def marked(columns, one, text):
    """The pieces that have a weight."""
    return [one.pieces(text)[i] for i in np.flatnonzero(columns)]


# ---- what there is to know ------------------------------------------------------------------


def test_the_defaults_are_the_release_with_the_papers_sentence():
    targets = Targets()
    assert (targets.words, targets.objects, targets.count) == (("target",), ("target",), 1)
    assert (targets.latent, targets.sentence) == ("nearest", SENTENCE)
    assert "interacts with the target object" in SENTENCE
    assert Targets.of({"words": ["red"], "sentence": ""}).words == ("red",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(words=()), r"targets\.words \(\): give each target a word of its own"),
        (dict(words=("red", "Red"), objects=(1, 2)), "give each target a word of its own"),
        (dict(words=("red", "blue")), r"targets\.objects \('target',\): name one object for each"),
        (dict(objects=("left",)), r"targets\.objects 'left' is neither 'target', 'actor' nor"),
        (dict(objects=(0,)), r"targets\.objects 0 is neither"),
        (dict(latent="mean"), r"targets\.latent 'mean' is none of nearest, area, max"),
        (dict(aim="any"), r"targets\.aim 'any' is none of"),
        (dict(mentions="first"), r"targets\.mentions 'first' is none of last, all"),
        (dict(sentence="It moves."), r"targets\.sentence 'It moves\.' lacks the word 'target'"),
        (
            dict(words=("a", "b"), objects=(1, 2), sentence="", nouns=("mug",)),
            r"targets\.nouns are those of one target",
        ),
        (dict(word="target"), r"targets\.word is no field; there are words, objects"),
    ],
)
def test_what_makes_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        Targets.of(fields)


# ---- prompts --------------------------------------------------------------------------------


def test_the_sentence_is_always_whole():
    one = reader(Targets(sentence="the target"), length=12)
    short = one.prompt("the red cat")
    assert short == "the red cat. the target"
    assert one.prompt("the red cat!") == "the red cat! the target"
    assert one.prompt("") == "the target"
    long = one.prompt("the red on the blue on the red on the blue on the red")
    assert long.endswith(". the target") and long.startswith("the red on")
    pieces = one.pieces(long)
    assert pieces[-2:] == [" the", " target"] and len(pieces) <= 11
    # Not one more word of it would have fitted.
    kept = long.removesuffix(". the target").split()
    whole = "the red on the blue on the red on the blue on the red".split()
    longer = " ".join(whole[: len(kept) + 1]) + ". the target"
    assert len(one.tokenizer.pieces.encode(longer)) > 11
    assert marked(one.columns(long)[0], one, long) == [" target"]
    letters = one.prompt("x" * 300)  # no word of it fits
    assert letters.strip(". ") == "the target"


def test_a_sentence_that_is_too_long_itself():
    with pytest.raises(ValueError, match=r"targets\.sentence has \d+ tokens, the model reads 11"):
        reader(Targets(), length=12).prompt("the red")


def test_nouns():
    assert with_trigger("She takes the mug, a Mug.", "target", ("mug",)) == (
        "She takes the target mug, a target Mug."
    )
    assert with_trigger("the target mug; mugs", "target", ("mug",)) == "the target mug; mugs"
    assert with_trigger("the Target  mug", "target", ("mug",)) == "the target mug"
    # The first that the caption holds is meant.
    assert with_trigger("a box and a cup", "target", ("cup", "box")) == "a target box and a cup"
    with pytest.raises(ValueError, match="the caption 'a cat' holds none of the nouns mug, cup"):
        with_trigger("a cat", "target", ("mug", "cup"))
    one = reader(Targets(sentence="", nouns=("cat",)))
    assert one.prompt("the red cat") == "the red target cat"
    both = reader(Targets(sentence="the target", nouns=("cat",)), length=20)
    assert both.prompt("the red cat") == "the red target cat. the target"
    assert len(np.flatnonzero(both.columns(both.prompt("the red cat"))[0])) == 2
    assert len(np.flatnonzero(both.columns(both.prompt("the red cat"), "last")[0])) == 1


# ---- columns --------------------------------------------------------------------------------


def test_pieces_add_up_and_mentions_share():
    one = reader(Targets(words=("source",), objects=(1,), sentence=""), length=32)
    text = "the source on a source"
    columns = one.columns(text)[0]
    # Six pieces of each mention, each with half of the weight.
    assert columns.sum() == 6.0 and set(np.unique(columns)) == {0.0, 0.5}
    last = one.columns(text, "last")[0]
    assert last.sum() == 6.0 and last.max() == 1.0
    assert np.flatnonzero(last)[0] > np.flatnonzero(columns)[0]
    assert "".join(marked(last, one, text)) == "source"
    single = reader(length=32).columns("the target on a target")[0]
    assert single.sum() == 1.0 and set(single) == {0.0, 0.5}


def test_two_targets():
    pair = reader(PAIR, length=24)
    text = "a source on the target blue"
    columns = pair.columns(text)
    assert columns.shape == (2, 24)
    assert "".join(marked(columns[0], pair, text)) == "source"
    assert marked(columns[1], pair, text) == [" target"]
    with pytest.raises(ValueError, match="'a source' lacks the word 'target'"):
        pair.columns("a source")


def test_texts_that_are_cleaned_first():
    """As Wan's are: positions are those of what is read."""
    one = dataclasses.replace(reader(length=24), wan=True)
    text = "a  &amp;amp; the   target\n red"
    assert one.pieces(text) == one.tokenizer.pieces.surfaces("a & the target red")
    assert marked(one.columns(text)[0], one, text) == [" target"]


def test_a_word_that_is_absent_or_cut_off():
    one = reader()
    with pytest.raises(ValueError, match="lacks the word 'target', by which the model finds its"):
        one.columns("the red targets")
    behind = "a red on the red on the red on the red on the target"
    with pytest.raises(ValueError, match="cut off: it is token 14 of the prompt, the model reads"):
        one.columns(behind)
    # Of several mentions those that are read count.
    assert len(np.flatnonzero(one.columns(f"target {behind}")[0])) == 1
    # The eleventh is the last one that is read; then comes the end.
    words = " on".join([" the"] * 6).split()
    for before, fits in ((10, True), (11, False)):
        text = " ".join(words[:before] + ["target"])
        assert len(one.tokenizer.pieces.encode(text)) == before + 1
        if fits:
            assert one.columns(text)[0, 10] == 1.0
        else:
            with pytest.raises(ValueError, match="cut off: it is token 12"):
                one.columns(text)


# ---- clips ----------------------------------------------------------------------------------


def clip_of(caption="the target red", count=2, **fields):
    masks = np.zeros((count, *SIZE_HW), bool)
    masks[0, 4:20, 8:30] = True
    if count > 1:
        masks[1, 20:32, 0:16] = True
    fields = dict(caption=caption, masks=masks, target=1, actor=2) | fields
    video = np.zeros((9, *SIZE_HW, 3), np.uint8)
    return Clip("clip0", SIZE_HW, 8, video=video, **fields)


def test_an_example():
    one, clip = reader(), clip_of()
    example = one.read(clip)
    spec = one.spec() | {MASK: one.backbone.spec()[MASK]}
    assert {k: (v.shape, v.dtype) for k, v in example.items()} == {
        k: (s.shape, s.dtype) for k, s in spec.items()
    }
    mask = clip.masks[0].astype(np.float32)
    np.testing.assert_array_equal(example[MASK][..., 0], mask[::8, ::8])
    area = mask.reshape(2, 16, 3, 16).mean((1, 3)).ravel()
    np.testing.assert_allclose(example[AIM][0], area)
    np.testing.assert_array_equal(example[COLUMNS], one.columns("the target red"))


def test_which_object():
    pair = reader(PAIR, length=24)
    example = pair.read(clip_of("a source on the target"))
    masks = clip_of().masks[::-1].astype(np.float32)
    np.testing.assert_array_equal(example[MASK], masks[:, ::8, ::8].transpose(1, 2, 0))
    numbered = reader(Targets(objects=(2,), sentence="")).read(clip_of())
    np.testing.assert_array_equal(numbered[MASK][..., 0], masks[0, ::8, ::8])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(target=-1), "clip 'clip0': has no mask of 'target' .it has 2."),
        (dict(masks=None, target=-1, actor=-1), "has no mask of 'target' .it has 0."),
        (dict(masks=np.zeros((1, *SIZE_HW), bool), actor=-1), "mask of object 1 is empty"),
        (dict(masks=np.ones((1, *SIZE_HW), bool), actor=-1), "of object 1 covers everything"),
        (dict(caption="the red"), "clip 'clip0': the prompt 'the red' lacks the word 'target'"),
    ],
)
def test_clips_that_cannot_be_used(fields, message):
    with pytest.raises(ClipError, match=message):
        reader().read(clip_of(**fields))


# ---- bias -----------------------------------------------------------------------------------


def test_the_bias_of_attention():
    pair = reader(PAIR, length=24)
    masks = clip_of().masks[::-1].astype(np.float32)
    columns = pair.columns("a source on the target")
    bias = pair.bias(list(masks), columns)
    assert bias.shape == (1, 3 * 6, 24)
    assert not bias[0, 6:].any()
    want = np.einsum("kn,kl->nl", np.stack([pair.aim(m) for m in masks]), columns > 0)
    np.testing.assert_array_equal(bias[0, :6], want)
    assert want.max() > 0.5
