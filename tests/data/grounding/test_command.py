"""The command `ground` from the command line, and the page that it leaves."""

import sys

import pytest

from tavid_jax.data.__main__ import main
from tavid_jax.data.progress import Progress
from tests.data.grounding import squares


def test_scenes_to_a_folder_and_a_page(tmp_path, capsys):
    out = tmp_path / "out"
    command = ["ground", "--scenes", "3", "--scene", "max_objects=2", "--frames", "6"]
    command += ["--out", str(out), "--pictures", "2", "--motion", "0", "--furthest", "0"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "3 clips read" in told and f"--config.train_clips={out}" in told
    page = (out / "sheet" / "index.html").read_text()
    assert page.count("<img") == 2 and "points</td>" in page and "Left out" not in page
    assert sorted(path.name for path in (out / "sheet").glob("*.png")) == ["0000.png", "0001.png"]


def test_videos_by_ones_own_annotator(tmp_path, monkeypatch, capsys):
    squares.write(tmp_path / "clips", "a", texts=None, caption="")
    (tmp_path / "own_words.py").write_text(
        "def describe(clip, objects, points):\n"
        "    return [f'object <{k}>' for k in range(len(points))]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = ["ground", "clips", "--out", "out", "--size", "48x64", "--frames", "9"]
    command += ["--annotator", "own_words:describe", "--captioner", "joined"]
    assert main(command) == 0
    page = (tmp_path / "out" / "sheet" / "index.html").read_text()
    assert "object &lt;0&gt; and object &lt;1&gt;" in page
    assert "1 clips read, 1 kept, 0 left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either CLIPS or --scenes N"),
        (["x", "--scenes", "2"], "give either CLIPS or --scenes N"),
        (["--scenes", "2", "--scene", "sprites=3"], "SceneConfig has no field ['sprites']"),
        (["--scenes", "2", "--scene", "sprites"], "write FIELD=VALUE"),
        (["--scenes", "2", "--shard", "2/2"], "--shard 2/2: write 0/4"),
        (["--scenes", "2", "--seen", "2"], "seen lies in 0..1"),
        (["--scenes", "2", "--tracker", "none"], "no tracker 'none': there are clip, dis, or name"),
        (["nowhere"], "no such file or folder"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, capsys, arguments, message):
    assert main(["ground", *arguments, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_progress_says_the_rate_and_the_time_left(capsys):
    now = [0.0]
    told = Progress(clock=lambda: now[0], watched=False)
    for done in range(1, 9):
        now[0] += 2.0
        told(done, 8)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "3 of 8 clips, 0.50 a second, 0:10 left",
        "6 of 8 clips, 0.50 a second, 0:04 left",
        "8 of 8 clips, 0.50 a second, 0:00 left",
    ]
