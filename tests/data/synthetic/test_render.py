"""What is drawn lies where the tracks say, to a few hundredths of a pixel."""

import cv2
import numpy as np
import pytest

from tavid_jax.data.synthetic import SceneConfig, looks, sample_scene, scene_clip, shapes
from tavid_jax.data.synthetic.render import MARGIN, render


def bilinear(image, points):
    """Values of image (H, W, C) at points (N, 2)."""
    x, y = (np.ascontiguousarray(points[None, :, k], np.float32) for k in (0, 1))
    return cv2.remap(image.astype(np.float32), x, y, cv2.INTER_LINEAR)[0]


def ramps(side):
    """RGB bitmap whose red and green are its own x and y coordinate, 0..255."""
    axis = np.linspace(0, 255, side)
    x, y = np.meshgrid(axis, axis)
    return np.rint(np.stack([x, y, 0 * x], axis=-1)).astype(np.uint8)


@pytest.fixture
def coordinate_textures(monkeypatch):
    """Bitmaps that show texture coordinates instead of colours."""
    ground, sprite = looks.ground_bitmap, looks.sprite_bitmap

    def show_ground(*args):
        return ramps(ground(*args).shape[0])

    def show_sprite(*args):
        bitmap = sprite(*args)
        colour = ramps(bitmap.shape[0]).astype(float) * (bitmap[..., 3:] / 255.0)
        return np.dstack([np.rint(colour).astype(np.uint8), bitmap[..., 3]])

    monkeypatch.setattr(looks, "ground_bitmap", show_ground)
    monkeypatch.setattr(looks, "sprite_bitmap", show_sprite)


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_tracks_stay_on_their_texture_point(seed, coordinate_textures):
    scene = sample_scene(SceneConfig(camera=1.0), seed)
    # Anywhere, so that rounding of colours at frame 0 averages out.
    points = np.random.default_rng(seed).uniform(2.0, 61.0, (300, 2))
    clip = scene_clip(scene, query_xy=points)
    # Away from edges: the pixels around the point belong to its object.
    same = {
        number: [
            cv2.erode((frame == number).astype(np.uint8), np.ones((5, 5)), borderValue=0)
            for frame in clip.segment_map
        ]
        for number in range(len(scene.shapes) + 1)
    }
    errors = []
    for n in range(len(clip.tracks)):
        number = clip.segment[n]
        if number == 0:
            per_level = (64 + 2 * MARGIN) / 255.0
        else:
            axes = np.linalg.norm(scene.place[number - 1, :, :, :2], axis=1)
            per_level = 2 * shapes.extent(scene.shapes[number - 1]) * axes.mean() / 255.0
        first = bilinear(clip.video[0], clip.tracks[n, :1])[0]
        x0, y0 = np.rint(clip.tracks[n, 0]).astype(int)
        if not same[number][0][y0, x0]:
            continue
        for t in np.flatnonzero(clip.visibility[n]):
            x, y = np.rint(clip.tracks[n, t]).astype(int)
            if same[number][t][y, x]:
                now = bilinear(clip.video[t], clip.tracks[n, t : t + 1])[0]
                errors.append((now - first)[:2] * per_level)
    errors = np.array(errors)
    assert len(errors) > 2000
    assert np.abs(errors.mean(0)).max() < 0.03  # px: no systematic shift
    assert np.sqrt((errors**2).mean()) < 0.20  # px: quantisation to 255 levels alone gives 0.15
    assert np.abs(errors).max() < 0.8


def test_real_textures_agree_best_at_the_track():
    """Colours along tracks change less than colours along tracks that are off by half a pixel."""
    clip = scene_clip(sample_scene(SceneConfig(camera=1.0, stride=4), 6))

    def change(shift):
        total = []
        for n in range(0, len(clip.tracks), 2):
            first = bilinear(clip.video[0], clip.tracks[n, :1])[0]
            for t in np.flatnonzero(clip.visibility[n])[1::3]:
                now = bilinear(clip.video[t], clip.tracks[n, t : t + 1] + np.float32(shift))[0]
                total.append(np.abs(now - first).mean())
        return np.mean(np.sort(total)[: int(0.9 * len(total))])  # the rest touches edges

    best = change((0.0, 0.0))
    for shift in ((0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5)):
        assert best < 0.9 * change(shift)


def test_render_is_deterministic_and_composites_exactly():
    scene = sample_scene(SceneConfig(), 3)
    one, two = render(scene), render(scene)
    np.testing.assert_array_equal(one.video, two.video)
    assert one.segment_map.max() == len(scene.shapes)
    # Inside an object the colour is the object's own: nothing shines through.
    red = sample_scene(
        SceneConfig(colours=("red",), textures=("plain",), shapes=("disc",), presence=1.0), 1
    )
    frames = render(red)
    inner = cv2.erode((frames.segment_map[0] > 0).astype(np.uint8), np.ones((3, 3)), borderValue=0)
    pixels = frames.video[0][inner > 0].astype(int)
    assert (pixels[:, 0] > pixels[:, 1] + 50).all() and (pixels[:, 0] > pixels[:, 2] + 50).all()


def test_larger_picture_shows_the_same_scene():
    scene = sample_scene(SceneConfig(), 6)
    small, large = scene_clip(scene), scene_clip(scene, scale=4.0)
    assert large.size_hw == (256, 256) and large.video.shape == (34, 256, 256, 3)
    np.testing.assert_allclose(large.tracks, (small.tracks + 0.5) * 4 - 0.5, atol=1e-4)
    np.testing.assert_array_equal(large.visibility, small.visibility)
    assert large.masks.shape[1:] == (256, 256) and large.caption == small.caption
    for t in (0, 16, 33):
        shrunk = cv2.resize(large.video[t], (64, 64), interpolation=cv2.INTER_AREA)
        difference = np.abs(shrunk.astype(int) - small.video[t].astype(int))
        assert difference.mean() < 4.0
        same = large.segment_map[t][2::4, 2::4] == small.segment_map[t]
        assert same.mean() > 0.97


@pytest.mark.parametrize("background", looks._GROUND_TONES)
def test_every_background_is_drawn(background):
    ground = looks.Ground(background, 9.0, 0.3, 5)
    bitmap = looks.ground_bitmap(ground, 64.0, 24.0, 1.5)
    assert bitmap.shape == (169, 169, 3)
    assert (bitmap.std(axis=(0, 1)).max() > 2.0) == (background != "plain")


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_sprites_wear_every_texture(shape):
    bitmaps = {
        texture: looks.sprite_bitmap(shape, looks.Look("blue", texture, 1.7, 0.4, 3), 12.0, 1.5)
        for texture in looks.TEXTURES
    }
    plain = bitmaps["plain"].astype(int)
    solid = plain[..., 3] == 255
    share = solid.mean() * (2 * shapes.extent(shape)) ** 2
    assert 0.6 * np.pi < share < np.pi
    for texture, bitmap in bitmaps.items():
        np.testing.assert_array_equal(bitmap[..., 3], bitmaps["plain"][..., 3])
        assert (bitmap[..., :3] <= bitmap[..., 3:]).all()  # premultiplied
        if texture != "plain":
            assert (np.abs(bitmap.astype(int) - plain).max(-1) > 20)[solid].mean() > 0.1
