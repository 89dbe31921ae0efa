"""The command: its files, its table, and one clear line for what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("imageio_ffmpeg")

from tavid_jax.pipelines import attention, open_pipeline
from tavid_jax.pipelines.attention_files import file_name
from tavid_jax.viz import media
from tests.pipelines import trained
from tests.pipelines.test_looking import mask_of, picture
from tests.pipelines.test_study import CLIPS

PROMPT = "a red disc touches the target box"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for family in ("wan", "cogvideox"):
        trained.save(family, folder / family)
    Image.fromarray(picture()).save(folder / "first.png")
    Image.fromarray(mask_of(4, 8)).save(folder / "mask.png")
    return folder


@pytest.fixture
def run(models, tmp_path, capsys):
    """(model, arguments) -> (code, what was printed, what was complained of)."""

    def run(family, *arguments):
        code = attention.main([str(models / family), "--out", str(tmp_path / "out"), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.slow
def test_the_files_of_one_video(models, run, tmp_path):
    given = ["--prompt", PROMPT, "--words", "target", "red disc", "--image"]
    given += [str(models / "first.png"), "--mask", str(models / "mask.png"), "--seed", "5"]
    code, printed, _ = run("cogvideox", *given)
    assert code == 0
    out, names = tmp_path / "out", ("target", "red_disc")
    wanted = {"maps.npz", "grid.png", "blocks.json", "blocks.png", "video.mp4"}
    wanted |= {f"{name}.{ending}" for name in names for ending in ("mp4", "webp")}
    assert {path.name for path in out.iterdir()} == wanted

    stored = np.load(out / "maps.npz")
    assert stored["maps"].dtype == np.float16 and stored["maps"].shape == (3, 2, 2, 3, 4, 4)
    job = attention.Job.of({"prompt": PROMPT, "image": picture(), "mask": mask_of(4, 8), "seed": 5})
    looked = attention.look(open_pipeline(models / "cogvideox"), job, ["target", "red disc"])
    maps = stored["maps"].astype(np.float32) * stored["scale"]
    np.testing.assert_allclose(maps, looked.maps, rtol=2e-3, atol=1e-3 * looked.maps.max())
    assert stored["words"].tolist() == ["target", "red disc"]
    assert stored["spans"].tolist() == [[0, 1], [1, 5], [5, 9]]
    np.testing.assert_array_equal(stored["aim_target"], looked.aims[0])

    records = json.loads((out / "blocks.json").read_text())
    assert [record["words"] for record in records] == [["target"], ["red disc"]]
    for place, record in enumerate(records):
        found = looked.measured(place)["iou"].mean(0)
        np.testing.assert_allclose([row["iou"] for row in record["blocks"]], found, atol=1e-6)
        assert record["levels"] == [1, 2, 3] and record["direction"] == "video_to_text"
    lines = printed.splitlines()
    assert lines[0] == "target:" and lines[2].split()[0] == str(records[0]["ranking"][0])
    for name in ("target.webp", "target.mp4", "grid.png"):
        assert media.read_provenance((out / name).read_bytes())["seed"] == 5
    with Image.open(out / "target.webp") as film:
        assert film.n_frames == 9


def test_without_a_mask_there_are_no_numbers(run, tmp_path):
    given = ["--prompt", PROMPT, "--words", "box", "--steps", "0", "2", "--blocks", "1"]
    code, printed, _ = run("wan", *given, "--latent-frames", "1", "--sampling-steps", "3")
    assert code == 0 and printed == ""
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"maps.npz", "video.mp4", "box.mp4", "box.webp"}
    assert np.load(tmp_path / "out" / "maps.npz")["maps"].shape == (2, 1, 1, 1, 4, 4)
    with Image.open(tmp_path / "out" / "box.webp") as film:
        assert film.n_frames == 4
    code, _, complaint = run("wan", *given)
    assert code == 1 and "maps.npz exists already: choose another --out" in complaint


def test_a_study_of_clips(run, tmp_path, monkeypatch):
    asked = {}

    def open_clips(path, **options):
        asked.update(options, path=path)
        return list(CLIPS)

    monkeypatch.setattr(attention, "open_clips", open_clips)
    given = ["--clips", "clips", "--words", "target", "--shares", "0.5", "--most", "2"]
    code, printed, _ = run("wan", *given, "--masks", "beside")
    assert code == 0 and asked["masks"] == "" and asked["path"] == "clips"
    assert (asked["size_hw"], asked["num_frames"], asked["track"]) == ((16, 16), 9, False)
    (record,) = json.loads((tmp_path / "out" / "blocks.json").read_text())
    assert record["clips"] == 2 and record["levels"] == [0.5]
    assert len(printed.splitlines()) == 5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"blocks.json", "blocks.png"}
    code, _, _ = run("wan", *given, "--masks", "there", "--overwrite")
    assert code == 0 and asked["masks"] == "there"
    code, _, complaint = run("wan", *given, "--overwrite")
    assert code == 1 and "--clips needs their masks: --masks beside" in complaint


def test_a_study_of_jobs(models, run, tmp_path):
    line = {"prompt": PROMPT, "image": "first.png", "mask": "mask.png", "steps": 2}
    (models / "jobs.jsonl").write_text(json.dumps(line))
    code, printed, _ = run("cogvideox", "--jobs", str(models / "jobs.jsonl"), "--words", "box")
    assert code == 0 and printed.startswith("box:")
    (record,) = json.loads((tmp_path / "out" / "blocks.json").read_text())
    assert record["kind"] == "steps" and record["levels"] == [1]


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("wan", [], "give one of --prompt (one video), --jobs and --clips"),
        ("wan", ["--prompt", "a", "--clips", "b"], "give one of --prompt"),
        ("wan", ["--prompt", "a box", "--image", "a.png"], "makes videos from text alone"),
        ("wan", ["--prompt", "a disc"], "the prompt 'a disc' lacks the word 'box'"),
        ("wan", ["--prompt", "a box", "--steps", "4"], "step 4 does not exist: there are 4"),
        ("wan", ["--prompt", "a box", "--blocks", "2"], "block 2 does not exist"),
        ("wan", ["--prompt", "a box", "--latent-frames", "3"], "latent frame 3 does not exist"),
        ("wan", ["--prompt", "a box", "--direction", "both"], "Wan's text is asked"),
        ("cogvideox", ["--prompt", "a box"], "makes videos from an image"),
        ("cogvideox", ["--prompt", "a box", "--mask", "m.png"], "mask without image"),
    ],
)
def test_bad_arguments_end_with_one_line(run, tmp_path, family, arguments, message):
    code, printed, complaint = run(family, "--words", "box", *arguments)
    assert code == 1 and printed == "" and not (tmp_path / "out").exists()
    assert complaint.startswith("error: ") and message in complaint and "Traceback" not in complaint


def test_words_as_names_of_files():
    assert [file_name(word) for word in ("box", "Red Box (asks)", "[TGT]", "!")] == [
        "box", "red_box_asks", "tgt", "word",
    ]  # fmt: skip
