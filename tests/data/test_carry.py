"""Masks carried by tracked points: against true masks of scenes, occlusion, loss, real clips."""

import cv2
import numpy as np
import pytest

from tavid_jax.data.carry import carry_mask, carry_masks
from tavid_jax.data.masks import read_mask, resize_mask
from tavid_jax.data.outlines import Outlines, Pose, fit_pose
from tavid_jax.data.synthetic import SceneConfig, sample_scene, scene_clip
from tavid_jax.data.synthetic.toy import reaching
from tavid_jax.data.video import read_video


def iou(one, other):
    """Per frame."""
    union = (one | other).sum((-1, -2))
    return np.where(union > 0, (one & other).sum((-1, -2)) / np.maximum(union, 1), 1.0)


def pasted(moving_frames, path, size_hw=(120, 160), side=40, num_frames=20):
    """A textured square, top left at path(t) -> (x, y), over a still textured ground."""
    ground = moving_frames(size_hw, 1, (0.0, 0.0))[0]
    patch = 255 - moving_frames((side, side), 1, (0.0, 0.0))[0][::-1]
    frames, masks = [], []
    for t in range(num_frames):
        shift = np.float32([[1, 0, path(t)[0]], [0, 1, path(t)[1]]])
        shown = cv2.warpAffine(np.full((side, side), 255, np.uint8), shift, size_hw[::-1])
        moved = cv2.warpAffine(patch, shift, size_hw[::-1])
        frames.append(np.where(shown[..., None] > 127, moved, ground))
        masks.append(shown > 127)
    return np.stack(frames), np.stack(masks)


def turned(frames, mask, degrees, scale):
    """Frame t of a still turned by t * degrees and enlarged by scale ** t, with its true masks."""
    h, w = mask.shape
    out, masks = [], []
    for t in range(frames):
        m = cv2.getRotationMatrix2D((w / 2, h / 2), degrees * t, scale**t)
        out.append(m)
        masks.append(cv2.warpAffine(mask.astype(np.uint8) * 255, m, (w, h)) > 127)
    return out, np.stack(masks)


@pytest.mark.parametrize("velocity", [(0.0, 0.0), (2.0, 1.0), (-0.7, 2.5)])
def test_a_moving_square_is_followed(moving_frames, velocity):
    video, truth = pasted(moving_frames, lambda t: (50 + velocity[0] * t, 30 + velocity[1] * t))
    carried = carry_mask(video, truth[0])
    np.testing.assert_array_equal(carried[0], truth[0])
    assert carried.dtype == bool and iou(carried, truth).min() > 0.93


def test_turn_and_size_are_followed(moving_frames):
    still = moving_frames((120, 160), 1, (0.0, 0.0))[0]
    mask = np.zeros((120, 160), bool)
    mask[40:80, 60:110] = True
    mask[55:65, 75:95] = False  # a hole
    poses, truth = turned(12, mask, 3.0, 1.02)
    video = np.stack([cv2.warpAffine(still, m, (160, 120)) for m in poses])
    carried = carry_mask(video, mask)
    assert iou(carried, truth).min() > 0.93 and not carried[-1, 60, 85]


@pytest.mark.parametrize(
    "config, seeds, least",
    [(reaching(), 6, 0.86), (SceneConfig(interaction=True, camera=0.0), 3, 0.8)],
)
def test_actor_and_target_of_scenes(config, seeds, least):
    """Frames of 24 and of 64 px; the truth is what is seen, which the other may cover."""
    scores = []
    for seed in range(seeds):
        clip = scene_clip(sample_scene(config, seed))
        objects = (clip.actor, clip.target)
        masks = np.stack([clip.segment_map[0] == number for number in objects])
        carried = carry_masks(clip.video, masks)
        np.testing.assert_array_equal(carried[:, 0], masks)
        for number, one in zip(objects, carried, strict=True):
            scores.append(iou(one, clip.segment_map == number).mean())
    assert np.mean(scores[::2]) > least and np.mean(scores[1::2]) > 0.9
    assert min(scores) > 0.65


def test_what_leaves_is_gone(moving_frames):
    video, truth = pasted(moving_frames, lambda t: (90 + 5.0 * t, 40))
    assert not truth[-1].any()
    carried = carry_mask(video, truth[0])
    assert iou(carried, truth)[:8].min() > 0.85
    assert not carried[-2:].any()


