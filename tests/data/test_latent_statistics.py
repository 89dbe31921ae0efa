"""Latent statistics in TrajLoom's JSON."""

import json

import numpy as np
import pytest

from tavid_jax.data.latent_statistics import (
    TABLES,
    LatentSums,
    StatisticsError,
    differing,
    read_statistics,
    write_statistics,
)


@pytest.fixture
def latents():
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 4.0, 0.5])
    return [
        [(rng.normal(size=(5, 6, 3)) * spread * k + 2).astype(np.float32) for k in (1, 2)]
        for _ in range(4)
    ]


@pytest.fixture
def sums(latents):
    sums = LatentSums()
    for history, future in latents:
        sums.add(history, future)
    return sums


def test_sums_are_numpys(latents, sums):
    stacked = np.asarray(latents, np.float64)
    parts = {"history": stacked[:, 0], "future": stacked[:, 1], "all": stacked}
    found = sums.statistics()
    for name, values in parts.items():
        flat = values.reshape(-1, 3)
        assert found[name]["count"] == len(flat)
        for field in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(found[name][field], getattr(flat, field)(0), rtol=1e-9)
    with pytest.raises(StatisticsError, match="no latents were added"):
        LatentSums().statistics()


def test_what_is_written_holds_all_that_the_official_file_does(tmp_path, latents, sums):
    path = tmp_path / "deep" / "stats.json"
    write_statistics(path, sums.statistics(), {"split": "train"})
    held = json.loads(path.read_text())
    assert set(held) == {"meta", "z_hist", "z_fut", "z_all", "suggested_latent_scale"}
    assert held["meta"] == {"split": "train", "latent_channels": 3}
    future = np.asarray(latents, np.float64)[:, 1]
    table = held["z_fut"]
    assert set(table) == {"count", "mean", "std", "min", "max", "per_channel"}
    assert set(table["per_channel"]) == {"count", "mean", "std", "min", "max"}
    assert table["count"] == future.size == 3 * table["per_channel"]["count"]
    for field in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(table[field], getattr(future, field)(), rtol=1e-9)
    np.testing.assert_allclose(held["suggested_latent_scale"], 1 / np.asarray(latents).std())
    again = read_statistics(path)
    for name in TABLES:
        assert again[name]["std"].dtype == np.float32
        np.testing.assert_allclose(again[name]["mean"], sums.statistics()[name]["mean"], rtol=1e-6)


def test_what_is_not_known_is_left_out(tmp_path, sums):
    known = {k: {f: v[f] for f in ("mean", "std")} for k, v in sums.statistics().items()}
    write_statistics(tmp_path / "a.json", known)
    table = json.loads((tmp_path / "a.json").read_text())["z_all"]
    assert set(table) == {"mean", "std", "per_channel"}
    assert set(table["per_channel"]) == {"mean", "std"}
    del known["future"]["std"]
    with pytest.raises(StatisticsError, match="statistics lack future/std"):
        write_statistics(tmp_path / "b.json", known)
    assert not (tmp_path / "b.json").exists()


def test_differences_are_told_by_table_and_channel(sums):
    one = sums.statistics()
    other = {k: {f: v[f].copy() for f in ("mean", "std")} for k, v in one.items()}
    assert differing(one, other) == ""
    other["future"]["mean"][1] += 0.01 * one["future"]["std"][1]
    assert differing(one, other).startswith("z_fut channel 1: mean ")
    assert differing(one, other, tolerance=0.05) == ""
    other["history"] = {f: v[:2] for f, v in other["history"].items()}
    assert differing(one, other) == "z_hist has 3 and 2 channels"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda h: h.pop("z_fut"), r"has no z_fut.per_channel.mean and .std; it holds \['meta'"),
        (lambda h: h["z_all"]["per_channel"].pop("std"), "has no z_all.per_channel.mean"),
        (lambda h: h["z_all"]["per_channel"]["std"].append(1.0), "must be lists of one length"),
        (lambda h: h["z_all"]["per_channel"]["std"].__setitem__(0, -1.0), "std not negative"),
        (lambda h: h["z_all"]["per_channel"].update(mean=["a", "b", "c"]), "holds no numbers"),
        (lambda h: h["z_hist"]["per_channel"].update(mean=[0.0], std=[1.0]), "different numbers"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, sums, change, words):
    write_statistics(tmp_path / "a.json", sums.statistics())
    held = json.loads((tmp_path / "a.json").read_text())
    change(held)
    (tmp_path / "a.json").write_text(json.dumps(held))
    with pytest.raises(StatisticsError, match=f"a.json: .*{words}"):
        read_statistics(tmp_path / "a.json")


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(StatisticsError, match="no such file of latent statistics"):
        read_statistics(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(StatisticsError, match="is no JSON that can be read"):
        read_statistics(tmp_path / "a.json")
