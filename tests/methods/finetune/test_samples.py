"""Videos that a finished run is asked for."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tavid_jax.data.clip import Clip
from tavid_jax.methods.finetune.samples import jobs_of, write_samples
from tavid_jax.pipelines import Pipeline, Video, open_pipeline
from tests.methods.finetune import bases

# Opened, not read.
WAN, COGVIDEOX = open_pipeline("tiny-wan"), open_pipeline("tiny-cogvideox")


class Inputs:
    """Clips that say where they come from."""

    def open(self, name):
        frames = np.zeros((9, 24, 24, 3), np.uint8)
        return [
            Clip(id=f"{name}/{i}", size_hw=(24, 24), fps=8, caption=f"{name} {i}", video=frames + i)
            for i in range(3)
        ]


class Remembers(Pipeline):
    """What it is asked for."""

    def __init__(self):
        pass

    def run(self, jobs, batch_size):
        self.jobs, self.batch_size = jobs, batch_size
        for job in jobs:
            frames = np.arange(3, dtype=np.uint8)[:, None, None, None] * 80
            frames = np.broadcast_to(frames, (3, 16, 16, 3))
            yield Video(frames, 8, job.name, {"prompt": job.prompt}, frames.astype(np.float32))


@pytest.mark.parametrize(("clips", "source"), [("", "test"), ("my_videos", "clips")])
def test_captions_are_told_again(clips, source):
    config = bases.config(videos=2)
    config.clips, config.seed = clips, 5
    first, second = jobs_of(config, Inputs(), COGVIDEOX)
    assert (first.prompt, first.name, first.seed) == (f"{source} 0", f"{source}_0", 5)
    assert (second.prompt, second.seed) == (f"{source} 1", 6)
    assert second.image.shape == (24, 24, 3) and second.image.max() == 1
    assert all(job.image is None for job in jobs_of(config, Inputs(), WAN))
    assert len(jobs_of(bases.config(videos=9), Inputs(), WAN)) == 3


def test_prompts_of_the_command_line():
    config = bases.config(prompts="a red disc moves up; a teal hoop ;")
    config.seed = 5
    first, second = jobs_of(config, Inputs(), WAN)
    assert (first.prompt, first.seed, first.name) == ("a red disc moves up", 5, "0000")
    assert (second.prompt, second.seed, second.name) == ("a teal hoop", 6, "0001")
    config.sampling.jobs = "jobs.jsonl"
    with pytest.raises(ValueError, match="give either sampling.prompts or sampling.jobs"):
        jobs_of(config, Inputs(), WAN)


def test_a_file_of_jobs(tmp_path):
    lines = [{"prompt": "a red disc moves up", "seed": 3}, {"prompt": "", "guidance": 2}]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = bases.config(jobs=str(tmp_path / "jobs.jsonl"))
    first, second = jobs_of(config, Inputs(), WAN)
    assert (first.prompt, first.seed, second.options) == (
        "a red disc moves up", 3, {"guidance": 2},
    )  # fmt: skip


def test_nothing_to_sample():
    config = bases.config()
    config.data.scenes.test = 0
    with pytest.raises(ValueError, match="nothing to sample: give --config.sampling.prompts=TEXT"):
        jobs_of(config, Inputs(), WAN)


def test_files_hold_what_made_them(tmp_path):
    config, pipeline = bases.config(videos=2, batch_size=3), Remembers()
    jobs = jobs_of(config, Inputs(), WAN)
    files = write_samples(pipeline, jobs, tmp_path / "samples", config.sampling)
    assert [file.name for file in files] == ["test_0.webp", "test_1.webp"]
    assert pipeline.batch_size == 3
    with Image.open(files[1]) as film:
        assert film.n_frames == 3
    assert b"test 1" in files[1].read_bytes()


def test_an_unknown_format_is_told_first(tmp_path):
    with pytest.raises(ValueError, match="sampling.format 'avi' is none of webp, mp4, gif"):
        write_samples(Remembers(), [], tmp_path, ConfigDict(dict(format="avi")))
