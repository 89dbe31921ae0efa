"""The picture of a video: which frames it shows, and what is drawn."""

import numpy as np

from tavid_jax.data.video import VideoInfo
from tavid_jax.metrics import contact
from tavid_jax.scoring.picture import _ACTOR, _OTHER, _TARGET, _TOUCH, _chosen, picture
from tavid_jax.scoring.providers import Found
from tavid_jax.scoring.score import Scores, Touches, VideoScores
from tavid_jax.scoring.targets import Objects


def video(length: int = 20, num_targets: int = 1) -> tuple[VideoScores, np.ndarray]:
    """Two squares, the first of which the actor covers in frames 6 ... 12."""
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 10:20, 10:20], masks[1, 10:20, 40:50] = True, True
    objects = np.repeat(masks[:, None], length, axis=1)
    region = np.zeros((length, 40, 60), bool)
    region[6:13, 8:16, 8:16] = True
    boxes = tuple(
        np.array([[8.0, 8, 16, 16]]) if frame.any() else np.zeros((0, 4)) for frame in region
    )
    notes = tuple(("a hand 0.50",) * len(found) for found in boxes)
    shares = np.stack([contact.overlaps(region, regions) for regions in objects])
    touches = Touches(np.arange(length) * 3, objects, Found(region, boxes, notes), shares)
    info = VideoInfo("somewhere/clip.mp4", 3 * length, (40, 60), 24)
    frames = np.full((3 * length, 40, 60, 3), 128, np.uint8)
    names = ("clip.target.png", "clip.other.png")
    return VideoScores(info, objects=Objects(names, num_targets, masks), touches=touches), frames


def drawn(scored: VideoScores, frames: np.ndarray) -> np.ndarray:
    about = {"contact_score": {"name": "owlvit-base-patch32"}}
    return picture(scored, frames, Scores((scored,), {}, {}, (), about, contact.RULE))


def colours(image: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.unique(image.reshape(-1, 3), axis=0).tolist()))


def test_begin_and_height_of_a_contact_are_shown():
    scored, _ = video()
    held = contact.contact_frames(scored.touches.shares)
    chosen = _chosen(scored.touches, held)
    assert len(chosen) == 8 and chosen == sorted(set(chosen))
    assert {0, 6, 19} <= set(chosen)
    assert _chosen(video(3)[0].touches, held[:, :3]) == [0, 1, 2]


def test_everything_has_its_colour():
    scored, frames = video()
    image = drawn(scored, frames)
    assert {_TARGET, _OTHER, _ACTOR, _TOUCH} <= colours(image)
    assert image.shape[1] >= 640


def test_without_contact_no_frame_is_marked():
    scored, frames = video(6)
    image = drawn(scored, frames)
    quiet = scored.touches.shares.max()
    assert quiet == 0
    legend = image[-48:]
    assert _TOUCH in colours(legend) and _TOUCH not in colours(image[:-48])


def test_a_video_without_masks_has_no_picture():
    scored, frames = video()
    bare = VideoScores(scored.info)
    assert drawn(bare, frames) is None
