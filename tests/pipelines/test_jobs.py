"""Jobs, and files of jobs: what is read from them, and what each bad line is told."""

import json

import numpy as np
import pytest

from tavid_jax.pipelines import Job, read_jobs


@pytest.fixture
def written(tmp_path):
    """Lines -> a file of them."""

    def write(*lines) -> str:
        path = tmp_path / "many.jsonl"
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(text) + "\n", encoding="utf-8")
        return path

    return write


def test_fields_of_a_job_and_of_sampling_stand_side_by_side(written, tmp_path):
    jobs = read_jobs(
        written(
            {"prompt": "a", "seed": 3, "size_hw": [480, 832], "steps": 30, "guidance": 4},
            "",
            {"prompt": "b", "image": "in/a.png", "last_image": "b.png", "name": "wave"},
            {"prompt": "c", "negative_prompt": ""},
        )
    )
    first, second, third = jobs
    assert (first.prompt, first.seed, first.name) == ("a", 3, "many_0000")
    assert first.options == {"size_hw": [480, 832], "steps": 30, "guidance": 4}
    assert (second.image, second.last_image) == (tmp_path / "in" / "a.png", tmp_path / "b.png")
    assert (second.name, second.seed, second.options) == ("wave", 0, {})
    assert (third.name, third.negative_prompt) == ("many_0002", "")
    assert (first.negative_prompt, first.image) == (None, None)


def test_what_editors_and_writers_of_json_leave_in_a_file(tmp_path):
    """The byte order mark and line ends of Windows; separators that JSON need not escape."""
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b\xe2\x80\xa8c\xc2\x85"}\r\n')
    assert [job.prompt for job in read_jobs(file)] == ["a", "b\u2028c\x85"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"prompt": "a"}, {"prompt": "b", "sedd": 1}], r"line 2: .*'sedd'; did you mean 'seed'\?"),
        (['{"prompt": "a"'], r"line 1: is no JSON that can be read \(Expecting"),
        (['{"prompt": "a"}', "", "[1]"], r"line 3: not a JSON object"),
        ([{"seed": 1}], r"line 1: a job needs a prompt"),
        ([{"prompt": 5}], r"line 1: prompt 5: give a text"),
        ([{"prompt": "a", "negative_prompt": 5}], r"line 1: negative_prompt 5: give a text"),
        ([{"prompt": "a", "seed": -1}], r"line 1: seed -1: give a whole number from 0"),
        ([{"prompt": "a", "seed": 1.5}], r"line 1: seed 1\.5"),
        ([{"prompt": "a", "seed": 2**32}], r"line 1: seed 4294967296"),
        ([{"prompt": "a", "name": "in/b"}], r"line 1: name 'in/b': give a file name without"),
        ([{"prompt": "a", "name": ".."}], r"line 1: name '\.\.'"),
        ([{"prompt": "a", "name": 7}], r"line 1: name 7"),
        ([{"prompt": "a", "image": 3}], r"line 1: image 3: give a file, a numpy array"),
        ([{"prompt": "a", "last_image": "b.png"}], r"line 1: last_image without image"),
        ([{"prompt": "a", "mask": "b.png"}], r"line 1: mask without image: give the first frame"),
        ([{"prompt": "a", "image": "b.png", "mask": 3}], r"line 1: mask 3: give a file, an array"),
        ([{"prompt": "a", "image": "b.png", "modulation": 1}], r"leads attention to a mask: give"),
        ([{"prompt": "a", "modulation": "1"}], r"line 1: modulation '1': give a number of logits"),
        (
            [{"prompt": "a", "name": "x"}, {"prompt": "b"}, {"prompt": "c", "name": "x"}],
            r"line 3: name 'x' is that of line 1 too",
        ),
        (["", "  "], r"holds no jobs: write one JSON object per line"),
    ],
)
def test_bad_lines_are_named(written, lines, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_jobs(written(*lines))
    assert "many.jsonl" in str(raised.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.jsonl: jobs cannot be read"):
        read_jobs(tmp_path / "gone.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"bytes\.jsonl: jobs cannot be read"):
        read_jobs(tmp_path / "bytes.jsonl")


def test_a_job_of_fields_keeps_arrays():
    noise = np.zeros((1, 2, 3, 4), np.float32)
    job = Job.of({"prompt": "a", "noise": noise, "frames": 5})
    assert job.noise is noise and job.options == {"frames": 5}


def test_masks(written, tmp_path):
    """One or several, relative to the file as images are."""
    one, two = read_jobs(
        written(
            {"prompt": "a", "image": "a.png", "mask": "in/m.png", "modulation": 2},
            {"prompt": "b", "image": "a.png", "mask": ["m.png", "n.png"]},
        )
    )
    assert one.masks == (tmp_path / "in" / "m.png",) and one.modulation == 2
    assert two.masks == (tmp_path / "m.png", tmp_path / "n.png") and two.modulation == 0
    assert Job("a").masks == ()
