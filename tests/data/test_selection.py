"""The selection rule against scenes that are known, and its command."""

import dataclasses

import cv2
import numpy as np
import pytest

from tavid_jax.data.__main__ import main
from tavid_jax.data.augment import reverse_time
from tavid_jax.data.carry import carry_masks
from tavid_jax.data.folder import open_clips
from tavid_jax.data.selection import Rule, select
from tavid_jax.data.synthetic import SceneConfig, sample_scene, scene_clip
from tavid_jax.data.synthetic.toy import reaching
from tavid_jax.data.verdicts import read_verdicts

SCENES = SceneConfig(interaction=True)
STILL_CAMERA = SceneConfig(interaction=True, camera=0.0)
SEEDS = range(25)


def clips(config, seeds=SEEDS):
    return [scene_clip(sample_scene(config, seed)) for seed in seeds]


def unknown(clip):
    """The clip as a real one: frames and masks of the first, nothing else."""
    return clip.replace(
        segment_map=None,
        tracks=None,
        visibility=None,
        depth=None,
        segment=None,
        grid_hw=None,
        query_xy=None,
        contact_frame=-1,
    )


@pytest.mark.parametrize("config, early", [(reaching(), 1), (SCENES, 4), (STILL_CAMERA, 4)])
def test_true_scenes_are_kept_with_their_contact(config, early):
    """Within a frame of nine, or four of 34: the actor's last steps are slow, and masks that are
    1.5 px apart touch."""
    for clip in clips(config):
        verdict = select(clip)
        assert verdict.kept, verdict.reason
        assert -early <= verdict.contact_frame - clip.contact_frame <= 0


def test_scenes_that_start_with_the_contact_are_refused():
    """Where the target is lifted off the actor they are apart at the end: told so."""
    told = []
    for clip in clips(SCENES, range(12)):
        verdict = select(clip.window(clip.contact_frame, 6))
        assert not verdict.kept and verdict.contact_frame == -1
        told.append(verdict.reason)
    assert all(reason.startswith("actor and target touch in frame 0") for reason in told)
    assert told.count("actor and target touch in frame 0 already") >= 9


def test_scenes_played_backwards_are_refused():
    reasons = [select(reverse_time(clip)) for clip in clips(SCENES)]
    assert not any(verdict.kept for verdict in reasons)
    told = [verdict.reason for verdict in reasons]
    backwards = [reason for reason in told if reason.endswith("as if played backwards")]
    comes = [reason for reason in told if reason.startswith("not the actor comes to the target")]
    assert len(backwards) + len(comes) == len(told) and len(backwards) > 15 and comes


def test_a_still_video_is_refused():
    for clip in (*clips(SCENES, range(2)), *map(unknown, clips(reaching(), range(2)))):
        changes = {
            name: np.repeat(getattr(clip, name)[:1], 9, 0)
            for name in ("video", "segment_map")
            if getattr(clip, name) is not None
        }
        for name in ("tracks", "visibility", "depth"):
            if getattr(clip, name) is not None:
                changes[name] = np.repeat(getattr(clip, name)[:, :1], 9, 1)
        still = clip.replace(**changes, contact_frame=-1)
        assert select(still).reason == "a still video: nothing moves"
        assert select(still.replace(actor=-1)).reason == "a still video: nothing moves"


def test_an_actor_that_is_not_there_is_refused():
    clip = clips(STILL_CAMERA, range(1))[0]
    hidden = np.where(clip.segment_map[:1] == clip.actor, 0, clip.segment_map[:1])
    hidden = clip.replace(segment_map=np.concatenate([hidden, clip.segment_map[1:]]))
    assert select(hidden).reason.startswith("the actor is not seen in frame 0: it covers 0.00%")
    assert "at least 90.00%" in select(clip, Rule(actor_share=0.9)).reason


def test_without_any_actor_nothing_comes_near():
    for seed in range(2):
        scene = sample_scene(STILL_CAMERA, seed)
        alone = dataclasses.replace(
            scene,
            shapes=scene.shapes[:-1],
            kinds=scene.kinds[:-1],
            objects=scene.objects[:-1],
            place=scene.place[:-1],
            actor=-1,
            contact_frame=-1,
        )
        verdict = select(unknown(scene_clip(alone)))
        assert not verdict.kept
        assert verdict.reason.startswith(("no actor mask, and of what moves", "a still video"))


@pytest.mark.slow
def test_without_an_actor_mask_most_scenes_are_kept():
    found = []
    for config, seeds in ((reaching(), range(8)), (STILL_CAMERA, range(2))):
        for clip in clips(config, seeds):
            verdict = select(unknown(clip).replace(actor=-1))
            if verdict.kept:
                found.append(abs(verdict.contact_frame - clip.contact_frame) / clip.num_frames)
    assert len(found) >= 8 and np.median(found) <= 0.2


