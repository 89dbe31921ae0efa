"""What a stage starts from, and what it hands on."""

import jax
import numpy as np
import pytest

from tavid_jax.engine.placement import InitError, initialise, result_of, split_trainable
from tavid_jax.parallel.mesh import make_mesh
from tests.engine import toy

STATS = {"stats": {"mean": np.full(toy.DIM, 2.0), "std": np.full(toy.DIM, 3.0)}}
HEAD = (toy.DIM, 3)


def start(earlier: dict, method=None) -> dict:
    return initialise(method or toy.Fit(), jax.random.key(0), make_mesh(), earlier)


def test_earlier_results_override_in_order():
    first = {"net": {"head": {"kernel": np.full(HEAD, 5.0, np.float32)}}}
    second = {"net": {"head": {"kernel": np.full(HEAD, 6.0, np.float32)}}}
    params = start({"stats": STATS, "one": first, "two": second})
    assert np.all(params["net"]["head"]["kernel"] == 6.0)
    assert np.all(params["stats"]["std"] == 3.0)
    # In the dtype of the model, whatever was computed.
    assert params["stats"]["mean"].dtype == np.float32
    # What no stage provides is initialised.
    fresh = toy.Fit().init(jax.random.key(0))
    np.testing.assert_allclose(
        params["net"]["layers"]["kernel"], fresh["net"]["layers"]["kernel"], rtol=1e-6
    )


def test_a_result_of_another_shape_is_refused():
    wrong = {"net": {"head": {"kernel": np.zeros((toy.DIM, 4))}}}
    with pytest.raises(InitError) as refused:
        start({"stats": STATS, "other": wrong})
    assert str(refused.value) == (
        "net/head/kernel from stage 'other' has shape [8, 4], this stage expects [8, 3]; "
        "give both stages the same model options"
    )


def test_a_frozen_part_must_come_from_somewhere():
    with pytest.raises(InitError, match="stats/mean is frozen in Fit but none .*none.* provides"):
        start({})
    part = {"stats": {"mean": np.zeros(toy.DIM)}}
    with pytest.raises(InitError, match=r"stats/std is frozen .*init_from \(half\)"):
        start({"half": part})


def test_unknown_paths_are_left_but_a_useless_stage_is_an_error():
    more = STATS | {"elsewhere": {"w": np.zeros(3)}}
    assert set(start({"stats": more})) == {"net", "stats"}
    with pytest.raises(InitError, match="stage 'odd' in init_from provides nothing"):
        start({"stats": STATS, "odd": {"elsewhere": {"w": np.zeros(3)}}})


class Typo(toy.Fit):
    trainable_paths = ("nett/.*",)


def test_a_pattern_that_matches_nothing_is_named():
    with pytest.raises(ValueError, match=r"pattern 'nett/\.\*' matches no parameter.*net/head"):
        start({"stats": STATS}, Typo())


def test_split_and_result():
    params = start({"stats": STATS})
    trainable, frozen = split_trainable(toy.Fit(), params)
    assert set(trainable["net"]) == {"layers", "head"}
    assert set(frozen) == {"net", "stats"} and set(frozen["net"]) == {"table"}
    assert set(result_of(toy.Fit(), params)["net"]) == {"layers", "head", "table"}
