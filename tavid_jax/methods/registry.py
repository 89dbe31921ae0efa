"""The systems by name: what `config.system` may say."""

from __future__ import annotations

import importlib
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


def make_system(config: Any) -> System:
    """Build the system that a config names; only its own package is imported.

    Raises ValueError listing the systems there are.
    """
    if config.system not in SYSTEMS:
        raise ValueError(f"config.system {config.system!r} is none of {', '.join(SYSTEMS)}")
    module, name = SYSTEMS[config.system]
    return getattr(importlib.import_module(module), name)(config)
