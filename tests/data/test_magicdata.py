"""Which clips of MagicData are used."""

import json

import pytest

from tavid_jax.data import magicdata
from tavid_jax.data.__main__ import main
from tavid_jax.data.clip import ClipError
from tavid_jax.data.folder import open_clips
from tavid_jax.data.magicdata import Rule
from tavid_jax.data.verdicts import read_verdicts

SIZE = (24, 40)


@pytest.mark.parametrize(
    "size_hw, frames, words",
    [
        ((480, 832), 162, ""),
        ((720, 1280), 400, ""),
        ((480, 640), 162, "aspect ratio: 640x480 is -23.1% off 832x480"),
        ((472, 832), 162, "resolution: 832x472 is smaller than 832x480"),
        ((480, 832), 161, "length: 161 of 162 frames"),
    ],
)
def test_bounds(size_hw, frames, words):
    assert Rule().refusal(size_hw, frames) == words


@pytest.fixture
def root(tmp_path, make_video):
    videos = tmp_path / "magic" / "videos"
    for index in range(10):
        make_video(videos / f"{index}.avi", num_frames=6, size_hw=SIZE)
    make_video(videos / "short.avi", num_frames=4, size_hw=SIZE)
    make_video(videos / "square.avi", num_frames=6, size_hw=(40, 40))
    make_video(videos / "small.avi", num_frames=6, size_hw=(12, 20))
    (videos / "broken.avi").write_bytes(b"not a video")
    rows = "".join(f"{i},videos/{i}.avi,scene {i}\n" for i in range(9))
    (tmp_path / "magic" / "MagicData.csv").write_text(f"videoid,video_path,text\n{rows}")
    rows = "3,pan left\n4,scene 4. zoom in\n"
    (tmp_path / "magic" / "MagicData_motioncaption.csv").write_text(f"videoid,text\n{rows}")
    return tmp_path / "magic"


def test_clips_are_chosen_split_and_captioned(tmp_path, root, capsys):
    out = tmp_path / "out"
    options = ["--size", "24x40", "--frames", "6", "--eval-share", "0.2"]
    assert main(["magicdata", str(root), str(out), *options]) == 0
    summary = json.loads((out / "summary.json").read_text())
    counts = dict(train=8, eval=2, length=1, resolution=1, broken=1) | {"aspect ratio": 1}
    assert summary["counts"] == counts and summary["captioned"] == 9
    assert summary["rule"]["aspect"] == 0.05 and summary["seed"] == 42
    train, held_out = (read_verdicts(out / f"{name}.csv") for name in ("train", "eval"))
    kept = [{name for name, verdict in v.items() if verdict.kept} for v in (train, held_out)]
    assert kept[0] | kept[1] == set(map(str, range(10))) and not kept[0] & kept[1]
    assert train["short"].reason == "length: 4 of 6 frames"
    settings = dict(size_hw=SIZE, num_frames=6, track=False, captions=out / "captions.csv")
    source = open_clips(root / "videos", selected=out / "eval.csv", **settings)
    assert {file.name for file in source.files} == kept[1]
    told = magicdata.captions(root)
    assert [told[k] for k in "234"] == ["scene 2", "scene 3 pan left", "scene 4. zoom in"]
    assert "8  train" in capsys.readouterr().out


def test_the_split_is_a_function_of_the_seed(root):
    rule = Rule(SIZE, 6)
    splits = [magicdata.choose(root, rule, seed=seed).verdicts for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_nothing_to_choose_from(tmp_path, root):
    with pytest.raises(ClipError, match=r"none of 14 videos is used \(0: length: 6 of 7 frames"):
        magicdata.choose(root, Rule(SIZE, 7))
    chosen = magicdata.choose(root, Rule(SIZE, 6), tracks=None, decode=True)
    assert chosen.counts()["train"] == 9
    with pytest.raises(ClipError, match="no track file"):
        magicdata.choose(root, Rule(SIZE, 6), tracks=tmp_path)
