"""Real and generated videos of two scenes, with all that they are judged by."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tavid_jax.data.video import write_video

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from motion_scene import Scene, make_scene, save_tracks, stands  # noqa: E402
from scoring_files import write_mask  # noqa: E402


@pytest.fixture(scope="session")
def scenes() -> dict[str, Scene]:
    return {"moves": make_scene(0), "stands": make_scene(1, (2, -1))}


@pytest.fixture(scope="session")
def studio(scenes, tmp_path_factory) -> Path:
    """real/ and generated/{dense,unaligned}/: one video equals the real one, one stands still."""
    root = tmp_path_factory.mktemp("studio")
    for name, scene in scenes.items():
        write_video(root / "real" / f"{name}.mp4", scene.video, 8)
        made = scene.video if name == "moves" else stands(scene.video)
        for kind in ("dense", "unaligned"):
            write_video(root / "generated" / kind / f"{name}.mp4", made, 8)
        save_tracks(root / "generated" / "dense" / f"{name}.npz", scene.tracks())
        # Elsewhere and larger; the last point is background and does not move.
        moved = 1.5 * (scene.tracks() - scene.corner[0]) + [20, -5]
        moved = np.concatenate([moved, np.zeros_like(moved[:1])])
        segment = np.append(np.ones(len(moved) - 1, np.int32), np.int32(0))
        where = root / "generated" / "unaligned"
        save_tracks(where / f"{name}.tracks.npz", moved, segment=segment)
        write_mask(where / f"{name}.mask.png", scene.mask)
    return root
