"""Compiled programs shared by the tests of this folder, as in tests/engine; torch on one thread."""

import pytest

from tests.engine.conftest import cache_dir, programs

__all__ = ["cache_dir", "programs"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """For models this small, several threads only wait for each other."""
    try:
        import torch
    except ImportError:  # not all tests need it
        yield
        return
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)
