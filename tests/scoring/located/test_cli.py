"""The command: everything at once, what is left out, errors in one line."""

import json

import numpy as np
import pytest

from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.scoring import CLIPPair, PairFeatures, ScoringError
from tavid_jax.scoring.located import Judges, find_cases, judge_located, report
from tavid_jax.scoring.located.cli import main, named
from tavid_jax.scoring.located.judge import representatives
from tavid_jax.tracks.trajectories import Trajectories


def command(stage, out, *more: str) -> list[str]:
    methods = [f"ours={stage / 'good'}", str(stage / "swapped")]
    return [*methods, "--tracks", str(stage / "cases"), "--out", str(out), *more]


@pytest.fixture(scope="module")
def judged(stage, checkpoints, tmp_path_factory):
    """Both methods with colours and a CLIP of noise: (JSON, page, what was said)."""
    out = tmp_path_factory.mktemp("out") / "located.json"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: lines.append(str(text)))
        more = ("--detector", "colours", "--published", "methods", "--films", "1")
        more = (*more, "--clip", str(checkpoints / "pair"))
        assert main(command(stage, out, *more)) == 0
    return json.loads(out.read_text()), out.with_suffix(".html").read_text(), "\n".join(lines)


def test_who_follows_and_who_swaps(judged):
    found, _, said = judged
    ours, swapped = (found["measures"][name] for name in ("ours", "swapped"))
    assert found["clips"] == ["first", "second"]
    # The frame is an 832x480 one shrunk by 7.5: within a pixel of it.
    assert ours["EPE"]["detect"]["epe"] < 7.5 and swapped["EPE"]["detect"]["epe"] > 250
    assert ours["entities"]["swapped"]["swapped"] == 0
    assert swapped["entities"]["swapped"]["swapped"] == 1
    assert swapped["entities"]["swapped"]["exchanged"] == 1
    assert ours["EPE"]["detect"]["missing"] == 0 and ours["EPE"]["track"]["n"] == 20
    difference = found["differences"]["swapped"]["EPE"]["detect"]
    assert difference["low"] > 250 and difference["n"] == 2
    assert "swapped - ours, EPE detect: +" in said and "left out" not in said
    assert "1 clips without <stem>.objects.png" in said


def test_clip_t_is_that_of_frames_and_crops(judged, stage, checkpoints):
    found = judged[0]["measures"]["ours"]
    case = find_cases({"ours": stage / "good"}, tracks=stage / "cases")[0][0]
    assert case.prompt == "two boxes"
    pair = CLIPPair(checkpoints / "pair")
    assert isinstance(pair, PairFeatures)
    scores = judge_located([case], Judges(pairs=(pair,))).cases[0]
    boxes = scores.boxes
    assert boxes.shape == (2, 6, 4) and (boxes[0, 0] == [1, 3, 23, 25]).all()
    from tavid_jax.data.video import read_video

    frames = read_video(case.video.path)

    def cosine(picture, text):
        a, b = pair.pictures([picture])[0], pair.texts([text])[0]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    x0, y0, x1, y1 = boxes[1, 3]
    crop = np.ascontiguousarray(frames[3, y0:y1, x0:x1])
    assert scores.crops["clip"][1, 3] == pytest.approx(cosine(crop, "a teal box"), abs=1e-4)
    wanted = np.mean([cosine(frame, "two boxes") for frame in frames])
    assert found["CLIP-T global"]["clip"]["per_clip"][0] == pytest.approx(wanted, abs=1e-4)
    local = found["CLIP-T local"]["clip"]
    assert local["n"] == 24 and local["settings"]["crop_rule"].startswith("object x1.2")
    assert local["per_clip"][0] == pytest.approx(scores.crops["clip"].mean(), abs=1e-6)


def test_the_paper_stands_beside(judged):
    found, page, said = judged
    row = found["table"]["published: TGT"]
    assert row["EPE"]["detect"]["mean"] == 25.11 and row["CLIP-T local"]["clip"]["mean"] == 0.2531
    assert row["EPE"]["detect"]["low"] is None
    assert said.splitlines()[0].split()[:3] == ["CLIP-T", "global:", "clip"]
    assert "published: Tora" in page and "arXiv 2510.15104" in page
    assert page.count("data:image/webp") == 1 and "swapped is worse than ours by" in page


def test_what_is_not_given_is_left_out(stage, tmp_path, capsys):
    out = tmp_path / "plain.json"
    assert main(command(stage, out, "--frames", "4", "--films", "0")) == 0
    said, found = capsys.readouterr().out, json.loads(out.read_text())
    assert set(found["left_out"]) == {
        "CLIP-T global", "CLIP-T local", "EPE detect, swapped, missing"
    }  # fmt: skip
    assert list(found["measures"]["ours"]) == ["EPE"] and "published" not in said.split("95 %")[0]
    assert found["measures"]["ours"]["EPE"]["track"]["n"] == 12


def test_toy_videos_stand_in_no_row_of_the_paper(stage, tmp_path):
    out = tmp_path / "toys.json"
    toys = ("--detector", "colours", "--frames", "2", "--films", "0")
    assert main(command(stage, out, *toys)) == 0
    assert not [row for row in json.loads(out.read_text())["table"] if "published" in row]


def test_a_clip_that_one_method_lacks(stage):
    methods = {"a": stage / "good", "b": stage / "swapped"}
    cases, _ = find_cases(methods, tracks=stage / "cases")
    scores = judge_located([c for c in cases if (c.method, c.name) != ("b", "first")], Judges())
    found = report.measured(scores)
    assert np.isnan(found["b"]["EPE"]["track"]["per_clip"][0])
    assert report.differences(found)["b"]["EPE"]["track"].n == 1
    assert report.notes(scores) == ["b has 1 of 2 clips: its row is of these"]


def test_one_point_stands_for_an_entity():
    tracks, seen = np.zeros((5, 2, 2), np.float32), np.ones((5, 2), bool)
    segment = np.array([2, 0, 1, 2, 0], np.int32)
    given = Trajectories(tracks, seen, (8, 8), segment=segment, segments=2)
    assert representatives(given).tolist() == [0, 1, 2, 4]
    assert representatives(given.replace(segment=None, segments=0)).tolist() == [0, 1, 2, 3, 4]


def test_errors_are_one_line(stage, checkpoints, tmp_path, capsys):
    def attempt(message: str, *arguments: str):
        assert main([*arguments, "--out", str(tmp_path / "x.json")]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("error: ") and message in said[-1]
        assert not (tmp_path / "x.json").exists()

    good, cases = str(stage / "good"), str(stage / "cases")
    attempt("no trajectories first", good)
    attempt("no such folder", good, "--tracks", str(tmp_path / "none"))
    attempt("is called 'good' too", good, f"good={cases}")
    attempt("--owlvit CHECKPOINT", good, "--tracks", cases, "--detector", "owlvit")
    attempt("both towers", good, "--tracks", cases, "--clip", str(checkpoints / "clip"))
    (tmp_path / "broken.jsonl").write_text('{"name": "first"}\n')
    attempt(
        "line 1: needs a name and a prompt",
        good, "--tracks", cases, "--prompts", str(tmp_path / "broken.jsonl"),
    )  # fmt: skip
    long = Trajectories(np.zeros((1, 9, 2), np.float32), np.ones((1, 9), bool), (64, 112))
    for name in ("first", "second"):
        write_trajectories(tmp_path / f"{name}.npz", long)
    attempt("has 6 frames, its trajectories", good, "--tracks", str(tmp_path))
    with pytest.raises(ScoringError):
        named(["a=x", "a=y"])
