"""Systems by name: the library's, and those that a config brings along."""

import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tavid_jax.engine.method import System
from tavid_jax.methods.registry import make_system, short_name

MODULE = """
from tavid_jax.engine.method import System

class Mine(System):
    def __init__(self, config):
        self.seed = config.seed

class Other:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that can be imported, until the test is over."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "a_module_of_mine.py").write_text(MODULE)
    return tmp_path / "a_module_of_mine.py"


def config(system: str) -> ConfigDict:
    return ConfigDict(dict(system=system, seed=3))


def test_a_system_of_ones_own(own):
    made = make_system(config("a_module_of_mine:Mine"), own=True)
    assert isinstance(made, System) and made.seed == 3
    assert type(make_system(config("a_module_of_mine:Mine"))) is type(made)  # imported by now


def test_a_saved_config_does_not_choose_what_is_imported(own):
    with pytest.raises(ValueError, match="import a_module_of_mine first"):
        make_system(config("a_module_of_mine:Mine"))
    assert "a_module_of_mine" not in sys.modules


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("tragloom", 'is none of finetune, .*, whn; a system of your own is "module:Class"'),
        ("a_module_of_mine:", "is none of finetune"),
        ("a_module_of_mine:Mnie", r"a_module_of_mine\.py has no 'Mnie'; its systems are Mine"),
        ("a_module_of_mine:Other", "Other of .* is no subclass of .*System; its systems are Mine"),
        ("json:loads", "loads of .* is no subclass of .*System; it defines no system"),
        ("no_such_module:Mine", r"\(No module named 'no_such_module'\): its module lies beside"),
    ],
)
def test_names_that_lead_nowhere(own, system, words):
    with pytest.raises(ValueError, match=words):
        make_system(config(system), own=True)


def test_names_of_runs():
    names = ("trajloom", "my_method:NewtonFlow", "lab.flows.newton:NewtonFlow")
    assert [short_name(name) for name in names] == ["trajloom", "my_method", "newton"]
