"""A run that nothing disturbed, shared by the tests that compare with it."""

from pathlib import Path

import pytest

from tests.engine import toy


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workdir of the toy run, trained without a stop."""
    folder = tmp_path_factory.mktemp("straight")
    toy.run(folder)
    return folder


@pytest.fixture(scope="session")
def straight_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the batch size of the program in `toy`, which is stopped by signals."""
    folder = tmp_path_factory.mktemp("straight_small")
    toy.run(folder, toy.toy_config(batch_size=4))
    return folder
