"""Tracks, ownership and visibility against a slow scalar computation."""

import math

import numpy as np
import pytest

from tavid_jax.data.synthetic import SceneConfig, sample_scene, scene_clip, shapes
from tavid_jax.data.synthetic.exact import exact_tracks, owners, query_grid
from tavid_jax.data.synthetic.scene import sample_layouts

CONFIG = SceneConfig(render=False)


def solve(matrix, point):
    """Inverse of a 2x3 map by numpy's solver."""
    return np.linalg.solve(matrix[:, :2], np.asarray(point) - matrix[:, 2])


def inside(shape, point) -> bool:
    """Bilinear lookup in the table of a shape, by scalar arithmetic."""
    table, step = shapes.table(shape), 2 * shapes.EXTENT / shapes.CELLS
    u, v = ((c + shapes.EXTENT) / step for c in point)
    if not (0 <= u < shapes.CELLS and 0 <= v < shapes.CELLS):
        return False
    j, i = math.floor(u), math.floor(v)
    a, b = u - j, v - i
    top = table[i, j] * (1 - a) + table[i, j + 1] * a
    low = table[i + 1, j] * (1 - a) + table[i + 1, j + 1] * a
    return top * (1 - b) + low * b <= 0


def brute_force(scene, query):
    """(tracks, visibility, owner) of one query point."""
    world = solve(scene.camera[0], query)
    covering = [
        k for k, shape in enumerate(scene.shapes) if inside(shape, solve(scene.place[k, 0], world))
    ]
    owner = max(covering, default=-1)
    height, width = scene.config.size_hw
    tracks, seen = [], []
    for t in range(scene.config.num_frames):
        here = world
        if owner >= 0:
            local = solve(scene.place[owner, 0], world)
            here = scene.place[owner, t] @ [*local, 1.0]
        x, y = scene.camera[t] @ [*here, 1.0]
        hidden = any(
            inside(scene.shapes[k], solve(scene.place[k, t], here))
            for k in range(owner + 1, len(scene.shapes))
        )
        tracks.append((x, y))
        seen.append(0 <= x <= width - 1 and 0 <= y <= height - 1 and not hidden)
    return np.array(tracks), np.array(seen), owner + 1


@pytest.mark.parametrize("seed", [1, 3, 10**9 + 5])
def test_tracks_equal_brute_force(seed):
    scene = sample_scene(CONFIG, seed)
    clip = scene_clip(scene)
    for n in range(0, 64, 3):
        tracks, seen, owner = brute_force(scene, clip.query_xy[n])
        np.testing.assert_allclose(clip.tracks[n], tracks, atol=2e-5)
        assert clip.segment[n] == owner
        np.testing.assert_array_equal(clip.visibility[n], seen)


def test_batch_of_layouts_equals_single_scenes():
    layout, kind = sample_layouts(CONFIG, range(6))
    exact = exact_tracks(layout, query_grid(CONFIG), CONFIG.size_hw)
    for b in range(6):
        clip = scene_clip(sample_scene(CONFIG, b))
        np.testing.assert_array_equal(exact.tracks[b], clip.tracks)
        np.testing.assert_array_equal(exact.visibility[b], clip.visibility)
        # Slots are not renumbered in a layout: the k-th present slot is object k.
        present = np.flatnonzero(layout.shape[b] >= 0)
        number = np.zeros(CONFIG.max_objects + 1, int)
        number[present + 1] = np.arange(1, len(present) + 1)
        np.testing.assert_array_equal(number[exact.segment[b]], clip.segment)
        assert tuple(CONFIG.kinds[kind[b, s]] for s in present) == clip.kinds


def test_query_grids():
    center = query_grid(CONFIG)
    assert center[:2].tolist() == [[4.0, 4.0], [12.0, 4.0]] and center[-1].tolist() == [60.0, 60.0]
    corner = query_grid(SceneConfig(origin="topleft"))
    assert corner[0].tolist() == [0.0, 0.0] and corner[9].tolist() == [8.0, 8.0]


