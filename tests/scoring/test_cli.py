"""The command: scores and pictures of files, errors in one line, real clips."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scoring_files import write_mask

from tavid_jax.metrics.contact import RULE, first_contact
from tavid_jax.scoring import MotionActors, Providers, Scores, cli, score_videos
from tavid_jax.scoring.picture import picture
from tavid_jax.viz.media import read_provenance


def test_everything_at_once(video_folder, checkpoints, tmp_path, capsys):
    out = tmp_path / "results" / "scores.json"
    command = [str(video_folder), "--out", str(out), "--frames", "9"]
    for option in ("dino", "clip", "owlvit"):
        command += [f"--{option}", str(checkpoints / option)]
    assert cli.main([*command, "--actor", "a hand", "--actor", "a dog"]) == 0
    said = capsys.readouterr().out
    assert "left out" not in said and "pictures: " in said
    found = json.loads(out.read_text())
    assert set(found["metrics"]) == {
        "contact_score", "target_alignment", "subject_consistency", "background_consistency",
        "dynamic_degree", "motion_smoothness",
    }  # fmt: skip
    assert found["providers"]["contact_score"]["queries"] == ["a hand", "a dog"]
    assert found["providers"]["subject_consistency"]["weights"]
    still = found["videos"][1]
    assert still["subject_consistency"] > 0.999 and still["motion_smoothness"] > 0.99
    assert still["dynamic_degree"]["dynamic"] is False


def test_motion_needs_no_weights(video_folder, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert cli.main([str(video_folder), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "opencv-dis-motion" in said and "subject_consistency needs weights" in said
    found = json.loads(out.read_text())
    moves, still = (video["contact"] for video in found["videos"])
    assert moves["first_frame"][0] > 0 and moves["touched"] == "moves.target.png"
    assert still["first_frame"] == [-1] and still["touched"] is None
    assert found["metrics"]["contact_score"]["contact_score"] == 0.5
    for name in ("moves", "still"):
        path = tmp_path / "scores" / f"{name}.contact.png"
        with Image.open(path) as image:
            assert image.width >= 640 and image.height > 400
        about = read_provenance(path.read_bytes())
        assert about["contact_score"]["name"] == "opencv-dis-motion"


def test_errors_are_one_line(video_folder, checkpoints, tmp_path, capsys):
    out = ["--out", str(tmp_path / "scores.json")]

    def attempt(message: str, *arguments: str):
        assert cli.main([*arguments, *out]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("error: ") and message in said[-1]
        assert list(tmp_path.iterdir()) == []

    video = str(video_folder / "moves.mp4")
    attempt("no such file or folder", str(tmp_path / "none.mp4"))
    attempt("kind clip_vision", video, "--dino", str(checkpoints / "clip"))
    attempt("only OWL-ViT looks for what a text names", video, "--actor", "a dog")
    attempt("--detector owlvit needs its weights", video, "--detector", "owlvit")
    attempt("overlap in (0, 1]", video, "--contact-overlap", "0")
    with pytest.raises(SystemExit):
        cli.main([video, "--frames", "0"])
    assert "must be positive" in capsys.readouterr().err


def test_a_mask_that_is_empty_stops_before_the_work(video_folder, tmp_path, capsys):
    masks = tmp_path / "masks"
    masks.mkdir()
    write_mask(masks / "still.target.png", np.zeros((128, 128), bool))
    out = tmp_path / "scores.json"
    assert cli.main([str(video_folder), "--masks", str(masks), "--out", str(out)]) == 1
    assert "still.target.png: the mask is empty" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_real_bottle_is_taken_and_its_neighbour_not(clips_dir, tmp_path):
    """A hand takes the left one of three bottles (frame 205 or so) within 220 frames."""
    shutil.copy(clips_dir / "intel_bottle.mp4", tmp_path)
    for name, index in (("target", 1), ("other", 0), ("other_2", 2)):
        mask = clips_dir / f"intel_bottle.mask_{index}.png"
        shutil.copy(mask, tmp_path / f"intel_bottle.{name}.png")
    pictures = []

    def draw(video, frames):
        about = Scores((video,), {}, {}, (), providers.describe(), RULE)
        pictures.append(picture(video, frames, about))

    providers = Providers(flow=None, midpoint=None, actors=MotionActors())
    scores = score_videos(tmp_path, providers, max_frames=220, seen=draw)
    assert scores.metrics["contact_score"]["first_frame"] == [-1]
    assert scores.metrics["target_alignment"]["touched"] == [1]
    touches = scores.videos[0].touches
    first = touches.frames[first_contact(touches.shares)[1]]
    assert 160 <= first <= 215
    assert pictures[0].shape[1] > 1000
