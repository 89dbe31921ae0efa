"""Fixtures of the autoencoder's tests."""

from collections.abc import Callable

import pytest

from tests.models.cogvideox.tiny_vae import Pair


@pytest.fixture(scope="package")
def pair() -> Callable[..., Pair]:
    """One pair per config and seed, made once."""
    made: dict[tuple[str, int], Pair] = {}

    def get(name: str, seed: int = 0) -> Pair:
        if (name, seed) not in made:
            made[name, seed] = Pair(name, seed)
        return made[name, seed]

    return get
