"""Compiled programs are kept when asked for, and never by an import."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tavid_jax.engine.compile_cache import enable_compile_cache


@pytest.fixture(autouse=True)
def former(programs) -> Iterator[None]:
    folder = jax.config.jax_compilation_cache_dir
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    yield
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
    compilation_cache.reset_cache()


def test_programs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert enable_compile_cache("~/xla")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "xla")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    jax.jit(lambda x: jnp.tanh(x) * 17.25)(jnp.ones(3))
    assert list((tmp_path / "xla").iterdir())


def test_empty_switches_it_off():
    assert not enable_compile_cache("")
    assert jax.config.jax_compilation_cache_dir is None


def test_unwritable_folder_only_warns(tmp_path: Path, caplog):
    (tmp_path / "file").write_text("")
    assert not enable_compile_cache(tmp_path / "file" / "xla")
    assert "no compile cache" in caplog.text
    assert jax.config.jax_compilation_cache_dir is None
