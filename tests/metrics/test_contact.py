"""Contact score and target alignment: exact on scenes whose contact is known, and by hand."""

import dataclasses
import math

import numpy as np
import pytest

from tavid_jax.data.synthetic import SceneConfig, sample_scene, scene_clip
from tavid_jax.metrics import contact
from tavid_jax.metrics.contact import ContactRule

NAMES = {"actor": "true", "target": "true"}
SEEDS = range(40)


@pytest.fixture(scope="module", params=[0.0, 0.7], ids=["still camera", "moving camera"])
def scenes(request):
    """(clip, shares (K, T) of each candidate, index of the target) of true regions."""
    config, found = SceneConfig(interaction=True, camera=request.param), []
    for seed in SEEDS:
        clip = scene_clip(sample_scene(config, seed))
        others = [k for k in range(1, len(clip.masks) + 1) if k != clip.actor]
        regions = [clip.segment_map == k for k in others]
        actor = clip.segment_map == clip.actor
        shares = np.stack([contact.overlaps(actor, region) for region in regions])
        found.append((clip, shares, others.index(clip.target)))
    return found


def test_score_of_true_contacts_is_one(scenes):
    record = contact.contact_score([shares[target] for _, shares, target in scenes], **NAMES)
    assert record["contact_score"] == 1.0 and record["n"] == len(SEEDS)
    assert record["settings"]["actor"] == "true" and record["settings"]["frames"] == 3


def test_first_contact_is_that_of_the_scene(scenes):
    """A little early, for the actor is grown by two pixels and slows down before it arrives; a
    frame late where it hides what it touches, and only a sliver of the target is left beside it.
    """
    late = [
        int(contact.first_contact(shares[target])) - clip.contact_frame
        for clip, shares, target in scenes
    ]
    assert -6 <= min(late) and max(late) <= 1
    assert -2 <= np.median(late) <= -1


def test_lookalikes_are_not_touched(scenes):
    others = [np.delete(shares, target, axis=0) for _, shares, target in scenes]
    record = contact.contact_score([share for clip in others for share in clip], **NAMES)
    assert record["contact_score"] == 0.0 and record["n"] > len(SEEDS)
    assert set(record["first_frame"]) == {-1}


@pytest.mark.parametrize("which", ["first", "last"])
def test_alignment_is_one_for_the_target_and_zero_for_another(scenes, which):
    shares = [shares for _, shares, _ in scenes]
    right = [target for _, _, target in scenes]
    record = contact.target_alignment(shares, right, which=which, **NAMES)
    assert record["target_alignment"] == record["of_touching"] == 1.0
    assert record["touching"] == record["n"] == len(SEEDS)
    assert 1 / 3 <= record["chance"] <= 1 / 2
    wrong = [(target + 1) % len(share) for share, target in zip(shares, right, strict=True)]
    assert contact.target_alignment(shares, wrong, which=which, **NAMES)["of_touching"] == 0.0


def test_still_video_has_no_contact():
    clip = scene_clip(sample_scene(SceneConfig(interaction=True), 0))
    still = np.repeat(clip.segment_map[:1], 20, axis=0)
    shares = contact.overlaps(still == clip.actor, still == clip.target)
    record = contact.contact_score([shares], **NAMES)
    assert record["contact_score"] == 0.0 and record["first_frame"] == [-1]
    both = contact.target_alignment([np.stack([shares, shares])], [0], **NAMES)
    assert both["target_alignment"] == 0.0 and math.isnan(both["of_touching"])


def test_a_touch_that_is_too_short_does_not_count():
    touching = np.array([0, 1, 1, 0, 1, 1, 1, 1, 0, 1], float)
    assert contact.contact_frames(touching).tolist() == [False] * 4 + [True] * 4 + [False] * 2
    assert contact.first_contact(touching) == 4
    assert contact.first_contact(touching, ContactRule(frames=2)) == 1
    assert contact.first_contact(touching, ContactRule(frames=5)) == -1
    assert contact.first_contact(touching[:2]) == -1
    assert contact.first_contact(0.01 * touching) == 4
    assert contact.first_contact(0.0099 * touching) == -1


def test_who_is_touched_first_last_and_more():
    shares = np.zeros((3, 10))
    shares[0, 1:5], shares[1, 4:9], shares[2, 4:9] = 0.2, 0.3, 0.4
    assert contact.touched(shares) == 0
    assert contact.touched(shares, which="last") == 2
    assert contact.touched(shares[1:]) == 1
    assert contact.touched(np.zeros((2, 10))) == -1


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 40])
def test_growing_is_euclidean(radius):
    region = np.random.default_rng(radius).random((17, 23)) < 0.02
    region[0, 22] = True
    y, x = np.nonzero(region)
    rows, columns = np.mgrid[:17, :23]
    squared = (rows[..., None] - y) ** 2 + (columns[..., None] - x) ** 2
    np.testing.assert_array_equal(contact.grow(region, radius), squared.min(-1) <= radius**2)


def test_nothing_grows_to_nothing():
    assert not contact.grow(np.zeros((4, 5), bool), 3).any()


def test_boxes_become_regions():
    boxes = [np.array([[1, 1, 3, 2], [-5, 2.6, 1.4, 9]]), np.zeros((0, 4))]
    want = np.zeros((2, 4, 5), bool)
    want[0, 1, 1:3] = want[0, 3, 0] = True
    np.testing.assert_array_equal(contact.region_of_boxes(boxes, (4, 5)), want)


def test_share_is_of_the_first_frames_area():
    target = np.zeros((3, 20, 20), bool)
    target[0, :10, :10] = target[1, :5, :10] = True  # half hidden, then gone
    actor = np.ones((3, 20, 20), bool)
    np.testing.assert_array_equal(contact.overlaps(actor, target), [1, 0.5, 0])


def test_bad_input_is_refused():
    region = np.ones((2, 8, 8), bool)
    with pytest.raises(ValueError, match="target has shape"):
        contact.overlaps(region, region[:, :4])
    with pytest.raises(ValueError, match="empty in frame 0"):
        contact.overlaps(region, ~region)
    with pytest.raises(ValueError, match="frames=0"):
        ContactRule(frames=0)
    with pytest.raises(ValueError, match="overlap in"):
        dataclasses.replace(contact.RULE, overlap=0.0)
    with pytest.raises(ValueError, match="clip 0: target 0 of 1 candidates"):
        contact.target_alignment([np.zeros((1, 5))], [0], **NAMES)
    with pytest.raises(ValueError, match="target 2 of 2"):
        contact.target_alignment([np.zeros((2, 5))], [2], **NAMES)


def test_no_clips_give_no_number():
    assert math.isnan(contact.contact_score([], **NAMES)["contact_score"])
