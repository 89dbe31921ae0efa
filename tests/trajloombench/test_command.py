"""The commands: what they print, what they leave behind, how they end."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from tavid_jax.trajloombench.command import main
from tavid_jax.trajloombench.published import NO_BOUNDARY, NO_ON_POLICY, TABLES
from tavid_jax.trajloombench.tables import role
from tests.trajloombench.bench_files import TINY, TINY_FLAGS, write_dataset, write_official

# Of the original scripts on the set of `write_goldens`.
FVMD = {
    "16_15_unmasked": (1462.606607503492, 3494.0833467120715, 5034.023873273985, 40),
    "16_15_masked": (758.2086814367979, 1135.1387429496629, 1933.9067026324844, 40),
    "16_1_masked": (724.815107250723, 1100.9419564693508, 1871.0552719637162, 528),
    "24_1_masked": (1144.7371599992875, 1790.20912045919, 2996.9298829138265, 464),
    "long_masked": (4653.374319208892, 7363.165815573491, 12054.080436048325, 8),
}


def write_goldens(root) -> None:
    """Eight clips of 81 frames, the truth waving and the forecast trembling around it."""
    t = np.arange(81.0)[:, None, None]
    i, j = np.arange(15.0)[:, None], np.arange(26.0)
    query = np.stack(np.broadcast_arrays(32 * j, 32 * i), axis=-1).reshape(-1, 2)
    for v in range(8):
        true = (32 * j + 3 * np.sin(0.2 * t + 0.3 * i + 0.5 * v),
                32 * i + 2 * np.cos(0.15 * t + 0.2 * j + 0.7 * v))  # fmt: skip
        off = (0.5 * np.sin(0.9 * t + i + j + v), 0.4 * np.cos(1.1 * t + 2 * i - j + v))
        true, off = (np.stack(np.broadcast_arrays(*xy), axis=-1) for xy in (true, off))
        seen = ((i + 2 * j + 3 * t + v) % 7 != 0).reshape(81, 390).astype(np.uint8)
        arrays = {
            "query_xy": query.astype(np.int64),
            "gt_tracks": true.reshape(81, 390, 2).astype(np.float32),
            "pred_tracks": (true + off).reshape(81, 390, 2).astype(np.float32),
            "gt_visibility": seen,
            "pred_visibility": seen,
        }
        write_official(root / f"clip{v}", arrays)


@pytest.mark.slow
def test_tables_of_a_folder_that_the_original_code_wrote(tmp_path, capsys):
    write_goldens(tmp_path / "theirs")
    folders = [f"--folder=TrajLoom:kubric{kind}={tmp_path / 'theirs'}" for kind in ("", ":vae")]
    assert main(["tables", *folders, "--out", str(tmp_path / "out"), "--pictures", "0"]) == 0
    content = json.loads((tmp_path / "out" / "tables.json").read_text())
    forecast, decoded = content["folders"]
    for name, (*values, n) in FVMD.items():
        record = forecast["metrics"]["fvmd"][name]
        got = [record[key] for key in ("fvmd_velocity", "fvmd_acceleration", "fvmd")]
        np.testing.assert_allclose(got, values, rtol=1e-6)
        assert record["n"] == n
    metrics = forecast["metrics"]
    for masked, tv, energy in (
        ("unmasked", 0.039002754080655816, 0.0005072043909532634),
        ("masked", 0.03899884865637353, 0.0005072145351219414),
    ):
        assert metrics["flow_tv"][masked]["prediction"] == pytest.approx(tv, rel=1e-6)
        assert metrics["div_curl"][masked]["prediction"] == pytest.approx(energy, rel=1e-6)
    vepe = decoded["metrics"]["vepe"]["81"]
    assert vepe["masked"]["epe"] == pytest.approx(0.43295383167641505, rel=1e-6)
    assert vepe["unmasked"]["epe"] == pytest.approx(0.43296156952976617, rel=1e-6)
    assert (forecast["solver"], forecast["seed"], forecast["frames"]) == ("euler-10", 42, 81)
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("  TrajLoom, 81 frames"))
    assert row.split()[-3:] == ["1871", "39.00", "50.72"]
    long = next(line for line in text.splitlines() if "12.05" in line)
    assert long.split() == ["TrajLoom", "12.05", "39.00", "50.72"]
    assert "WHN (L) (published)       8999     7587    4872      10383     24.71" in text
    assert "Table 3, “w/o on-policy”: not run, needs a checkpoint that was never released" in text
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "Table 6: Solvers" in page and "12.05" in page and "<svg" in page


def test_run_evaluates_and_reports(tmp_path, capsys):
    write_dataset(tmp_path / "data", "kinetics", tracker="alltracker")
    write_dataset(tmp_path / "data", "zebras", 2, tracker="alltracker")
    out = tmp_path / "out"
    methods = ["TrajLoom=tests.trajloombench.bench_files:drifting", "still=stand_still"]
    arguments = ["--datasets", str(tmp_path / "data"), "--out", str(out), *TINY_FLAGS]
    arguments += [f"--method={text}" for text in methods]
    assert main(["run", *arguments, "--pictures", "1"]) == 0
    said = capsys.readouterr()
    assert "25 outputs made, 0 were there" in said.out
    labels = [line[:22].strip() for line in said.out.splitlines() if "frames  " in line]
    assert labels.index("TrajLoom, 5 frames") < labels.index("still, 5 frames")
    assert "zebras" in said.out and "published rows do not compare" in said.out
    pictures = sorted(path.name for path in (out / "report").glob("*.webp"))
    assert [name.partition("_")[0] for name in pictures] == ["kinetics", "zebras"]
    page = (out / "report" / "index.html").read_text()
    assert "Side by side" in page and "Table 2: Autoencoders" in page
    assert main(["evaluate", *arguments]) == 0
    assert "0 outputs made, 25 were there" in capsys.readouterr().out
    assert main(["tables", str(out), "--out", str(tmp_path / "again"), "--pair", "still,who"]) == 1
    assert "no forecasts of method 'who'; there are" in capsys.readouterr().err


def test_prepare_says_what_it_does(tmp_path, capsys):
    video = np.zeros((15, 40, 48, 3), np.uint8)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"good": {"video": video}, "bad": {}}))
    sizes = TINY_FLAGS[: TINY_FLAGS.index("--frames")]
    tracker = ["--tracker", "tests.trajloombench.bench_files:standing"]
    arguments = ["prepare", "robotap", str(tmp_path), str(tmp_path / "d"), *tracker, *sizes]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "tracker: tests.trajloombench.bench_files:standing (the paper's is AllTracker)" in text
    assert "SKIPPED bad: has no 'video'" in text and "robotap: 1 clips, 1 videos skipped" in text
    assert main(["prepare", "robotap", str(tmp_path / "x"), str(tmp_path / "d")]) == 1
    assert "error: " in capsys.readouterr().err
    assert TINY.frames == 15


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tables", "--out", "nowhere"], "nowhere: no outputs below it"),
        (["tables", "--folder", "TrajLoom=x"], "give METHOD:DATASET=PATH"),
        (["tables", "--folder", "TrajLoom:kubric=nowhere"], "no clip .meta.json. below nowhere"),
        (["evaluate", "--datasets", "x", "--method", "a=b", "--out", "y"], "there is no 'b'"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("error: ")
    assert np.any([word in said[0] for word in [words.replace(".meta.json.", "(meta.json)")]])


def test_clips_of_different_lengths_are_refused(tmp_path, capsys):
    query = np.stack(np.meshgrid(np.arange(0, 48, 8), np.arange(0, 40, 8)), -1).reshape(-1, 2)
    for name, frames in (("a", 9), ("b", 8)):
        tracks = np.zeros((frames, 30, 2), np.float32)
        seen = np.ones((frames, 30), np.uint8)
        arrays = {"query_xy": query, "gt_tracks": tracks, "pred_tracks": tracks}
        arrays |= {"gt_visibility": seen, "pred_visibility": seen}
        write_official(tmp_path / "theirs" / name, arrays, H=40, W=48)
    command = ["tables", f"--folder=X:kubric={tmp_path / 'theirs'}", f"--out={tmp_path / 'o'}"]
    assert main(command) == 1
    assert "b has frames 8, but a has 9" in capsys.readouterr().err
    (tmp_path / "theirs" / "a" / "query_xy.npy").unlink()
    assert main(command) == 1
    assert "lacks query_xy.npy" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_roles_by_name():
    assert role("without on-policy fine-tuning") == role("no_on_policy") == NO_ON_POLICY
    assert role("w/o boundary hints") == role("no boundary") == NO_BOUNDARY
    assert role("TrajLoom") == "trajloom" and role("mine") == "mine"


def test_published_cells_are_the_known_ones():
    rows = {(n, row.label): row.values for n, table in TABLES.items() for row in table}
    assert rows[1, "TrajLoom"]["fvmd"]["kubric"] == 1338
    assert rows[6, "TrajLoom, DOPRI5"] == {
        "fvmd": {"kinetics": 3182, "robotap": 2546, "kubric": 1724, "magicdata": 2358}
    }
    assert rows[2, "WHN-VAE"] == {} and rows[3, "w/o on-policy"]["fvmd_long"]["magicdata"] == 31.71
