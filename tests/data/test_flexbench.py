"""FlexBench's list: fields, defaults, paths, and what is wrong with it."""

import json

import pytest

from tavid_jax.data.flexbench import FlexBenchError, Partner, Shift, read_flexbench

BARE = {
    "is_real_video": True,
    "tracking_map_path": "a.npy",
    "seg_map_path": "a.pkl",
    "validation_prompt": "a dog runs",
    "validation_videos": "a.mp4",
}
FILES = ("a.npy", "b.npy", "a.pkl", "b.pkl", "a.mp4", "r.mp4", "a.png")


@pytest.fixture
def write(tmp_path):
    folder = tmp_path / "davis"
    folder.mkdir()
    for name in FILES:
        (folder / name).touch()

    def write(*entries, prefix="davis/"):
        path = tmp_path / "flexbench.json"
        path.write_text(json.dumps([{"prefix": prefix, "validations": list(entries)}]))
        return path

    return write


def test_defaults_and_absolute_paths(write, tmp_path):
    (entry,) = read_flexbench(write(BARE))
    folder = tmp_path / "davis"
    assert entry.tracks == (folder / "a.npy",) and entry.segments == (folder / "a.pkl",)
    assert (entry.video, entry.image, entry.prompt) == (folder / "a.mp4", None, "a dog runs")
    assert (entry.index, entry.dataset, entry.name, entry.is_real_video) == (0, 0, "0_0", True)
    assert (entry.use_colour, entry.unalign, entry.kept_frames) == (False, None, None)
    assert (entry.spatial_scale, entry.spatial_mode, entry.temporal_scale) == (1.0, "random", 1.0)


def test_every_field(write, tmp_path):
    full = BARE | {
        "tracking_map_path": "a.npy, b.npy",
        "seg_map_path": "a.pkl,b.pkl",
        "input_image": "a.png",
        "use_color": True,
        "spatial_config": {"spatial_scale": 0.01, "spatial_mode": "region"},
        "temporal_config": {"temporal_scale": 0},
        "unalign_config": {"shift_scale": 0.7},
        "name": "dog",
        "valid_frame_idxs": [48, 0, 0],
    }
    partner = {
        "is_real_video": False,
        "tracking_map_path": "a.npy,r.mp4",
        "seg_map_path": "",
        "validation_prompt": "b",
        "input_image": "a.png",
        "unalign_config": {"rle_path_unalign": "b.pkl", "render_track_unalign": "b.npy,r.mp4"},
    }
    one, two = read_flexbench(write(full, partner, prefix="/davis"), tmp_path)
    folder = tmp_path / "davis"
    assert one.tracks == (folder / "a.npy", folder / "b.npy")
    assert one.segments == (folder / "a.pkl", folder / "b.pkl")
    assert one.use_colour and one.image == folder / "a.png" and one.name == "dog"
    assert (one.spatial_scale, one.spatial_mode, one.temporal_scale) == (0.01, "region", 0)
    assert one.unalign == Shift(0.7) and one.kept_frames == (0, 48)
    assert two.unalign == Partner(folder / "b.pkl", (folder / "b.npy", folder / "r.mp4"))
    assert two.segments == () and two.video is None and two.name == "0_1" and two.index == 1


def test_colour_of_one_entry_does_not_hold_for_the_next(write):
    coloured = BARE | {"use_color": True, "spatial_config": {"spatial_scale": 0.5}}
    entries = read_flexbench(write(coloured, BARE))
    assert [entry.use_colour for entry in entries] == [True, False]
    assert [entry.spatial_scale for entry in entries] == [0.5, 1.0]


def test_both_spellings_of_the_video(write, tmp_path):
    other = {key: value for key, value in BARE.items() if key != "validation_videos"}
    (entry,) = read_flexbench(write(other | {"validation_video": "a.mp4", "use_color": True}))
    assert entry.video == tmp_path / "davis" / "a.mp4" and entry.use_colour


def test_missing_files_are_named_with_entry_and_key(write, tmp_path):
    path = write(BARE, BARE | {"tracking_map_path": "a.npy,gone.npy", "input_image": "no.png"})
    with pytest.raises(FlexBenchError) as told:
        read_flexbench(path)
    text = str(told.value)
    assert "2 files are not there" in text
    assert f"entry 1 ('0_1'), 'tracking_map_path[1]': {tmp_path / 'davis' / 'gone.npy'}" in text
    assert "entry 1 ('0_1'), 'input_image'" in text
    assert len(read_flexbench(path, check_files=False)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"validation_prompt": None}, "'validation_prompt' must be a str"),
        ({"is_real_video": 1}, "'is_real_video' must be a bool"),
        ({"use_colour": True}, "'use_colour' is unknown; known are"),
        ({"spatial_config": {"scale": 1}}, "'spatial_config' must be an object of"),
        ({"spatial_config": {"spatial_scale": 2}}, "scale 2; it must be from 0 to 1"),
        ({"spatial_config": {"spatial_mode": "x"}}, "has mode 'x'; use random or region"),
        ({"temporal_config": {"temporal_scale": "1"}}, "'temporal_config' has scale '1'"),
        ({"unalign_config": {"rle_path_unalign": "b.pkl"}}, "must have 'shift_scale' alone, or"),
        ({"unalign_config": {"shift_scale": "x"}}, "no number"),
        ({"valid_frame_idxs": [-1]}, "a list of frame numbers"),
        ({"seg_map_path": ""}, "'seg_map_path' must be a path"),
        ({"tracking_map_path": "a.npy,b.npy,a.npy"}, "names 3 files"),
        ({"validation_videos": ""}, "no first frame"),
        (
            {"validation_videos": "", "input_image": "a.png", "use_color": True},
            "'use_color' is true",
        ),
    ],
)
def test_mistakes_are_named(write, change, words):
    with pytest.raises(FlexBenchError, match=f"entry 1 of list 0 .*{words}"):
        read_flexbench(write(BARE, BARE | change))


def test_mistakes_in_the_whole_file(write, tmp_path):
    bare = dict(BARE)
    del bare["seg_map_path"]
    with pytest.raises(FlexBenchError, match="entry 0 of list 0 .*'seg_map_path' is missing"):
        read_flexbench(write(bare))
    with pytest.raises(FlexBenchError, match="entries 0 and 1 are both named 'x'"):
        read_flexbench(write(BARE | {"name": "x"}, BARE | {"name": "x"}))
    path = tmp_path / "bad.json"
    for text, words in (
        ("{", "cannot be read"),
        ("[]", "a list of"),
        ('[{"prefix": 1}]', "list 0"),
    ):
        path.write_text(text)
        with pytest.raises(FlexBenchError, match=f"bad.json: .*{words}"):
            read_flexbench(path)
    with pytest.raises(FlexBenchError, match="absent.json"):
        read_flexbench(tmp_path / "absent.json")