def test_tracks_start_at_the_query_and_any_points_may_be_asked():
    scene = sample_scene(CONFIG, 8)
    points = np.array([[0.0, 0.0], [10.25, 33.7], [63.0, 63.0]])
    clip = scene_clip(scene, query_xy=points)
    np.testing.assert_allclose(clip.tracks[:, 0], points, atol=1e-5)
    assert clip.visibility[:, 0].all() and clip.grid_hw is None
    for n, point in enumerate(points):
        np.testing.assert_allclose(clip.tracks[n], brute_force(scene, point)[0], atol=2e-5)


def test_every_query_is_visible_at_frame_0():
    for seed in range(10):
        assert scene_clip(sample_scene(CONFIG, seed)).visibility[:, 0].all()


def test_objects_in_front_hide_and_are_never_hidden_by_those_behind():
    config = SceneConfig(render=False, camera=0.0, presence=1.0)
    hidden = 0
    for seed in range(20):
        clip = scene_clip(sample_scene(config, seed))
        x, y = clip.tracks[..., 0], clip.tracks[..., 1]
        in_frame = (x >= 0) & (x <= 63) & (y >= 0) & (y <= 63)
        front = clip.segment == 4
        np.testing.assert_array_equal(clip.visibility[front], in_frame[front])
        hidden += (in_frame & ~clip.visibility)[clip.segment < 4].sum()
        np.testing.assert_array_equal(clip.depth[:, 0], 4 - clip.segment)
    assert hidden > 500


def test_background_moves_with_the_camera_alone():
    still = scene_clip(sample_scene(SceneConfig(render=False, camera=0.0), 2))
    back = still.tracks[still.segment == 0]
    np.testing.assert_array_equal(back, np.repeat(back[:, :1], 34, axis=1))
    scene = next(
        s for s in (sample_scene(SceneConfig(render=False, camera=1.0), k) for k in range(9))
    )
    clip = scene_clip(scene)
    query = clip.query_xy[clip.segment == 0]
    ones = np.concatenate([query, np.ones((len(query), 1))], axis=1)
    expected = np.einsum("tij,nj->nti", scene.camera, ones)
    np.testing.assert_allclose(clip.tracks[clip.segment == 0], expected, atol=1e-4)


def test_owners_at_a_later_frame_equal_the_segment_map():
    scene = sample_scene(SceneConfig(), 3)
    clip = scene_clip(scene)
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2).astype(float)
    for frame in (0, 15, 33):
        exact = owners(scene.layout, pixels, frame)[0].reshape(64, 64)
        assert (exact == clip.segment_map[frame]).mean() > 0.99


def test_masks_are_what_is_seen_at_frame_0():
    clip = scene_clip(sample_scene(SceneConfig(presence=1.0), 3))
    assert clip.masks.shape == (4, 64, 64)
    assert clip.masks.sum(0).max() <= 1  # nothing is seen twice
    for n, (x, y) in enumerate(clip.query_xy.astype(int)):
        expected = np.arange(1, 5) == clip.segment[n]
        np.testing.assert_array_equal(clip.masks[:, y, x], expected)
    for number in range(1, 5):
        both = clip.masks[number - 1] == (clip.segment_map[0] == number)
        assert both.mean() > 0.99


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_shapes_have_the_area_of_the_unit_disc(name):
    table = shapes.table(name)
    cell = (2 * shapes.EXTENT / shapes.CELLS) ** 2
    assert (table <= 0).sum() * cell == pytest.approx(math.pi, rel=0.03)
    border = np.concatenate([table[0], table[-1], table[:, 0], table[:, -1]])
    assert border.min() > 0  # the whole shape lies inside its table
    assert 0.99 < shapes.reach(name) < shapes.EXTENT
    gradient = np.hypot(*np.gradient(table, 2 * shapes.EXTENT / shapes.CELLS))
    near = np.abs(table) < 0.05
    assert 0.7 < np.median(gradient[near]) < 1.2  # a distance, so edges are equally soft