def test_what_is_covered_stays_and_is_found_again(moving_frames):
    """A curtain falls over a still square; then it is lifted, and the square has moved."""
    video, truth = pasted(moving_frames, lambda t: (60 + (15 if t > 11 else 0), 40))
    video[5:12] = 90
    carried = carry_mask(video, truth[0])
    assert iou(carried[:12], truth[:12]).min() > 0.93
    assert iou(carried[12:], truth[12:]).min() > 0.85


def test_a_leap_that_no_flow_follows_is_found(moving_frames):
    video, truth = pasted(moving_frames, lambda t: (20 + (35 if t > 6 else t), 40))
    assert iou(carry_mask(video, truth[0]), truth).min() > 0.85


def test_points_that_went_astray_do_not_count():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 50, (60, 2))
    y = x * 1.05 + [3.0, -2.0]
    y[:20] += rng.uniform(-40, 40, (20, 2))
    pose = fit_pose(Pose.rest(50.0), x, y, np.ones(60, bool))
    np.testing.assert_allclose(pose.linear, 1.05 * np.eye(2), atol=0.01)
    np.testing.assert_allclose(pose.shift, [3.0, -2.0], atol=0.3)


def test_few_points_only_shift_and_none_give_nothing():
    x = np.array([[0.0, 0], [1, 0], [0, 1], [30, 30], [30, 0], [0, 30], [20, 5], [5, 20]])
    seen = np.arange(8) < 4
    pose = fit_pose(Pose.rest(30.0), x, x * 1.3 + 4.0, seen & (np.arange(8) != 3) | (x == 5).any(1))
    np.testing.assert_array_equal(pose.linear, np.eye(2))
    assert fit_pose(pose, x, x, np.arange(8) < 3) is None


def test_outlines_give_the_mask_back():
    rng = np.random.default_rng(0)
    mask = cv2.blur(rng.random((40, 50)), (7, 7)) > 0.5
    outlines = Outlines.of(mask)
    filled, inside = outlines.fill((40, 50))
    np.testing.assert_array_equal(filled > 0, mask)
    assert inside == 1.0
    beyond = Pose(np.eye(2), np.array([45.0, 0.0]), np.zeros((0, 2)), np.zeros((0, 2)), 1.0)
    assert outlines.moved(beyond).fill((40, 50))[1] < 0.2


def test_an_empty_mask_is_named():
    masks = np.zeros((2, 24, 24), bool)
    masks[0, 4:9, 4:9] = True
    with pytest.raises(ValueError, match="mask 1 is empty"):
        carry_masks(np.zeros((2, 24, 24, 3), np.uint8), masks)


def test_a_plain_video_leaves_the_mask_where_it_is():
    mask = np.zeros((24, 24), bool)
    mask[4:9, 4:9] = True
    carried = carry_mask(np.zeros((3, 24, 24, 3), np.uint8), mask)
    assert iou(carried, mask).min() > 0.9


@pytest.mark.clips
def test_real_clips(clips_dir):
    """Cups that stand still keep their place; the mug is lifted by the hand and stays blue."""
    size = (240, 360)
    video = read_video(clips_dir / "sam2_02_cups.mp4", range(40), size_hw=size, resize="squash")
    masks = np.stack(
        [resize_mask(read_mask(clips_dir / f"sam2_02_cups.mask_{k}.png"), size) for k in (0, 1, 2)]
    )
    carried = carry_masks(video, masks)
    assert iou(carried[:2, 39], masks[:2]).min() > 0.9
    rows = [np.nonzero(carried[2, t])[0].mean() for t in (0, 39)]
    assert 90 < rows[1] - rows[0] < 150  # the raised cup has come down
    video = read_video(
        clips_dir / "sam2_04_coffee.mp4", range(0, 90, 2), size_hw=size, resize="squash"
    )
    mug = resize_mask(read_mask(clips_dir / "sam2_04_coffee.mask_0.png"), size)
    for t in (22, 44):
        r, _, b = video[t].astype(int)[carry_mask(video[: t + 1], mug)[t]].T
        assert ((b - r) > 60).mean() > 0.85
