"""A run again: the command that trains what a config trained, and how its losses begin."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import shlex
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.preemption import Preemption
from tavid_jax.engine.telemetry import read_json_lines
from tavid_jax.engine.train import Training
from tavid_jax.engine.workdir import strip, to_plain
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.mesh import make_mesh

# (step, loss), step by step.
Curve = tuple[tuple[int, float], ...]
_COMMAND = "python -m tavid_jax.main"


def command_of(config: Any) -> str:
    """The command that begins a run of this config, by its preset and what differs from it.

    Raises:
      ValueError: outside of the repository, which holds the presets; keys that the preset lacks.
    """
    preset = strip(to_plain(_preset(config.system, config.preset)), config.volatile)
    own = strip(to_plain(config), config.volatile)
    unknown = sorted(own.keys() - preset.keys())
    if unknown:
        raise ValueError(f"{config.system}:{config.preset} has no key {unknown[0]}")
    new = sorted(preset.keys() - own.keys())
    if new:
        logging.warning("keys that came after this run, with their defaults: %s", ", ".join(new))
    changed = [key for key in sorted(own) if own[key] != preset[key]]
    flags = [shlex.quote(f"--config.{key}={own[key]}") for key in changed]
    return " ".join([_COMMAND, f"--config=configs/{config.system}.py:{config.preset}", *flags])


def config_of(command: str) -> ConfigDict:
    """The config that a command of `command_of` trains.

    Raises:
      ValueError: another command.
    """
    words = shlex.split(command)
    given = dict(word.removeprefix("--").partition("=")[::2] for word in words[3:])
    if shlex.join(words[:3]) != _COMMAND or "config" not in given:
        raise ValueError(f"{command!r} does not begin a training")
    file, _, preset = given.pop("config").partition(":")
    config = _preset(Path(file).stem, preset)
    values = {key.removeprefix("config."): _value(text) for key, text in given.items()}
    config.update_from_flattened_dict(values)
    return config


def _preset(system: str, name: str) -> ConfigDict:
    try:
        module = importlib.import_module(f"configs.{system}")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"configs/{system}.py is not here: run this in the folder of the repository"
        ) from error
    return module.get_config(name)


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return tuple(value) if isinstance(value, list) else value


# ---- the first steps ---------------------------------------------------------------------------


class _Enough(Exception):
    """The first steps are done."""


@dataclasses.dataclass
class _Beginning(Training):
    """Trains `first` steps of a stage, with the schedule of all of them, and keeps nothing."""

    first: int = 1

    def _milestones(self, done: int, state: Any, frozen: Any, monitor: Any, *rest: Any) -> None:
        del state, frozen, rest
        if done == self.first:
            monitor.flush()
            raise _Enough


def first_losses(config: Any, steps: int, workdir: Path) -> Curve:
    """(step, loss) of the first steps of a config's first stage, from 1 on.

    Args:
      config: of a run whose first stage trains.
      steps: at most those of the stage.
      workdir: for what a stage writes; nothing of it is needed afterwards.

    Raises:
      ValueError: a first stage that does not train, or has fewer steps.
    """
    name = config.order[0]
    stage = ConfigDict(config.stages[name].to_dict())
    if stage.kind != "train":
        raise ValueError(f"stage {name!r} comes first and does not train")
    if not 1 <= steps <= stage.steps:
        raise ValueError(f"stage {name!r} has {stage.steps} steps, not {steps}")
    stage.log_every = 1
    folder = StageFolder(workdir / name)
    folder.path.mkdir(parents=True)
    training = _Beginning(
        name=name,
        stage=stage,
        method=make_system(config).method(name),
        inputs=ConfiguredInputs(config, workdir),
        folder=folder,
        mesh=make_mesh(config.mesh.to_dict()),
        seed=config.seed + stage.seed,
        earlier={},
        provenance={},
        config={},
        preemption=Preemption(),
        first=steps,
    )
    try:
        training.run()
    except _Enough:
        pass
    return tuple((int(r["step"]), r["loss"]) for r in read_json_lines(folder.metrics))
