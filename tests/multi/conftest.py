"""Eight CPU devices: this folder runs as a pytest process of its own (`pytest tests/multi`)."""

import pathlib

import jax
import pytest

# Before anything asks for a device; jax forbids a later change.
jax.config.update("jax_num_cpu_devices", 8)


def pytest_collection_modifyitems(items):
    here = pathlib.Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.multi)


@pytest.fixture(scope="session", autouse=True)
def eight_devices():
    devices = jax.devices("cpu")
    assert len(devices) == 8, "run `pytest tests/multi` as a process of its own"
    return devices
