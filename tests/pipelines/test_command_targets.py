"""The sampling command with masks: options and lines of jobs, and what is told of bad ones."""

import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("imageio_ffmpeg")

from PIL import Image

from tavid_jax.pipelines import open_pipeline
from tavid_jax.pipelines.card import ADAPTERS
from tavid_jax.pipelines.cli import main
from tavid_jax.pipelines.targets import Targets
from tavid_jax.viz import media
from tavid_jax.weights.patch_embed import COGVIDEOX_FILE
from tests.pipelines import trained

IMAGE = np.random.default_rng(7).integers(0, 256, (16, 16, 3), dtype=np.uint8)
MASK = np.zeros((16, 16), np.uint8)
MASK[4:10, 2:6] = 255
FAST = ["--steps", "1", "--frames", "5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """base/, model/ and pair/ (of two targets), an image and two masks."""
    folder = tmp_path_factory.mktemp("command")
    trained.save("cogvideox", folder / "base")
    trained.save_targeted("cogvideox", folder / "base", folder / "model", trained.targeted())
    targets = Targets(words=("red", "target"), objects=("actor", "target"), sentence="")
    made = trained.targeted(targets=targets)
    trained.save_targeted("cogvideox", folder / "base", folder / "pair", made)
    Image.fromarray(IMAGE).save(folder / "image.png")
    Image.fromarray(MASK).save(folder / "mask.png")
    Image.fromarray(MASK[:, ::-1]).save(folder / "other.png")
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """Runs the command in the folder; returns (exit code, {name: what made it})."""
    monkeypatch.chdir(folder)

    def run(*arguments: str):
        code = main([*arguments, *FAST, "--out", str(tmp_path / "out")])
        files = sorted((tmp_path / "out").glob("*.mp4"))
        return code, {f.stem: media.read_provenance(f.read_bytes()) for f in files}

    return run


def digest(mask):
    return hashlib.sha256((mask / np.float32(255)).astype(np.float32).tobytes()).hexdigest()[:12]


def test_a_mask_a_noun_and_modulation(run):
    code, made = run(
        "model", "--prompt", "the red on the blue box", "--noun", "blue", "--image", "image.png",
        "--mask", "mask.png", "--modulation", "2", "--seed", "3",
    )  # fmt: skip
    told = made["video"]
    assert code == 0 and told["prompt"] == "the red on the target blue box"
    assert told["masks"] == [digest(MASK)] and told["modulation"] == 2.0 and told["seed"] == 3
    assert told["targets"]["words"] == ["target"] and told["targets"]["latent"] == "nearest"


def test_two_files_upon_a_base(run, folder):
    """As the release is opened; both may be named by their folder."""
    files = ["--lora", "model", "--patch-embed", f"model/{COGVIDEOX_FILE}", "--lora-scale", "1.5"]
    mask = ["--image", "image.png", "--mask", "mask.png", "--latent-mask", "max"]
    code, made = run("base", *files, *mask, "--prompt", "the target red")
    told = made["video"]
    assert code == 0 and told["targets"]["latent"] == "max"
    assert {"lora", "patch_embed"} < set(told["weights"])
    pipeline = open_pipeline(
        folder / "base", lora=folder / "model" / ADAPTERS, patch_embed=folder / "model",
        lora_scale=1.5,
    )  # fmt: skip
    assert pipeline.parts["transformer"].marks["lora"] == told["weights"]["lora"]
    code, made = run(
        "base", *files, *mask, "--prompt", "the red blue", "--name", "renamed", "--trigger", "red"
    )
    assert code == 0 and made["renamed"]["targets"]["words"] == ["red"]


def test_several_masks_and_lines_of_jobs(run, folder, tmp_path):
    masks = ["mask.png", "other.png"]
    lines = [
        {"prompt": "the red on the target", "mask": masks},
        {"prompt": "the target on the red", "mask": masks[::-1], "modulation": 1, "name": "led"},
    ]
    lines = [{"image": "image.png", **line} for line in lines]
    (folder / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    code, made = run("pair", "--jobs", "jobs.jsonl")
    assert code == 0 and set(made) == {"jobs_0000", "led"}
    assert made["jobs_0000"]["masks"] == [digest(MASK), digest(MASK[:, ::-1])]
    assert made["led"]["masks"] == made["jobs_0000"]["masks"][::-1]
    assert made["led"]["modulation"] == 1.0
    one = ["pair", "--prompt", "the red on the target", "--image", "image.png", "--name", "one"]
    code, made = run(*one, "--mask", "mask.png", "other.png")
    assert code == 0 and made["one"]["masks"] == made["jobs_0000"]["masks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "--prompt", "the target"], "makes videos from an image: give one"),
        (["model", "--prompt", "the target", "--image", "image.png"], "give one mask for each"),
        (["model", "--prompt", "the target", "--mask", "mask.png"], "mask without image"),
        (["model", "--prompt", "the red", "--noun", "mug"], "holds none of the nouns mug"),
        (["base", "--prompt", "a", "--image", "image.png", "--mask", "mask.png"], "reads no mask"),
        (["base", "--prompt", "a", "--lora-scale", "2"], "there are no adapters to scale"),
        (["base", "--prompt", "a", "--patch-embed", "gone.pth"], "no checkpoint at gone.pth"),
        (
            ["base", "--prompt", "a", "--patch-embed", "pair"],
            "has 2 mask channels: give the trigger",
        ),
        (["model", "--prompt", "a", "--patch-embed", "pair"], "has its own"),
        (["pair", "--prompt", "a", "--trigger", "red"], "has 2 mask channels, targets.words"),
        (["model", "--prompt", "a", "--trigger", "red", "Red"], "give each target a word"),
        (["model", "--jobs", "jobs.jsonl", "--mask", "mask.png"], "stand in its lines"),
        (["model", "--chain", "jobs.jsonl"], "--chain begins with --image"),
        (["model", "--chain", "jobs.jsonl", "--noun", "a"], "give either --noun or --chain"),
    ],
)
def test_what_is_wrong_is_one_line(run, capsys, arguments, message):
    code, made = run(*arguments)
    told = capsys.readouterr().err
    assert code == 1 and not made
    assert told.startswith("error: ") and message in told and told.count("\n") == 1


def test_a_scale_that_is_none(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["model", "--prompt", "a", "--lora-scale", "half"])
    assert "'half': give a number, or auto" in capsys.readouterr().err
