"""Masks beside videos: what is read, what is refused, and what a folder makes of them."""

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tavid_jax.data.augment import Augmentation, flip
from tavid_jax.data.clip import ClipError
from tavid_jax.data.folder import open_clips
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.data.masks import find_masks, fitted_masks, option, read_mask
from tavid_jax.data.plan import Plan
from tavid_jax.data.verdicts import Verdict, read_verdicts, write_verdicts
from tavid_jax.data.video import fit

SIZE = (32, 48)
HW = (64, 96)  # of the videos


def box(y0, x0, y1, x1, size_hw=HW):
    mask = np.zeros(size_hw, np.uint8)
    mask[y0:y1, x0:x1] = 255
    return mask


def write(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), mask)
    return path


def opened(paths, **kw):
    settings = dict(size_hw=SIZE, num_frames=5, track=False, masks="")
    return open_clips(paths, **(settings | kw))


@pytest.fixture
def clips(tmp_path, make_video):
    """a: one target and an actor; b (images): two targets; c: no mask."""
    folder = tmp_path / "v"
    make_video(folder / "a.avi", num_frames=12, size_hw=HW)
    make_video(folder / "b", num_frames=7, size_hw=HW)
    make_video(folder / "c.avi", num_frames=8, size_hw=HW)
    write(folder / "a.target.png", box(10, 20, 30, 50))
    write(folder / "a.actor.png", box(40, 60, 60, 90))
    write(folder / "b.target_10.png", box(0, 0, 20, 20))
    write(folder / "b.target_2.png", box(30, 30, 40, 60))
    for name in "abc":
        (folder / f"{name}.txt").write_text(f"Clip {name} goes left.")
    return folder


def test_one_clip_a_video_with_targets_then_the_actor(clips):
    source = opened(f"{clips}/*", hop=2)
    assert [clip.id for clip in source] == ["a@00000", "b@00000"]  # whatever the hop
    assert [path.split("/")[-1] for path, _ in source.skipped] == ["c.avi"]
    assert "c.target.png" in source.skipped[0][1] and "no target mask" in source.skipped[0][1]
    a, b = source
    assert (a.target, a.actor, b.target, b.actor) == (1, 2, 1, -1)
    np.testing.assert_array_equal(a.masks[0], box(5, 10, 15, 25, SIZE) > 0)
    np.testing.assert_array_equal(a.masks[1], box(20, 30, 30, 45, SIZE) > 0)
    assert b.masks.shape == (2, *SIZE)
    np.testing.assert_array_equal(b.masks[0], box(15, 15, 20, 30, SIZE) > 0)  # 2 before 10
    assert a.video.shape == (5, *SIZE, 3)


def test_without_masks_nothing_is_read(clips):
    (clips / "a.target.png").write_bytes(b"junk")
    source = opened(clips, masks=None)
    assert [len(source), source[0].masks, source[0].target] == [2 + 1 + 1, None, -1]
    assert "targets" not in source.entries()[0] and "masks" not in source.facts()


def test_masks_of_a_folder_of_their_own(clips, tmp_path):
    write(tmp_path / "m" / "c.target.png", box(0, 0, 9, 9))
    source = opened(f"{clips}/a.avi,{clips}/c.avi", masks=tmp_path / "m")
    assert [clip.id for clip in source] == ["c@00000"]


def test_masks_are_cut_as_frames_are(clips, make_video, tmp_path):
    """A square clip of a wide video is its middle; of the mask's left half nothing is left."""
    source = opened(clips / "a.avi", size_hw=(32, 32))
    np.testing.assert_array_equal(source[0].masks[0], box(5, 2, 15, 17, (32, 32)) > 0)
    write(clips / "a.actor.png", box(0, 0, 64, 10))
    with pytest.raises(ClipError, match=r"a.actor.png: the mask is empty after cutting .*a.avi"):
        opened(clips / "a.avi", size_hw=(32, 32))


def test_another_resolution_of_the_same_frame_is_taken(clips):
    write(clips / "a.target.png", box(20, 40, 60, 100, (128, 192)))
    np.testing.assert_array_equal(opened(clips)[0].masks[0], box(5, 10, 15, 25, SIZE) > 0)


