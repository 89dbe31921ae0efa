"""Forecasts in TrajLoom's folders: round trips, the official layout, and what breaks it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tavid_jax.data import forecast_files
from tavid_jax.data.forecast_files import (
    ForecastFileError,
    ForecastFiles,
    read_forecast,
    read_forecasts,
    write_forecast,
)
from tavid_jax.data.official import TrackFile, read_tracks
from tavid_jax.tracks.grid import query_points

SIZE = (24, 40)
N, T = 15, 5


def make(seed: int = 0, size_hw=SIZE, stride: int = 8, **fields) -> ForecastFiles:
    rng = np.random.default_rng(seed)
    query = query_points(size_hw, stride).astype(np.int64)
    n = len(query)
    inside = rng.uniform(0, 1, (2, n, T, 2)) * (size_hw[1] - 1, size_hw[0] - 1)
    seen = rng.random((2, n, T)) > 0.3
    forecast = ForecastFiles(
        query_xy=query,
        gt_tracks=inside[0].astype(np.float32),
        gt_visibility=seen[0],
        pred_tracks=inside[1].astype(np.float32),
        pred_visibility=seen[1],
        pred_probability=rng.random((n, T)).astype(np.float32),
        meta={"H": size_hw[0], "W": size_hw[1], "caption": "a – b"},
    )
    return dataclasses.replace(forecast, **fields)


def test_round_trip(tmp_path):
    forecast = make()
    assert write_forecast(tmp_path / "a" / "clip", forecast) == tmp_path / "a" / "clip"
    back = read_forecast(tmp_path / "a" / "clip")
    for name in ("query_xy", "gt_tracks", "gt_visibility", "pred_tracks", "pred_visibility"):
        np.testing.assert_array_equal(getattr(back, name), getattr(forecast, name))
    np.testing.assert_allclose(back.pred_probability, forecast.pred_probability, atol=5e-4)
    assert back.size_hw == SIZE and back.grid_hw == (3, 5) and back.frames == T
    wanted = dict(H=24, W=40, pred_len=T, num_points=N, grid_stride=8, grid_border=0)
    assert back.meta == wanted | {"grid_origin": "topleft", "caption": "a – b"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["clip"]  # no scratch


def test_files_are_the_official_ones(tmp_path):
    forecast = make()
    folder = write_forecast(tmp_path / "clip", forecast)
    arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    described = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    assert described == {
        "query_xy": ("int64", (N, 2)),
        "grid_idx": ("int64", (N,)),
        "gt_tracks": ("float32", (T, N, 2)),
        "gt_visibility": ("uint8", (T, N)),
        "pred_tracks": ("float32", (T, N, 2)),
        "pred_visibility": ("uint8", (T, N)),
        "pred_visibility_prob": ("float16", (T, N)),
    }
    np.testing.assert_array_equal(arrays["pred_tracks"][3, 7], forecast.pred_tracks[7, 3])
    assert arrays["query_xy"][6].tolist() == [8, 8] and arrays["grid_idx"][6] == 8 * 40 + 8


def test_points_outside_are_written_as_unseen_and_read_as_written(tmp_path):
    tracks = make().gt_tracks.copy()
    tracks[0, 0], tracks[1, 0], tracks[2, 0] = (np.nan, 1), (39.01, 3), (39, 23)
    everything = np.ones((N, T), bool)
    folder = write_forecast(
        tmp_path / "clip", make(gt_tracks=tracks, gt_visibility=everything, pred_probability=None)
    )
    stored = np.load(folder / "gt_visibility.npy")
    assert stored[0, :3].tolist() == [0, 0, 1] and stored.sum() == N * T - 2
    np.save(folder / "gt_visibility.npy", np.ones((T, N), np.uint8))  # as others may write it
    back = read_forecast(folder)
    assert back.gt_visibility.all()
    assert back.pred_probability is None


def test_points_in_another_order_come_out_row_major(tmp_path):
    forecast = make()
    folder = write_forecast(tmp_path / "clip", forecast)
    order = np.random.default_rng(1).permutation(N)
    for path in folder.glob("*.npy"):
        array = np.load(path)
        np.save(path, array[order] if path.stem in ("query_xy", "grid_idx") else array[:, order])
    back = read_forecast(folder)
    np.testing.assert_array_equal(back.query_xy, forecast.query_xy)
    np.testing.assert_array_equal(back.pred_tracks, forecast.pred_tracks)
    np.testing.assert_array_equal(back.gt_visibility, forecast.gt_visibility)


def test_an_earlier_forecast_is_replaced_and_other_files_stay(tmp_path):
    tracks = TrackFile(make().gt_tracks, make().gt_visibility, SIZE)
    folder = write_forecast(tmp_path / "clip", make(), tracks)
    np.testing.assert_array_equal(read_tracks(folder / "gt_full.npz").tracks, tracks.tracks)
    (folder / "film.webp").write_bytes(b"film")
    write_forecast(folder, make(1, pred_probability=None))
    np.testing.assert_array_equal(read_forecast(folder).pred_tracks, make(1).pred_tracks)
    names = {path.name for path in folder.iterdir()}
    assert "film.webp" in names
    assert not {"gt_full.npz", "pred_visibility_prob.npy"} & names  # of the earlier one
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    folder = write_forecast(tmp_path / "clip", make())

    def full(path, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(forecast_files.np, "save", full)
    for name in ("clip", "new"):
        with pytest.raises(OSError, match="No space"):
            write_forecast(tmp_path / name, make(1))
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]
    np.testing.assert_array_equal(read_forecast(folder).pred_tracks, make().pred_tracks)


def test_many_clips_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        write_forecast(tmp_path / f"v{number}", make(number))
    (tmp_path / ".v9.part").mkdir()
    (tmp_path / ".v9.part" / "pred_tracks.npy").write_bytes(b"")  # of a write that was killed
    forecasts = read_forecasts(tmp_path)
    assert list(forecasts) == ["v1", "v2", "v10"]
    np.testing.assert_array_equal(forecasts["v10"].gt_tracks, make(10).gt_tracks)


def test_clips_that_do_not_belong_together(tmp_path):
    write_forecast(tmp_path / "a", make())
    write_forecast(tmp_path / "b", make(size_hw=(24, 32)))
    with pytest.raises(ForecastFileError, match=r"b has size_hw \(24, 32\), but a has \(24, 40\)"):
        read_forecasts(tmp_path)
    shifted = make()
    write_forecast(tmp_path / "b", dataclasses.replace(shifted, query_xy=shifted.query_xy + 4))
    with pytest.raises(ForecastFileError, match="the points of b are other ones than a's"):
        read_forecasts(tmp_path)
    for root in (tmp_path / "nowhere", tmp_path / "a" / "empty"):
        with pytest.raises(ForecastFileError, match="no folder"):
            read_forecasts(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ForecastFileError, match=r"holds a pred_tracks\.npy"):
        read_forecasts(tmp_path / "empty")


def save(name: str, change):
    def break_it(folder: Path) -> None:
        np.save(folder / f"{name}.npy", change(np.load(folder / f"{name}.npy")))

    return break_it


def edit_meta(**changes):
    def break_it(folder: Path) -> None:
        path = folder / "meta.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return break_it


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda f: (f / "gt_tracks.npy").unlink(), r"lacks gt_tracks\.npy; write it again"),
        (lambda f: (f / "meta.json").unlink(), r"lacks meta\.json"),
        (lambda f: (f / "meta.json").write_text("{"), r"meta\.json: cannot be read as JSON"),
        (lambda f: (f / "meta.json").write_text("[1]"), "must hold an object with the frame's H"),
        (edit_meta(W="40"), "must say the frame's 'W', got '40'"),
        (edit_meta(W=48), r"grid_idx\.npy is not y \* 48 \+ x"),
        (lambda f: (f / "pred_tracks.npy").write_bytes(b"x"), r"pred_tracks\.npy: cannot be read"),
        (save("pred_tracks", lambda x: x[:-1]), r"pred_tracks\.npy must be \(5, 15, 2\)"),
        (save("gt_tracks", lambda x: x.swapaxes(0, 1)), r"gt_tracks\.npy must be \(T, N, 2\)"),
        (save("gt_visibility", lambda x: x.T), r"gt_visibility\.npy must be \(5, 15\)"),
        (save("gt_visibility", lambda x: x * 2), "must hold 0 and 1 alone"),
        (save("pred_visibility_prob", lambda x: x[1:]), r"prob\.npy must be \(5, 15\)"),
        (save("query_xy", lambda x: x[:, :1]), r"query_xy\.npy must be \(N, 2\)"),
        (save("query_xy", lambda x: np.r_[x[:-1], x[:1]]), "not a full grid"),
    ],
    ids=lambda x: x[:24] if isinstance(x, str) else "",
)
def test_a_broken_folder(tmp_path, break_it, words):
    folder = write_forecast(tmp_path / "clip", make())
    break_it(folder)
    with pytest.raises(ForecastFileError, match=words) as caught:
        read_forecast(folder)
    assert str(folder) in str(caught.value)


def test_what_cannot_be_written(tmp_path):
    one = make()
    scattered = one.query_xy + np.arange(N)[:, None] ** 2
    with pytest.raises(ForecastFileError, match="not a full grid"):
        write_forecast(tmp_path / "a", dataclasses.replace(one, query_xy=scattered))
    with pytest.raises(ForecastFileError, match="must say the frame's 'H', got None"):
        write_forecast(tmp_path / "a", dataclasses.replace(one, meta={"W": 3}))
    assert not list(tmp_path.iterdir())
