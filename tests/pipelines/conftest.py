"""Compiled programs shared by the tests of this folder, as in tests/engine."""

from tests.engine.conftest import cache_dir, programs

__all__ = ["cache_dir", "programs"]