@pytest.mark.parametrize(
    "mask, why",
    [
        (box(5, 5, 9, 9, (64, 64)), r"a.target.png: is 64x64, .*a.avi is 96x64: .*draw the mask"),
        (box(0, 0, 0, 0), "the mask is empty; the object must be white"),
        (box(0, 0, 64, 96), "covers 100% of the frame"),
    ],
)
def test_unusable_masks_are_named(clips, mask, why):
    write(clips / "a.target.png", mask)
    with pytest.raises(ClipError, match=why):
        opened(clips / "a.avi")
    assert len(opened(f"{clips}/a.avi,{clips}/b")) == 1  # of many, only this one is left out


def test_one_target_or_numbered_ones(clips):
    write(clips / "b.target.png", box(0, 0, 9, 9))
    with pytest.raises(ClipError, match="b.target_2.png too"):
        find_masks("b", clips)


def test_first_channel_above_127_after_exif_rotation(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0], pixels[0, 1], pixels[3, 5] = (128, 0, 0), (127, 255, 255), (255, 255, 255)
    exif = Image.Exif()
    exif[274] = 6  # shown after a quarter turn clockwise
    Image.fromarray(pixels).save(tmp_path / "m.png", exif=exif)
    mask = read_mask(tmp_path / "m.png")
    assert mask.shape == (6, 4) and mask.sum() == 2 and mask[0, 3] and mask[5, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_kind_of_picture(tmp_path, mode):
    picture = Image.fromarray(box(1, 2, 3, 5, (4, 6)))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), box(1, 2, 3, 5, (4, 6)) > 0)
    (tmp_path / "m.png").write_bytes(b"junk")
    with pytest.raises(ClipError, match="m.png: cannot be read as a mask"):
        read_mask(tmp_path / "m.png")


def test_a_thin_mask_shrinks_by_the_nearest_pixel(tmp_path):
    write(tmp_path / "x.target.png", box(0, 2, 64, 3))
    write(tmp_path / "x.actor.png", box(0, 0, 64, 9))
    files = find_masks("x", tmp_path)
    masks = fitted_masks(files, "x.mp4", HW, fit(HW, (16, 24)))
    assert masks.shape == (2, 16, 24) and masks[1].sum() == 16 * 2
    with pytest.raises(ClipError, match="x.target.png: the mask is empty after cutting x.mp4 to"):
        write(tmp_path / "x.target.png", box(0, 0, 64, 1))
        fitted_masks(files, "x.mp4", HW, fit(HW, (16, 24)))


def test_other_masks_are_another_plan(clips):
    def entries():
        source = opened(clips / "a.avi")
        return Plan.of(source, {}).clips, source.facts()

    before = entries()
    assert before == entries() and before[1]["masks"] == "frame 0"
    write(clips / "a.actor.png", box(41, 60, 60, 90))
    assert entries()[0] != before[0]
    assert entries()[0][0]["targets"] == before[0][0]["targets"]
    (clips / "a.actor.png").unlink()
    assert entries()[0][0]["actor"] == ""


def test_whole_videos_are_held_out(tmp_path, make_video):
    for k in range(5):
        make_video(tmp_path / f"{k}.avi", num_frames=12, size_hw=HW)
        write(tmp_path / f"{k}.target.png", box(1, 1, 20, 20))
    train, held = opened(tmp_path).split(0.4)
    assert [clip.id[0] for clip in held] == ["1", "3"]
    assert [clip.id[0] for clip in train] == ["0", "2", "4"]
    with pytest.raises(ClipError, match="too few to hold out"):
        opened(tmp_path / "0.avi").split(0.5)


def test_a_folder_of_images_states_its_rate(clips):
    (clips / "b" / "fps.txt").write_text("5\n")
    source = opened(clips / "b", num_frames=7)
    assert source[0].fps == 5 and source.entries()[0]["fps"] == 5
    assert opened(clips / "b", fps=2.5, num_frames=4)[0].video.shape[0] == 4
    (clips / "b" / "fps.txt").write_text("fast")
    with pytest.raises(ClipError, match="fps.txt: must hold one positive number"):
        opened(clips / "b")


