"""Sources by name, and scenes besides those that a config names."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tavid_jax.data.inputs import ConfiguredInputs


def config(folder: Path) -> ConfigDict:
    scene = dict(max_objects=1, textures=("flat",), backgrounds=("grey",), camera=0.0)
    return ConfigDict(
        dict(
            stages={},
            clips="",
            train_clips="",
            data_dir=str(folder),
            data=dict(
                size_hw=(16, 16),
                frames=5,
                windows=1,
                scene=scene,
                splits=dict(train={}, test=dict(colours=("red",))),
                scenes=dict(train=2, test=3),
            ),
        )
    )


def test_other_scenes_are_drawn_from_the_test_seeds(tmp_path):
    inputs = ConfiguredInputs(config(tmp_path), tmp_path / "run")
    test, other = inputs.open("test"), inputs.open_scenes(dict(colours=("green",)), 2)
    assert (len(test), len(other)) == (3, 2)
    assert test.config.colours == ("red",) and other.config.colours == ("green",)
    assert other.split == "test" and other[0].size_hw == (16, 16) and other[0].num_frames == 5
    assert other.config.max_objects == 1  # of config.data.scene
    with pytest.raises(ValueError, match="SceneConfig has no field"):
        inputs.open_scenes(dict(colors=("green",)), 2)


def test_an_unknown_name_lists_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="no data set 'tests'; there are train, test, held_out"):
        ConfiguredInputs(config(tmp_path), tmp_path / "run").open("tests")
