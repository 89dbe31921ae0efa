"""Finding the actor: OWL-ViT as transformers runs it, motion on scenes that are known."""

import cv2
import numpy as np
import pytest

from tavid_jax.data.synthetic import SceneConfig, sample_scene, scene_clip
from tavid_jax.metrics import contact
from tavid_jax.scoring import Actors, HOGActors, MotionActors, OwlViTActors, ScoringError
from tavid_jax.scoring.detectors import _kept
from tavid_jax.scoring.owlvit import iou

NOTHING = np.zeros((0, 3, 50, 70), bool)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)


@pytest.mark.parity
def test_owlvit_is_that_of_transformers(checkpoints, frames):
    """From frames and texts to boxes in px: preprocessing, tokens, towers, heads, threshold."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    texts, folder = ["a hand", "a dog"], checkpoints / "owlvit"
    model = transformers.OwlViTForObjectDetection.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    ids = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    processor = transformers.OwlViTImageProcessorPil(size={"height": 48, "width": 48})
    pixels = processor(images=list(frames), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        tokens = ids["input_ids"].repeat(len(frames), 1)
        want = model(input_ids=tokens, pixel_values=pixels)
    scores = torch.sigmoid(want.logits.max(-1).values)
    between = torch.sort(scores.flatten()).values[50:52]
    threshold = float(between.mean())  # not a score itself, which rounding could drop
    sizes = torch.tensor([[50, 70]] * len(frames))
    wanted = processor.post_process_object_detection(want, threshold, sizes)
    provider = OwlViTActors(folder, texts, threshold=threshold, most_shared=1.0)
    found = provider(frames, NOTHING)
    for boxes, notes, theirs in zip(found.boxes, found.notes, wanted, strict=True):
        order = np.argsort(-theirs["scores"].numpy(), kind="stable")
        assert len(boxes) == len(order) > 0
        clipped = np.clip(theirs["boxes"].numpy()[order], 0, [70, 50, 70, 50])
        np.testing.assert_allclose(boxes, clipped, atol=2e-3)
        labels = [texts[k] for k in theirs["labels"].numpy()[order]]
        assert [note.rsplit(" ", 1)[0] for note in notes] == labels
    region = contact.region_of_boxes(found.boxes, (50, 70))
    np.testing.assert_array_equal(found.region, region)


def test_owlvit_describes_itself_and_reports(checkpoints, frames):
    provider, seen = OwlViTActors(checkpoints / "owlvit", threshold=1.0), []
    assert isinstance(provider, Actors)
    about = provider.describe()
    assert about["queries"] == ["a hand"] and about["threshold"] == 1.0 and about["weights"]
    found = provider(frames, NOTHING, lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not found.region.any() and [len(boxes) for boxes in found.boxes] == [0, 0, 0]


def test_owlvit_needs_its_own_files(checkpoints, tmp_path):
    with pytest.raises(ScoringError, match="--owlvit .*dino: holds .* but OWL-ViT"):
        OwlViTActors(checkpoints / "dino")
    with pytest.raises(ScoringError, match="at least one text"):
        OwlViTActors(checkpoints / "owlvit", [])
    with pytest.raises(ValueError, match="holds no CLIP tokenizer"):
        OwlViTActors(checkpoints / "owlvit", tokenizer=tmp_path)


def test_weaker_boxes_of_one_thing_are_dropped():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30], [0, 0, 3, 3]], float)
    scores = np.array([0.5, 0.9, 0.3, 0.05])
    assert iou(boxes[0], boxes[1]) == pytest.approx(0.9)
    assert iou(boxes[0], boxes[2]) == 0.0 and iou(boxes[0] * 0, boxes[0] * 0) == 0.0
    assert _kept(boxes, scores, 0.1, 0.5) == [1, 2]
    assert _kept(boxes, scores, 0.1, 0.95) == [1, 0, 2]
    assert _kept(boxes, scores, 0.01, 0.5) == [1, 2, 3]


def regions(clip, *numbers: int) -> np.ndarray:
    return np.stack([clip.segment_map == number for number in numbers])


def test_motion_finds_contact_with_the_target_alone():
    """With true regions of the objects: most contacts, and none with look-alikes."""
    config, hits = SceneConfig(interaction=True, size_hw=(128, 128), camera=0.0), []
    for seed in range(8):
        clip = scene_clip(sample_scene(config, seed))
        others = [k for k in range(1, len(clip.masks) + 1) if k not in (clip.actor, clip.target)]
        objects = regions(clip, clip.target, *others)[:, ::2]
        found = MotionActors()(clip.video[::2], objects)
        assert not (found.region & objects.any(0)).any()
        first = contact.first_contact(
            np.stack([contact.overlaps(found.region, region) for region in objects])
        )
        hits.append(first[0] >= 0 and abs(2 * first[0] - clip.contact_frame) <= 8)
        assert (first[1:] == -1).all()
    assert sum(hits) >= 7


def test_nothing_moves_in_a_still_video(touching):
    clip, _ = touching
    still = np.repeat(clip.video[:1], 5, axis=0)
    objects = np.repeat(regions(clip, clip.target)[:, :1], 5, axis=1)
    assert not MotionActors()(still, objects).region.any()


def test_a_moving_camera_is_no_actor(rng):
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (90, 140, 3)).astype(np.float32), (0, 0), 3)
    picture = np.clip((noise - 128) * 6 + 128, 0, 255).astype(np.uint8)
    frames = np.stack([picture[10:74, x : x + 96] for x in range(0, 20, 4)])
    found = MotionActors()(frames, np.zeros((1, *frames.shape[:3]), bool))
    assert found.region.mean() < 0.05


@pytest.mark.skipif(not hasattr(cv2, "HOGDescriptor"), reason="this OpenCV has no people detector")
def test_hog_gives_boxes_inside_of_what_is_large_enough(frames):
    found = HOGActors()(frames, NOTHING)
    assert found.region.shape == frames.shape[:3]
    assert len(found.boxes) == len(found.notes) == len(frames)
    assert isinstance(HOGActors(), Actors)


def test_hog_says_what_is_missing(monkeypatch):
    monkeypatch.delattr(cv2, "HOGDescriptor", raising=False)
    with pytest.raises(ScoringError, match="opencv-contrib-python-headless"):
        HOGActors()