@pytest.mark.parametrize("config, seeds", [(reaching(), range(5)), (STILL_CAMERA, range(2))])
def test_carried_masks_find_it_too(config, seeds):
    for clip in clips(config, seeds):
        verdict = select(unknown(clip))
        assert verdict.kept, verdict.reason
        assert abs(verdict.contact_frame - clip.contact_frame) <= 4


def test_masks_that_are_there_are_not_carried_again():
    clip = clips(reaching(), range(1))[0]
    masks = np.stack([clip.segment_map == clip.target, clip.segment_map == clip.actor])
    empty = np.zeros_like(masks)
    empty[:, 0] = masks[:, 0]
    assert select(unknown(clip), masks=masks).kept
    assert "no contact" in select(unknown(clip), masks=empty).reason


def test_targets_are_checked():
    clip = clips(STILL_CAMERA, range(1))[0]
    assert select(clip.replace(masks=None)).reason == "no target mask"
    assert select(clip.replace(target=-1)).reason == "no target mask"
    nothing = np.where(clip.segment_map == clip.target, 0, clip.segment_map)
    assert select(clip.replace(segment_map=nothing)).reason == "the target is not seen in frame 0"
    everything = np.full_like(clip.segment_map, clip.target)
    assert "covers 100% of the frame" in select(clip.replace(segment_map=everything)).reason


def test_short_and_missing_contacts():
    clip = clips(STILL_CAMERA, range(1))[0]
    early = clip.window(0, clip.contact_frame - 8)
    assert "no contact: at least" in select(early).reason
    brief = clip.window(0, clip.contact_frame + 1)
    assert "frames in a row, 30 are wanted" in select(brief, Rule(hold=30)).reason
    assert select(brief, Rule(hold=1)).kept


def test_a_clip_of_nothing_but_masks_is_an_error():
    clip = clips(STILL_CAMERA, range(1))[0]
    with pytest.raises(ValueError, match="neither a segment map nor a video"):
        select(clip.replace(segment_map=None, video=None))


@pytest.fixture
def folder(tmp_path):
    """Folders of images: an interaction, one played backwards, one without a mask."""
    clip = clips(reaching(), range(1))[0]
    for name, video in (("good", clip.video), ("reversed", clip.video[::-1]), ("bare", clip.video)):
        (tmp_path / "v" / name).mkdir(parents=True)
        for t, frame in enumerate(video):
            cv2.imwrite(str(tmp_path / "v" / name / f"{t}.png"), frame[..., ::-1])
        if name != "bare":
            ids = clip.segment_map[0 if name == "good" else -1]
            for word, number in (("target", clip.target), ("actor", clip.actor)):
                mask = (ids == number).astype(np.uint8) * 255
                cv2.imwrite(str(tmp_path / "v" / f"{name}.{word}.png"), mask)
    return tmp_path / "v"


def test_command_writes_a_list_that_the_folder_reads(folder, tmp_path, capsys):
    out = tmp_path / "new" / "selected.csv"
    size = ["--size", "24x24", "--frames", "9"]
    pictures = ["--pictures", str(tmp_path / "pictures")]
    assert main(["select", str(folder), "--out", str(out), *size, *pictures]) == 0
    printed = capsys.readouterr().out
    assert "1 kept, 1 refused, 1 skipped" in printed and str(out) in printed
    assert "bare: no target mask" in printed and "as if played backwards" in printed
    verdicts = read_verdicts(out)
    assert {name: v.kept for name, v in verdicts.items()} == {"good": True, "reversed": False}
    assert 4 <= verdicts["good"].contact_frame <= 6
    drawn = cv2.imread(str(tmp_path / "pictures" / "good.png"))
    assert [p.name for p in (tmp_path / "pictures").iterdir()] == ["good.png"]
    assert drawn.shape[0] == 160 and drawn.shape[1] >= 6 * 164
    assert ((drawn[..., 1] == 220) & (drawn[..., 0] == 90)).sum() > 100  # the target's outline
    kept = open_clips(folder, size_hw=(24, 24), num_frames=9, track=False, masks="", selected=out)
    assert [file.name for file in kept.files] == ["good"]
    assert carry_masks(kept[0].video, kept[0].masks).shape == (2, 9, 24, 24)


def test_command_without_anything_to_keep(folder, tmp_path, capsys):
    out = ["--out", str(tmp_path / "s.txt"), "--size", "24x24", "--frames", "9"]
    assert main(["select", str(folder / "reversed"), *out]) == 1
    assert (tmp_path / "s.txt").read_text() == ""
    assert main(["select", str(folder / "bare"), *out]) == 1
    assert "no target mask" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["select", str(folder), "--size", "24"])
