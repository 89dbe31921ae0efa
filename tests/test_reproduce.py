"""A run again: its command, and the beginning of its losses."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.finetune import get_config
from tavid_jax import reproduce
from tavid_jax.engine.workdir import config_hash, to_plain
from tests.engine import toy


class AllOfIt(toy.Fit):
    """Needs no earlier stage."""

    trainable_paths = (".*",)


@pytest.fixture
def toys(monkeypatch):
    """The config of a toy run of one stage, which the names of systems and data lead to."""
    config = toy.toy_config(init_from=(), log_every=2)
    config.order, config.mesh = ("fit",), ConfigDict()
    monkeypatch.setattr(reproduce, "make_system", lambda config: toy.ToySystem(fit=AllOfIt()))
    monkeypatch.setattr(reproduce, "ConfiguredInputs", lambda config, workdir: toy.ToyInputs())
    return config


def test_the_first_losses_are_those_of_the_whole_run(toys, tmp_path):
    toy.run(tmp_path / "run", toys, system=toy.ToySystem(fit=AllOfIt()))
    logged = toy.records(tmp_path / "run")
    found = reproduce.first_losses(toys, 3, tmp_path / "again")
    assert [step for step, _ in found] == [1, 2, 3]
    losses = [loss for _, loss in found]
    assert len(set(losses)) == 3
    # The run tells the mean of two steps.
    assert [record["step"] for record in logged] == [2, 4]
    np.testing.assert_allclose(np.mean(losses[:2]), logged[0]["loss"], rtol=1e-6)
    assert toys.stages.fit.log_every == 2


def test_more_steps_than_there_are(toys, tmp_path):
    with pytest.raises(ValueError, match="stage 'fit' has 4 steps, not 5"):
        reproduce.first_losses(toys, 5, tmp_path)
    toys.order = ("stats", "fit")
    with pytest.raises(ValueError, match="stage 'stats' comes first and does not train"):
        reproduce.first_losses(toys, 1, tmp_path)


def test_a_preset_is_its_command():
    command = reproduce.command_of(get_config("tiny_wan"))
    assert command == "python -m tavid_jax.main --config=configs/finetune.py:tiny_wan"
    assert to_plain(reproduce.config_of(command)) == to_plain(get_config("tiny_wan"))


def test_what_differs_stands_in_the_command():
    config = get_config("tiny_wan")
    config.stages.finetune.steps = 500
    config.stages.finetune.optimizer.name = "adamw"
    config.model.levels = (0.25, 0.75)
    config.text.train = False
    config.title, config.stages.finetune.log_every = "Another", 7  # which change no weights
    command = reproduce.command_of(config)
    assert command.split("tiny_wan ")[1] == (
        "'--config.model.levels=[0.25, 0.75]' --config.stages.finetune.optimizer.name=adamw "
        "--config.stages.finetune.steps=500 --config.text.train=False"
    )
    again = reproduce.config_of(command)
    assert config_hash(again, again.volatile) == config_hash(config, config.volatile)
    assert again.model.levels == (0.25, 0.75)


def test_older_runs_lack_keys(caplog):
    config = get_config("tiny_wan")
    with config.unlocked():
        del config.model["shift"]
    command = reproduce.command_of(config)
    assert command == reproduce.command_of(get_config("tiny_wan"))


def test_what_is_no_command_of_a_run():
    config = get_config("tiny_wan")
    with config.unlocked():
        config.colour = "red"
    with pytest.raises(ValueError, match="finetune:tiny_wan has no key colour"):
        reproduce.command_of(config)
    for command in ("python train.py", "python -m tavid_jax.main --workdir=x"):
        with pytest.raises(ValueError, match="does not begin a training"):
            reproduce.config_of(command)
    config = get_config("tiny_wan")
    config.system = "nowhere"
    with pytest.raises(ValueError, match="configs/nowhere.py is not here: run this in the folder"):
        reproduce.command_of(config)
