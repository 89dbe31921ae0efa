"""A run that nothing disturbed, and compiled programs shared by all tests of the engine."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.engine import toy

CACHE = {"jax_compilation_cache_dir": None, "jax_persistent_cache_min_compile_time_secs": 0.0}


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module", autouse=True)
def programs(cache_dir: Path) -> Iterator[dict[str, str]]:
    """The toy's step compiles once, not in every test; as environment variables for programs."""
    settings = CACHE | {"jax_compilation_cache_dir": str(cache_dir)}
    former = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield {name.upper(): str(value) for name, value in settings.items()}
    for name, value in former.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workdir of the toy run, trained without a stop."""
    folder = tmp_path_factory.mktemp("straight")
    toy.run(folder)
    return folder
