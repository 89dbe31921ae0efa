"""FlexBench's clips that no tracker made: rendered ids, a partner's, keypoints; and backgrounds."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from tavid_jax.data.rle_masks import write_rle_masks
from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.data.video import write_video
from tavid_jax.pipelines.bench import bench_jobs
from tavid_jax.pipelines.following import guide_of
from tavid_jax.pipelines.settings import PUBLISHED
from tavid_jax.tracks.trajectories import Trajectories

FRAMES, SIZE_HW = 9, (480, 720)
SAMPLING = dataclasses.replace(PUBLISHED["cogvideox-5b-i2v"].sampling, frames=FRAMES)


def box(top, left):
    """A mask of 80 x 120 px."""
    mask = np.zeros(SIZE_HW, bool)
    mask[top : top + 80, left : left + 120] = True
    return mask


def clip(folder, name, mask, red):
    """Rendered ids of an object that stands still, and what it is not, as the files have it."""
    frame = np.where(mask[..., None], np.uint8([red, 40, 80]), np.uint8(0))
    write_video(folder / f"{name}.mp4", [frame] * FRAMES, 8)
    write_rle_masks(folder / f"{name}.pkl", np.tile(~mask, (FRAMES, 1, 1, 1)))


@pytest.fixture
def folder(tmp_path):
    clip(tmp_path, "own", box(200, 100), 220)
    clip(tmp_path, "partner", box(100, 400), 160)
    y, x = np.mgrid[10:480:20, 10:720:20]
    start = np.stack([x.ravel(), y.ravel()], -1)[:, None].astype(np.float32)
    tracks = np.repeat(start, FRAMES, axis=1)
    depth = np.full(tracks.shape[:2], 0.5, np.float32)
    made = Trajectories(tracks, np.ones(tracks.shape[:2], bool), SIZE_HW, depth=depth)
    write_trajectories(tmp_path / "tracks.npy", made)
    np.save(tmp_path / "pose.npy", np.full((FRAMES, 3, 2), 150.0) + np.arange(3)[:, None] * 60)
    cv2.imwrite(str(tmp_path / "first.png"), np.zeros((*SIZE_HW, 3), np.uint8))
    return tmp_path


def job(folder, seed=0, **entry):
    common = {
        "is_real_video": False,
        "seg_map_path": "own.pkl",
        "validation_prompt": "walks",
        "input_image": "first.png",
    }
    lists = [{"prefix": "", "validations": [common | entry]}]
    (folder / "flexbench.json").write_text(json.dumps(lists))
    (made,) = bench_jobs(folder / "flexbench.json", seed=seed)
    return made


def ids(made):
    return guide_of(made, SAMPLING, []).videos()[0]


def bounds(drawn):
    """Of what was rendered: first and last row, first and last column."""
    rows, columns = np.nonzero(drawn[..., 1] > 25)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def outside(frame):
    """Pixels that are not near the own object."""
    return frame[cv2.dilate(box(200, 100).astype(np.uint8), np.ones((9, 9))) == 0]


def test_rendered_ids_alone(folder):
    drawn = ids(job(folder, tracking_map_path="own.mp4", temporal_config={"temporal_scale": 0.0}))
    assert [bool(frame.any()) for frame in drawn] == [t in (0, 8) for t in range(FRAMES)]
    np.testing.assert_allclose(bounds(drawn[0]), (200, 280, 100, 220), atol=2)
    assert outside(drawn[0]).max() < 20  # what the codec leaves


def test_a_few_points_of_the_background_lie_behind(folder):
    made = job(folder, tracking_map_path="tracks.npy,own.mp4")
    assert made.tracks.num_points == 8  # a hundredth of those outside
    assert not box(195, 95)[tuple(made.tracks.tracks[:, 0, ::-1].astype(int).T)].any()
    drawn = ids(made)
    behind = outside(drawn[0])
    assert set(behind[behind.any(-1)][:, 0].tolist()) == {127}
    assert (drawn[0][..., 0] == 127).sum() == 8 * 12 * 8
    other = job(folder, 1, tracking_map_path="tracks.npy,own.mp4")
    assert not np.array_equal(other.tracks.tracks, made.tracks.tracks)


def test_the_motion_of_a_partner_comes_to_where_the_object_is(folder):
    unalign = {"rle_path_unalign": "partner.pkl", "render_track_unalign": "partner.mp4"}
    made = job(folder, tracking_map_path="tracks.npy,own.mp4", unalign_config=unalign)
    guide = guide_of(made, SAMPLING, [])
    assert guide.prefix == "unaligned, "
    drawn = guide.videos()[0][0]
    np.testing.assert_allclose(bounds(drawn), (200, 280, 100, 220), atol=2)
    assert abs(int(drawn[240, 160, 0]) - 160) < 12  # the partner's red


def test_keypoints_stand_before_the_background(folder):
    write_rle_masks(folder / "person.pkl", np.tile(box(200, 100), (FRAMES, 1, 1, 1)))
    made = job(folder, tracking_map_path="tracks.npy,pose.npy", seg_map_path="person.pkl")
    assert made.tracks.segment.tolist() == [0] * 8 + [1] * 3
    drawn = ids(made)[0]
    assert [drawn[y, y].tolist() for y in (150, 210, 270)] == [
        [255, *divmod(n, 256)] for n in (0, 2450, 4900)
    ]


def test_what_is_real_keeps_its_points_and_options(folder):
    made = job(
        folder, is_real_video=True, tracking_map_path="tracks.npy",
        spatial_config={"spatial_scale": 0.05}, valid_frame_idxs=[0, 3],
    )  # fmt: skip
    assert str(made.tracks) == str(folder / "tracks.npy") and made.source is None
    drawn = ids(made)
    assert [bool(frame.any()) for frame in drawn] == [t in (0, 3) for t in range(FRAMES)]
    points = int(24 * 36 * 0.05)  # large stamps, as few are left
    assert (drawn[0].any(-1)).sum() <= points * 96 and drawn[0].any(-1).sum() > points * 80
