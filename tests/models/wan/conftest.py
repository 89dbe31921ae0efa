"""One random model for the tests of the ports."""

import pytest


@pytest.fixture(scope="session")
def published():
    """diffusers' model."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from wan_ports import CONFIG
    from wan_reference import torch_model

    return torch_model(CONFIG)


@pytest.fixture(scope="session")
def params(published):
    """Ours, with the same weights."""
    from wan_ports import CONFIG
    from wan_reference import ported

    return ported(published, CONFIG)


@pytest.fixture(scope="session")
def with_image():
    """(config, parameters, inputs) of a model that reads text and image."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from wan_ports import drawn
    from wan_reference import I2V, ported, torch_model

    return I2V, ported(torch_model(I2V), I2V), drawn(I2V)
