"""BEHAVE and Ego-Exo4D layouts, built small, as folders that the clip reader opens."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from tavid_jax.data import behave, egoexo
from tavid_jax.data.__main__ import main
from tavid_jax.data.behave import import_behave
from tavid_jax.data.clip import ClipError
from tavid_jax.data.egoexo import import_egoexo
from tavid_jax.data.folder import open_clips
from tavid_jax.data.imported import ClipsWriter
from tavid_jax.data.rle import decode_rle, unsqueeze

HW = (48, 64)


def box(y0, x0, y1, x1, size_hw=HW):
    mask = np.zeros(size_hw, np.uint8)
    mask[y0:y1, x0:x1] = 255
    return mask


def opened(folder, **kw):
    settings = dict(size_hw=HW, num_frames=4, track=False, masks="")
    return open_clips(folder, **(settings | kw))


def test_run_lengths_as_a_list_go_down_the_columns():
    mask = decode_rle({"size": [3, 2], "counts": [1, 2, 0, 1, 2]})
    np.testing.assert_array_equal(mask, [[False, True], [True, False], [True, False]])
    assert decode_rle({"size": [2, 2], "counts": [0, 4]}).all()
    assert not decode_rle({"size": [2, 2], "counts": [4]}).any()


@pytest.mark.parametrize("kind", [str, str.encode])
def test_run_lengths_as_text(kind):
    """A box with a hole (numbers, differences, negative ones), and a disc (numbers of two
    characters)."""
    mask = box(1, 2, 4, 6, (6, 8)) > 0
    mask[2, 3] = False
    counts = kind("=33NN02200;")
    np.testing.assert_array_equal(decode_rle({"size": [6, 8], "counts": counts}), mask)
    y, x = np.mgrid[:20, :30]
    counts = kind("b47<2N2N2N2O000000000001N2N2N2Nk4")
    disc = decode_rle({"size": [20, 30], "counts": counts})
    np.testing.assert_array_equal(disc, (x - 14) ** 2 + (y - 9) ** 2 < 60)


@pytest.mark.parametrize(
    "rle, why",
    [
        ({"size": [2, 2], "counts": [1, 2]}, "add up to 3 pixels, a mask of 2x2 has 4"),
        ({"size": [2, 2], "counts": [5, -1]}, "add up to 4"),
        ({"size": [2, 2], "counts": "1~"}, "cannot be read"),
        ({"size": [2, 2], "counts": "P"}, "cannot be read"),  # says that more follows
        ({"size": [2, 2]}, "cannot be read"),
        ({"size": [None, 2], "counts": [1]}, "cannot be read"),
    ],
)
def test_broken_run_lengths(rle, why):
    with pytest.raises(ClipError, match=why):
        decode_rle(rle)


@pytest.mark.parametrize(
    "squeezed, text",
    [
        ("Q", ""),
        ("IZA", "a"),
        ("BYUwNmD2Q", "hello"),
        ("IY1lA", "aaaaaaaaaaaa"),
        ("OofQigrATAMg9gBiQRgHJQPLKwWQMzqiSyIrpa4FRHTxIJqbbL7pA", "W_Q52Lo0001N2O1O1M3N2" * 3),
        ("FrAMAMF0A8EYB4DyAuWBLwaHJA", "ZZ0`]x1<O:1é世"),
    ],
)
def test_squeezed_text(squeezed, text):
    assert unsqueeze(squeezed) == text
    with pytest.raises(ClipError, match="broken"):
        unsqueeze(squeezed[:-1] + "!")


def test_an_import_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError, match="power"):
        with ClipsWriter(tmp_path / "out") as writer:
            writer.add("a", box(0, 0, 9, 9) > 0)
            raise RuntimeError("power")
    with pytest.raises(ClipError, match="no clip could be made: b: no mask"):
        with ClipsWriter(tmp_path / "out") as writer:
            writer.skipped.append(("b", "no mask"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    with pytest.raises(ClipError, match="out: is there already"):
        ClipsWriter(tmp_path / "out")


@pytest.fixture
def behave_root(tmp_path):
    """Two cameras of one sequence of six frames, the object hidden in the first of camera 1."""
    sequence = tmp_path / "root" / "sequences" / "Date01_Sub01_boxlarge_hand"
    for second in (10, 2, 3, 4, 5, 6):
        folder = sequence / f"t{second:04d}.000"
        folder.mkdir(parents=True)
        for camera, suffix in ((0, "jpg"), (1, "png")):
            colour = np.full((*HW, 3), 20 * second, np.uint8)
            cv2.imwrite(str(folder / f"k{camera}.color.jpg"), colour)
            hidden = camera == 1 and second == 2
            thing = box(0, 0, 0, 0) if hidden else box(8, 8, 24, 8 + 4 * second)
            cv2.imwrite(str(folder / f"k{camera}.obj_rend_mask.{suffix}"), thing)
            cv2.imwrite(str(folder / f"k{camera}.person_mask.{suffix}"), box(24, 40, 48, 56))
    (sequence / "info.json").write_text("{}")
    return tmp_path / "root"


def test_behave_becomes_a_folder_of_clips(behave_root, tmp_path):
    made = import_behave(behave_root, tmp_path / "out")
    assert made.count == 2 and [name[-2:] for name, _ in made.skipped] == ["k2", "k3"]
    first, second = opened(tmp_path / "out")
    assert first.id == "Date01_Sub01_boxlarge_hand.k0@00000" and first.fps == 1
    assert (first.target, first.actor) == (1, 2)
    assert first.caption == second.caption == "A person interacts with a large box."
    np.testing.assert_allclose(first.video[:, 0, 0, 0], [40, 60, 80, 100], atol=2)  # by time
    np.testing.assert_allclose(second.video[:, 0, 0, 0], [60, 80, 100, 120], atol=2)
    np.testing.assert_array_equal(first.masks[1], box(24, 40, 48, 56) > 0)
    assert first.masks[0].sum() == 16 * 8 and second.masks[0].sum() == 16 * 12
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").open()]
    assert [row["start"] for row in rows] == [2.0, 3.0] and rows[0]["end"] == 10.0
    assert (tmp_path / "out" / rows[0]["name"] / "00000.jpg").is_symlink()


def test_behave_starts_and_captions_are_optional(behave_root, tmp_path):
    made = import_behave(behave_root, tmp_path / "out", hop=2, captions=False)
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    stem = "Date01_Sub01_boxlarge_hand"
    assert names == [f"{stem}.k0", f"{stem}.k0.t0002", f"{stem}.k0.t0004",
                     f"{stem}.k1", f"{stem}.k1.t0003", f"{stem}.k1.t0005"]  # fmt: skip
    assert made.count == 6 and not list((tmp_path / "out").glob("*.txt"))


@pytest.mark.parametrize(
    "name, text",
    [
        ("Date01_Sub01_backpack_back", "A person interacts with a backpack."),
        ("Date02_Sub02_chairwood_sit", "A person interacts with a wooden chair."),
        ("Date03_Sub03_yogaball", "A person interacts with a yoga ball."),
        ("Date03_Sub03_umbrella_x", "A person interacts with an umbrella."),
        ("Date03_Sub03_plasticcontainer", "A person interacts with a plastic container."),
        ("Date03_Sub03_boxtiny_hand", "A person interacts with a tiny box."),
    ],
)
def test_behave_captions(name, text):
    assert behave.caption(name) == text


def test_behave_problems_are_named(behave_root, tmp_path):
    with pytest.raises(ClipError, match="sequences: no such folder; give the folder that holds"):
        import_behave(tmp_path, tmp_path / "out")
    frame = behave_root / "sequences" / "Date01_Sub01_boxlarge_hand" / "t0004.000"
    (frame / "k0.color.jpg").unlink()
    made = import_behave(behave_root, tmp_path / "out")
    assert "t0004.000/k0.color.jpg: missing; unpack" in made.skipped[0][1] and made.count == 1
    os.rename(frame.parent, frame.parent.with_name("strange"))
    with pytest.raises(ClipError, match="no clip could be made: strange.k0: .*is not named as"):
        import_behave(behave_root, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def rle(mask):
    """Counts as a list, by walking over the pixels."""
    counts, inside = [0], False
    for pixel in (mask > 0).T.ravel():
        if bool(pixel) != inside:
            counts.append(0)
            inside = not inside
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@pytest.fixture
def egoexo_root(tmp_path, make_video):
    """Two takes with a static and a worn camera each; one is described."""
    root = tmp_path / "root"
    objects = {
        "green bowl_0": {
            "cam01": {"annotation": {"60": rle(box(0, 0, 20, 20)), "0": rle(box(8, 8, 24, 32))}},
            "aria01_214-1": {"annotation": {"0": rle(box(0, 0, 9, 9))}},
        },
        "knife": {"cam01": {"annotation": {"30": rle(box(0, 0, 0, 0))}}},
        "cup": {"cam02": {"annotation": {"0": rle(box(0, 0, 9, 9))}}},
    }
    squeezed = {"width": 30, "height": 20, "encodedMask": "Q"}
    other = {"pot": {"gp03": {"annotation": {"30": rle(box(9, 9, 30, 40))}}},
             "pan": {"gp03": {"annotation": {"30": squeezed}}}}  # fmt: skip
    relations = {"u1": {"object_masks": objects}, "u2": {"object_masks": other},
                 "u3": {"object_masks": other}}  # fmt: skip
    sentences = [
        {"timestamp": 3.2, "text": "C takes the green bowl with C's hand"},
        {"timestamp": 0.5, "text": "C looks at the green bowl."},  # no mask a second before
        {"timestamp": 3.4, "text": "C washes the bowls"},
        {"timestamp": 3.0, "text": "C holds the knife."},
        {"timestamp": 3.0, "text": "C lifts a cup."},
    ]
    files = {
        "takes.json": [{"take_uid": "u1", "take_name": "cook_1"},
                       {"take_uid": "u2", "take_name": "cook_2"}],
        "annotations/relations_train.json": {"annotations": relations},
        "annotations/atomic_descriptions_train.json": {
            "annotations": {"u1": [{"descriptions": sentences}]}
        },
    }  # fmt: skip
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))
    for take, camera in (("cook_1", "cam01"), ("cook_2", "downscaled/448/gp03")):
        place = root / "takes" / take / "frame_aligned_videos" / f"{camera}.mp4"
        make_video(place, num_frames=90, size_hw=HW, fps=30.0)
    return root


def test_egoexo_becomes_a_folder_of_clips(egoexo_root, tmp_path):
    made = import_egoexo(egoexo_root, tmp_path / "out", seconds=0.5)
    reasons = dict(made.skipped)
    assert made.count == 2
    assert "cam02.mp4: no such video" in reasons["cook_1.cam02"]
    assert reasons["cook_1.cam01.knife.000030"] == "the mask is empty"
    assert "add up to 0 pixels" in reasons["cook_2.gp03.pan.000030"]
    assert reasons["u3"] == "no such take in takes.json"
    bowl, pot = opened(tmp_path / "out", num_frames=15)
    assert bowl.id == "cook_1.cam01.green_bowl_0.000060@00000"
    assert bowl.caption == "A person takes the green bowl with their hand."
    assert pot.caption == "A person interacts with the pot." and pot.fps == 30
    np.testing.assert_array_equal(bowl.masks, [box(0, 0, 20, 20) > 0])
    np.testing.assert_array_equal(pot.masks, [box(9, 9, 30, 40) > 0])
    assert bowl.actor == -1
    video = egoexo_root / "takes" / "cook_1" / "frame_aligned_videos" / "cam01.mp4"
    whole = open_clips(video, size_hw=HW, num_frames=90, track=False)[0].video
    near, far = (np.abs(bowl.video[0].astype(int) - whole[t]).mean() for t in (60, 40))
    assert near < 4 < far  # frame 60, encoded once more
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").open()]
    assert rows[0]["object"] == "green bowl_0" and (rows[0]["start"], rows[0]["end"]) == (2.0, 2.5)


def test_egoexo_frames_are_shrunk_with_their_masks(egoexo_root, tmp_path):
    import_egoexo(egoexo_root, tmp_path / "out", seconds=0.2, short_side=24)
    clip = opened(tmp_path / "out", size_hw=(24, 32))[0]
    np.testing.assert_array_equal(clip.masks, [box(0, 0, 10, 10, (24, 32)) > 0])
    assert open_clips(tmp_path / "out", size_hw=(24, 32), num_frames=2, track=False).files[
        0
    ].info.size_hw == (24, 32)


def test_egoexo_squeezed_masks(egoexo_root):
    counts = "W_Q52Lo0001N2O1O1M3N2" * 3
    with pytest.raises(ClipError, match="add up to"):  # it was read, and is no mask of this size
        egoexo._decode({"width": 3, "height": 2, "encodedMask":
                        "OofQigrATAMg9gBiQRgHJQPLKwWQMzqiSyIrpa4FRHTxIJqbbL7pA"})  # fmt: skip
    assert unsqueeze("OofQigrATAMg9gBiQRgHJQPLKwWQMzqiSyIrpa4FRHTxIJqbbL7pA") == counts


def test_egoexo_problems_are_named(egoexo_root, tmp_path):
    with pytest.raises(ClipError, match="takes.json: cannot be read"):
        import_egoexo(tmp_path / "absent", tmp_path / "out")
    path = egoexo_root / "annotations" / "relations_train.json"
    path.write_text("[]")
    with pytest.raises(ClipError, match="relations_train.json: holds a list, expected a dict"):
        import_egoexo(egoexo_root, tmp_path / "out")
    path.write_text("{")
    with pytest.raises(ClipError, match="relations_train.json: is broken"):
        import_egoexo(egoexo_root, tmp_path / "out")
    path.unlink()
    with pytest.raises(ClipError, match="no relations_"):
        import_egoexo(egoexo_root, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_commands(behave_root, egoexo_root, tmp_path, capsys):
    # Both fixtures fill one root; neither layout minds the other.
    assert main(["import-behave", str(behave_root), str(tmp_path / "b"), "--hop", "3"]) == 0
    printed = capsys.readouterr().out
    assert "4 clips in" in printed and "SKIPPED Date01_Sub01_boxlarge_hand.k2" in printed
    assert main(["import-egoexo", str(egoexo_root), str(tmp_path / "e"), "--seconds", "0.4"]) == 0
    assert "2 clips in" in capsys.readouterr().out
    assert main(["import-behave", str(tmp_path), str(tmp_path / "x")]) == 1
    assert "sequences: no such folder" in capsys.readouterr().err
    assert main(["import-behave", str(behave_root), str(tmp_path / "b")]) == 1
    assert "is there already" in capsys.readouterr().err
    assert Path(tmp_path / "b" / "manifest.jsonl").is_file()
