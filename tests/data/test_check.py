"""`python -m tavid_jax.data check`: what it prints, draws and returns."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from tavid_jax.data.__main__ import main
from tavid_jax.data.check import check_folder, contact_sheet, write_sheet
from tavid_jax.data.official import TrackFile, write_tracks
from tavid_jax.data.video import VideoError


@pytest.fixture
def clips(tmp_path, make_video):
    folder = tmp_path / "clips"
    make_video(folder / "good.mp4", num_frames=40, size_hw=(64, 96))
    make_video(folder / "short.avi", num_frames=5, size_hw=(48, 64))
    (folder / "broken.mp4").write_bytes(b"junk")
    tracks = np.zeros((4, 40, 2), np.float32)
    write_tracks(folder / "good.npz", TrackFile(tracks, np.ones((4, 40), bool)))
    (folder / "short.npz").write_bytes(b"junk")
    return folder


def test_report(clips):
    report = check_folder(clips, num_frames=17)
    assert report.usable and report.windows == (2, 0)
    assert report.tracks == ("good.npz: 4 tracks, 40 frames", "")
    reasons = {path.split("/")[-1]: reason for path, reason in report.bad}
    assert set(reasons) == {"broken.mp4", "short.avi", "short.npz"}
    assert "5 frames, a window needs 17" in reasons["short.avi"]
    text = report.text()
    for words in ("96x64", "10.00", "2 videos decode, 3 problems; 5 to 40 frames", "2 windows of"):
        assert words in text


def test_contact_sheet_shows_every_video(clips, tmp_path):
    report = check_folder(clips)
    sheet = contact_sheet(report.videos, columns=4)
    assert sheet.shape == (2 * (20 + 96 + 4), 4 * (144 + 4), 3)
    good = sheet[20:116, :144].astype(float)
    assert good.std() > 20 and sheet[:20].max() == 255  # a picture, and a label above it
    write_sheet(tmp_path / "new" / "sheet.png", sheet)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "sheet.png"))[..., ::-1], sheet)
    with pytest.raises(VideoError, match="no video to show"):
        contact_sheet([])


def test_command_prints_and_draws(clips, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert main(["check", str(clips), "--out", str(out), "--frames", "9", "--fps", "5"]) == 0
    printed = capsys.readouterr().out
    assert "BAD" in printed and "broken.mp4: not a video" in printed and str(out) in printed
    assert "2 windows of 9 frames at 5 fps" in printed
    assert cv2.imread(str(out)) is not None


def test_nothing_usable_is_a_non_zero_exit(clips, tmp_path, capsys):
    out = ["--out", str(tmp_path / "sheet.png")]
    assert main(["check", str(clips), "--frames", "99", *out]) == 1
    assert "nothing usable" in capsys.readouterr().out
    assert main(["check", str(clips / "broken.mp4"), *out]) == 1
    assert main(["check", str(clips / "absent"), *out]) == 1
    assert "absent': no such file or folder" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(clips, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["check", str(clips), "--out", str(tmp_path / "file" / "x.png")]) == 1
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["check"], ["check", "x", "--frames", "0"], []])
def test_wrong_use_exits_with_usage(argv, capsys):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2 and "usage" in capsys.readouterr().err


def test_module_runs_and_helps():
    done = subprocess.run(
        [sys.executable, "-m", "tavid_jax.data", "check", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "--frames" in done.stdout and "Exit code 1" in done.stdout


@pytest.mark.clips
def test_real_clips_all_decode(clips_dir, tmp_path, capsys):
    assert main(["check", str(clips_dir), "--out", str(tmp_path / "sheet.png")]) == 0
    assert " 0 problems" in capsys.readouterr().out
