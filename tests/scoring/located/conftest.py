"""Videos of two methods: one follows its trajectories, one has the colours exchanged."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.data.video import write_video
from tavid_jax.tracks.trajectories import Trajectories

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from located_scene import FRAMES, HW, SIDE, STARTS, TEXTS, TRACKS, video  # noqa: E402


@pytest.fixture(scope="session")
def stage(tmp_path_factory) -> Path:
    """good/, swapped/ and cases/ of two clips; the second has no objects and no prompt in jobs."""
    root = tmp_path_factory.mktemp("located")
    segment = np.array([1, 2], np.int32)
    given = Trajectories(
        TRACKS.astype(np.float32), np.ones((2, FRAMES), bool), HW,
        segment=segment, segments=2, texts=TEXTS,
    )  # fmt: skip
    cases = root / "cases"
    cases.mkdir()
    for name in ("first", "second"):
        write_trajectories(cases / f"{name}.json", given)
        write_video(root / "good" / f"{name}.mp4", video(("red", "teal")), 8)
        write_video(root / "swapped" / f"{name}.mp4", video(("teal", "red")), 8)
    job = {"name": "first", "prompt": "two boxes", "tracks": "first.json"}
    (cases / "jobs.jsonl").write_text(json.dumps(job) + "\n\n")
    (cases / "second.txt").write_text("boxes\n")
    ids = np.zeros(HW, np.uint8)
    for number, (x, y) in enumerate(STARTS - SIDE // 2, 1):
        ids[y : y + SIDE, x : x + SIDE] = number
    cv2.imwrite(str(cases / "first.objects.png"), ids)
    return root
