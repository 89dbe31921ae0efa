"""Mixtures give every set its share of the places, and show every item."""

import collections
import itertools
import pickle

import numpy as np
import pytest

from tavid_jax.data.mixture import Mixture
from tavid_jax.data.pipeline import batches


class Set(list):
    pass


def mixture(**parts):
    """NAME=(size, weight): items are (name, number)."""
    sets = {name: Set((name, i) for i in range(size)) for name, (size, _) in parts.items()}
    return Mixture("mixed", sets, {name: weight for name, (_, weight) in parts.items()})


def test_every_stretch_has_the_shares():
    source = mixture(a=(7, 0.15), b=(40, 0.25), c=(3, 0.25), d=(11, 0.35))
    names = [name for name, _ in (source[i] for i in range(len(source)))]
    for name, weight in dict(a=0.15, b=0.25, c=0.25, d=0.35).items():
        shown = np.cumsum([other == name for other in names])
        assert np.abs(shown - weight * np.arange(1, len(names) + 1)).max() < 2.0
    exact = collections.Counter(names[:100])
    assert exact == dict(a=15, b=25, c=25, d=35)


@pytest.mark.parametrize(
    "parts",
    [
        dict(a=(7, 1), b=(50, 1)),
        dict(a=(5, 3.0), b=(1, 0.001)),
        dict(a=(10, 1 / 3), b=(3, 2 / 3)),
        dict(only=(4, 0.2)),
    ],
)
def test_an_epoch_shows_every_item_of_every_set_in_turn(parts):
    source = mixture(**parts)
    shown = [source[i] for i in range(len(source))]
    wanted = {(name, i) for name, (size, _) in parts.items() for i in range(size)}
    assert set(shown) == wanted
    total = sum(weight for _, weight in parts.values())
    most = max(size * total / weight for size, weight in parts.values())
    assert most - len(parts) <= len(source) <= most + len(parts)
    for name, (size, _) in parts.items():
        turns = [i for other, i in shown if other == name]
        assert turns == [i % size for i in range(len(turns))]


def test_a_mixture_is_a_source_for_batches_and_processes():
    source = pickle.loads(pickle.dumps(mixture(a=(3, 1), b=(6, 2))))
    assert len(source) == 9 and source.name == "mixed" and source[-1] == source[8]
    assert source.place(0) == (source.sets["b"], 0) or source.place(0) == (source.sets["a"], 0)
    with pytest.raises(IndexError):
        source[9]

    def prepare(item, rng):
        return {"id": f"{item[0]}{item[1]}"}

    got = itertools.islice(batches(source, prepare, batch_size=9, seed=0, threads=0), 2)
    for batch in got:  # each is an epoch
        assert collections.Counter(name[0] for name in batch.ids) == dict(a=3, b=6)


@pytest.mark.parametrize(
    "parts, words",
    [
        (dict(), "'mixed' names no set"),
        (dict(a=(0, 1)), "set 'a' is empty"),
        (dict(a=(2, 1), b=(2, 0.0)), "set 'b' has the weight 0.0; weights must be positive"),
        (dict(a=(2, -1)), "set 'a' has the weight -1"),
        (dict(a=(2, float("inf"))), "set 'a' has the weight inf"),
    ],
)
def test_what_cannot_be_mixed(parts, words):
    with pytest.raises(ValueError, match=words):
        mixture(**parts)
