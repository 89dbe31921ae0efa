"""The systems by name: what `config.system` may say.

A system of one's own needs no line here: its config says `system="module:Class"`, and the module
lies beside the config file (docs/add_a_method.md walks through one of 100 lines).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from tavid_jax.engine.method import System

SYSTEMS = {
    "finetune": ("tavid_jax.methods.finetune.system", "FinetuneSystem"),
    "flextraj": ("tavid_jax.methods.flextraj.system", "FlextrajSystem"),
    "tavid": ("tavid_jax.methods.tavid.system", "TavidSystem"),
    "tgt": ("tavid_jax.methods.tgt.system", "TgtSystem"),
    "trajloom": ("tavid_jax.methods.trajloom.system", "TrajLoom"),
    "wan_move": ("tavid_jax.methods.wan_move.system", "WanMoveSystem"),
    "whn": ("tavid_jax.methods.whn.system", "WhnSystem"),
}


def make_system(config: Any, *, own: bool = False) -> System:
    """Build the system that a config names; only its own package is imported.

    Args:
      config: its `system` is a key of SYSTEMS, or "module:Class" of the user's.
      own: whether the user's module may be imported, as for a config that they gave by a flag.
        Otherwise it has been imported already: a saved config must not choose what code runs.

    Raises:
      ValueError: no such system, module or class, or a class that is no System; says what there
        is.
    """
    if config.system in SYSTEMS:
        module, name = SYSTEMS[config.system]
        return getattr(importlib.import_module(module), name)(config)
    return _own_class(config.system, own)(config)


def short_name(system: str) -> str:
    """What runs of a system are called: its name, or that of its module."""
    return system.partition(":")[0].rpartition(".")[2]


def _own_class(system: str, own: bool) -> type[System]:
    """The class that "module:Class" names; see `make_system`."""
    place, colon, name = system.partition(":")
    if not (place and colon and name):
        raise ValueError(
            f"config.system {system!r} is none of {', '.join(SYSTEMS)}; a system of your own is "
            '"module:Class"'
        )
    module = _own_module(system, place, own)
    made = getattr(module, name, None)
    if isinstance(made, type) and issubclass(made, System):
        return made
    file = getattr(module, "__file__", place)
    if made is None:
        raise ValueError(f"config.system {system!r}: {file} has no {name!r}; {_there(module)}")
    raise ValueError(
        f"config.system {system!r}: {name} of {file} is no subclass of "
        f"tavid_jax.engine.method.System; {_there(module)}"
    )


def _own_module(system: str, place: str, own: bool) -> ModuleType:
    if place in sys.modules:
        return sys.modules[place]
    if not own:
        raise ValueError(
            f"config.system {system!r} is code of your own, which a saved run does not import: "
            f"import {place} first"
        )
    try:
        return importlib.import_module(place)
    except ImportError as error:
        raise ValueError(
            f"config.system {system!r} cannot be imported ({error}): its module lies beside the "
            "config file, or is installed"
        ) from error


def _there(module: ModuleType) -> str:
    """The systems that a module defines, in words."""
    found = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, System) and value is not System
    ]
    return f"its systems are {', '.join(found)}" if found else "it defines no system"
