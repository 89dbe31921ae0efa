"""Condition videos of a user's clips: rendered identities, pairs of them, and real ones."""

import shutil

import cv2
import numpy as np
import pytest

from tavid_jax.data.clip import Clip
from tavid_jax.data.folder import open_clips
from tavid_jax.methods.flextraj.controls import Controls
from tavid_jax.methods.flextraj.curriculum import Mixture
from tavid_jax.pipelines.follow import Follow

H, W, T = 32, 48, 6
FOLLOW = Follow(native=True, stamp=(1.0, 1.0), colour="frame")
INK = (255, 7, 9)


def clip(left=8, name="a", **fields):
    """A square of rendered identities that goes to the right, over points that stand still."""
    y, x = np.mgrid[2:H:4, 2:W:4]
    tracks = np.stack([x.ravel(), y.ravel()], -1)[:, None].repeat(T, 1).astype(np.float32)
    ids = np.zeros((T, H, W, 3), np.uint8)
    for t in range(T):
        ids[t, 8:16, left + t : left + t + 8] = INK
    video = np.random.default_rng(len(name)).integers(1, 255, (T, H, W, 3), np.uint8)
    visibility = np.ones(tracks.shape[:2], bool)
    made = dict(id=name, size_hw=(H, W), fps=8, video=video, tracks=tracks, visibility=visibility)
    return Clip(**made, rendered_ids=ids, **fields)


def control(clip, follow=FOLLOW, seed=0, **tasks):
    options = dict(dense=0.0, colour=1.0) | tasks
    return Controls(follow)(clip, Mixture(**options), np.random.default_rng(seed))


def test_rendered_identities_lie_in_front():
    one = clip()
    made = control(one, dense=1.0)
    front = one.rendered_ids.any(-1)
    np.testing.assert_array_equal(made.ids[front], one.rendered_ids[front])
    np.testing.assert_array_equal(made.colours[front], one.video[front])
    behind = made.ids[~front]
    assert set(np.unique(behind[:, 0])) == {0, 127}  # points are in no segment, of one
    around = np.zeros((H, W), bool)
    around[4:20, 4:20] = True
    assert not made.ids[0][around & ~front[0]].any()  # points that the object hides at first
    drawn = made.ids.any(-1)
    np.testing.assert_array_equal(made.colours, one.video * drawn[..., None])
    assert (drawn & ~front).mean() > 0.1
    assert not control(one, dense=1.0, colour=0.0).colours.any()


def test_rendered_identities_keep_the_same_frames():
    made = control(clip(), temporal=1.0, frames=(0.5,), random_frames=1.0)
    shown = made.ids[:, 10, 12:18].any((1, 2))  # where the object is
    assert shown.sum() == 3 and shown[0] and shown[-1]
    np.testing.assert_array_equal(shown, made.ids[:, 30].any((1, 2)))  # where points are


def test_unaligned_identities_are_the_partners():
    """At the place of the clip's own object; without a partner only points are moved."""
    own = clip()
    made = control(own.replace(partner=clip(30, "b")), unaligned=1.0)
    lit = (made.ids == INK).all(-1)
    np.testing.assert_array_equal(lit, own.rendered_ids.any(-1))
    assert made.follow.unaligned == "given" and made.caption.startswith("unaligned, ")
    alone = control(own, unaligned=1.0)
    assert alone.ids.any() and not (alone.ids == INK).all(-1).any()
    plain = clip(30, "b").replace(rendered_ids=None)  # nothing tells its object
    assert control(own.replace(partner=plain), unaligned=1.0).follow.unaligned == "scale"


@pytest.mark.clips
def test_real_clips_steer(clips_dir, tmp_path):
    """Colours are the frame's under the stamps, and segments are where their masks are."""
    name = "sam2_04_coffee"
    shutil.copy(clips_dir / f"{name}.mp4", tmp_path)
    shutil.copy(clips_dir / f"{name}.mask_0.png", tmp_path)
    shutil.copy(clips_dir / f"{name}.lk_tracks.npz", tmp_path / f"{name}.npz")
    one = open_clips(tmp_path, size_hw=(96, 144), num_frames=9, points=True, masks="")[0]
    assert one.tracks.shape == (390, 9, 2) and one.segment.max() == 1
    made = control(one, dense=1.0)
    drawn = made.ids.any(-1)
    np.testing.assert_array_equal(made.colours, one.video * drawn[..., None])
    mug = cv2.dilate(one.masks[0].astype(np.uint8), np.ones((5, 5))) > 0
    assert (made.ids[0, ..., 0] == 255).any() and mug[made.ids[0, ..., 0] == 255].all()
    # The mug is blue in every frame, and so are its points' colours.
    red, _, blue = made.colours[made.ids[..., 0] == 255].mean(0)
    assert blue > red + 60