def test_only_selected_clips_are_read(clips, tmp_path):
    verdicts = {"a": Verdict(True, "touches", 3), "b": Verdict(False, 'too, "far"')}
    write_verdicts(tmp_path / "new" / "list.csv", verdicts)
    assert read_verdicts(tmp_path / "new" / "list.csv") == verdicts
    source = opened(f"{clips}/*", masks=None, selected=tmp_path / "new" / "list.csv")
    assert {clip.id for clip in source} == {"a@00000", "a@00005"}
    reasons = {path.split("/")[-1]: reason for path, reason in source.skipped}
    assert "refused in" in reasons["b"] and 'too, "far"' in reasons["b"]
    assert "not in" in reasons["c.avi"]
    write_verdicts(tmp_path / "list.txt", verdicts)
    assert (tmp_path / "list.txt").read_text() == "a\n"
    assert [f.name for f in opened(clips, selected=tmp_path / "list.txt").files] == ["a"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "text, why",
    [
        ("name,kept\na,1\n", "has the columns video, kept"),
        ("video,kept\na,perhaps\n", "line 2: kept must be 1 or 0"),
        ("video,kept,contact_frame\na,1,soon\n", "contact_frame a whole number"),
    ],
)
def test_a_broken_list_is_named(clips, tmp_path, text, why):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ClipError, match=f"list.csv.*{why}"):
        opened(clips, selected=tmp_path / "list.csv")
    with pytest.raises(ClipError, match="none.csv: cannot be read"):
        opened(clips, selected=tmp_path / "none.csv")


def config(clips, **fields):
    options = dict(fps=0.0, hop=0, train_hop=0, holdout=0.0, captions="", tracks="")
    data = dict(size_hw=SIZE, frames=5, windows=1, clips=options | fields)
    return ConfigDict(
        dict(stages={}, clips="", train_clips=f"{clips}/*", data_dir=str(clips), data=data)
    )


@pytest.mark.parametrize("masks, count", [(None, 2 + 1 + 1), ("", 4), ("beside", 2)])
def test_a_config_names_them(clips, tmp_path, masks, count):
    fields = {} if masks is None else {"masks": masks}
    source = ConfiguredInputs(config(clips, **fields), tmp_path / "run").open("train")
    assert len(source) == count and (source[0].masks is not None) == (masks == "beside")
    (tmp_path / "list.txt").write_text("b\n")
    inputs = ConfiguredInputs(config(clips, selected=str(tmp_path / "list.txt"), **fields), clips)
    assert {clip.id for clip in inputs.open("train")} == {"b@00000"}
    assert option("some/folder") == "some/folder"


def test_a_mirrored_clip_has_mirrored_masks(clips):
    clip = opened(clips / "a.avi")[0]
    mirrored = flip(clip)
    np.testing.assert_array_equal(mirrored.masks, clip.masks[:, :, ::-1])
    np.testing.assert_array_equal(mirrored.video, clip.video[:, :, ::-1])
    assert (mirrored.target, mirrored.actor) == (1, 2) and "goes right" in mirrored.caption


def test_crops_keep_actor_and_target_in_the_frame(clips):
    clip = opened(clips / "a.avi")[0]
    # White where an object is, so that video and masks can be compared.
    seen = np.where(clip.masks.any(0), 255, 0).astype(np.uint8)
    clip = clip.replace(video=np.repeat(np.repeat(seen[None, ..., None], 3, -1), 5, 0))
    change = Augmentation(flip=0.0, reverse=1.0, crop=1.0, crop_side=0.5)
    cropped = 0
    for seed in range(40):
        other = change(clip, np.random.default_rng(seed))
        differs = (other.video[0, ..., 0] > 127) != other.masks.any(0)
        assert differs.mean() < 0.04  # along edges
        assert other.masks[0].any() and other.masks[1].any() and other.target == 1
        cropped += not np.array_equal(other.masks, clip.masks)
    assert 3 < cropped < 40  # some crops would lose one of them
