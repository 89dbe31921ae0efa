"""TAP-Vid metrics and queries against the public code's stored outputs."""

import numpy as np
import pytest

from tavid_jax.metrics import tapvid


def arguments(file: dict, mode: str) -> list[np.ndarray]:
    names = ("query_points", "gt_occluded", "gt_tracks", "pred_occluded", "pred_tracks")
    return [file[f"{mode}/{name}"] for name in names]


def stored(file: dict, prefix: str) -> dict[str, np.ndarray]:
    metrics = ("occlusion", "pts_within", "jaccard", "average")
    names = [key.removeprefix(prefix) for key in file if key.startswith(prefix)]
    return {name: file[prefix + name] for name in names if name.startswith(metrics)}


@pytest.mark.parametrize("trackwise", [False, True], ids=["video", "track"])
@pytest.mark.parametrize("mode", ["first", "strided"])
def test_golden(goldens, mode, trackwise):
    file = goldens("tapvid_metrics")
    expected = stored(file, f"{mode}/trackwise/" if trackwise else f"{mode}/")
    ours = tapvid.tapvid_metrics(*arguments(file, mode), mode, trackwise=trackwise)
    assert set(ours) == set(expected) and len(ours) == 13
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_queries(goldens, mode):
    file = goldens("tapvid_metrics")
    queries = tapvid.sample_queries(file["in_occluded"], file["in_points"], mode)
    np.testing.assert_allclose(queries.query_points, file[f"{mode}/query_points"][0], atol=1e-12)
    np.testing.assert_array_equal(queries.occluded, file[f"{mode}/gt_occluded"][0])
    np.testing.assert_array_equal(queries.tracks, file[f"{mode}/gt_tracks"][0])


def test_videos_of_a_batch_do_not_mix(goldens):
    """Some public copies divide by the count of the whole batch."""
    file = goldens("tapvid_metrics")
    single = arguments(file, "strided")
    perfect = [*single[:3], single[1], single[2]]
    both = [np.concatenate(pair) for pair in zip(single, perfect, strict=True)]
    ours = tapvid.tapvid_metrics(*both, "strided")
    assert ours["occlusion_accuracy"].shape == (2,)
    assert ours["occlusion_accuracy"][0] == file["strided/occlusion_accuracy"][0]
    for name in ("occlusion_accuracy", "average_pts_within_thresh", "average_jaccard"):
        assert ours[name][1] == 1.0


def test_thresholds_are_strict():
    query = np.zeros((1, 1, 3))
    seen = np.zeros((1, 1, 2), bool)
    truth = np.zeros((1, 1, 2, 2))
    scores = tapvid.tapvid_metrics(query, seen, truth, seen, truth + [2.0, 0.0], "first")
    assert scores["pts_within_2"][0] == 0.0 and scores["pts_within_4"][0] == 1.0


def test_nothing_evaluated_is_nan():
    query = np.array([[[1.0, 0.0, 0.0]]])  # the last frame: none is left
    seen = np.zeros((1, 1, 2), bool)
    truth = np.zeros((1, 1, 2, 2))
    scores = tapvid.tapvid_metrics(query, seen, truth, seen, truth, "first")
    assert all(np.isnan(value).all() for value in scores.values())
