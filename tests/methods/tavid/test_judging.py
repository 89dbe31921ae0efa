"""What is touched, scene by scene, and what follows of it for a set of scenes."""

from __future__ import annotations

import numpy as np
import pytest

from tavid_jax.data.clip import Clip
from tavid_jax.data.synthetic import sample_scene, scene_clip, toy
from tavid_jax.methods.tavid import judging
from tavid_jax.methods.tavid.judging import Judged
from tavid_jax.methods.tavid.variants import lookalike


def scenes(count: int, **fields) -> list[Clip]:
    config = toy.reaching(says_target=1.0, **fields)
    return [scene_clip(sample_scene(config, 7_000_000 + i)) for i in range(count)]


@pytest.mark.parametrize(
    "fields",
    [{}, dict(lookalikes=(2, 2)), dict(targets=("pillar",))],
    ids=["plain", "crowd", "thin"],
)
def test_true_clips_touch_their_target_and_nothing_else(fields: dict):
    """Also on the harder scenes of the ablations."""
    for clip in scenes(12, **fields):
        right = judging.judge(clip.video, clip, clip.target)
        wrong = judging.judge(clip.video, clip, lookalike(clip))
        still = judging.judge(np.repeat(clip.video[:1], 9, axis=0), clip, clip.target)
        assert right == Judged(True, True, 0.0)
        assert wrong.touched and not wrong.right
        assert not still.touched and not still.right


def test_values_of_scenes():
    hit, miss, none = Judged(True, True, 1.0), Judged(True, False, 2.0), Judged(False, False, 3.0)
    own = [hit, hit, miss, none, hit]
    swapped = [hit, miss, hit, hit, none]
    values = judging.values_of(own, swapped)
    assert values["masked"].tolist() == [1, 1, 0, 0, 1]
    assert values["other"].tolist() == [0, 0, 1, 0, 0]
    assert values["none"].tolist() == [0, 0, 0, 1, 0]
    assert values["followed"].tolist() == [1, 0, 1, 1, 0]
    assert values["flips"].tolist() == [1, 0, 0, 0, 0]
    np.testing.assert_array_equal(values["flips_of_touching"], [1, 0, 0, np.nan, np.nan])
    np.testing.assert_array_equal(values["aim"], [1, 1, 0, np.nan, 1])
    alone = judging.values_of(own, None)
    assert np.isnan(alone["flips"]).all() and np.isnan(alone["followed"]).all()


def test_touches_are_compared_with_chance():
    rng = np.random.default_rng(0)
    hits = [Judged(True, bool(b), 0.0) for b in rng.integers(0, 2, 60)]
    chance = judging.against_other([judging.values_of(hits, None)], 500)
    assert chance["interval"][0] < 0.3 and chance["interval"][1] > -0.3


def test_a_clip_without_a_lookalike():
    clip = scenes(1)[0]
    alone = clip.replace(masks=clip.masks[:1], actor=-1, target=1)
    with pytest.raises(ValueError, match="has no look-alike"):
        lookalike(alone)
