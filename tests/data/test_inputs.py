"""Sources by name, and scenes besides those that a config names."""

import itertools
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


@pytest.fixture
def mixed(tmp_path, make_video):
    """Scenes and two folders of clips, one with captions of its own, and mixtures of them."""
    for name in ("mine/a", "mine/b", "theirs/c"):
        make_video(tmp_path / name, num_frames=5, size_hw=(16, 16))
    (tmp_path / "words.csv").write_text("videoid,text\na,to the left\nb,to the left\n")
    wanted = config(tmp_path)
    clips = dict(fps=0.0, hop=0, train_hop=0, holdout=0.0, captions="", tracks="")
    wanted.data.update(
        threads=0,
        workers=0,
        clips=clips,
        augment=dict(flip=1.0, reverse=0.0, crop=0.0),
        folders=dict(
            mine=dict(paths=str(tmp_path / "mine"), captions=str(tmp_path / "words.csv")),
            theirs=dict(paths=(str(tmp_path / "theirs"),)),
        ),
        mixtures=dict(most=dict(train=3, mine=1), odd=dict(train=1, nothing=1), bad=dict(mine=0)),
    )
    return wanted


def test_folders_are_sets_of_their_own(tmp_path, mixed):
    inputs = ConfiguredInputs(mixed, tmp_path / "run")
    mine, theirs = inputs.open("mine"), inputs.open("theirs")
    assert (mine.name, len(mine), len(theirs)) == ("mine", 2, 1)
    assert [clip.caption for clip in (*mine, *theirs)] == ["to the left"] * 2 + [""]
    assert inputs.open("mine") is mine
    mixed.data.folders.theirs.text = "no such field"
    with pytest.raises(ValueError, match="data.folders.theirs has no field 'text'; its fields are"):
        ConfiguredInputs(mixed, tmp_path / "run").open("theirs")
    mixed.data.folders.train = dict(paths="x")
    with pytest.raises(ValueError, match="data.folders.train: there is another 'train'"):
        ConfiguredInputs(mixed, tmp_path / "run").open("test")


def told(clip, rng, step):
    return {"id": f"{clip.source} {clip.caption} {step}"}


def test_mixtures_augment_the_clips_of_the_user_alone(tmp_path, mixed):
    inputs = ConfiguredInputs(mixed, tmp_path / "run")
    source = inputs.open("most")
    assert source.name == "most" and len(source) == 8
    assert inputs.frames(source, 0, 32).shape == (5, 32, 32, 3)
    options = dict(batch_size=8, seed=0, scheduled=True)
    (batch,) = itertools.islice(inputs.batches(source, told, start_step=7, **options), 1)
    words = [name.split(" ", 1) for name in batch.ids]
    assert sum(origin == "synthetic" for origin, _ in words) == 6
    assert sum(text == "to the right 7" for _, text in words) == 2  # mirrored
    (batch,) = inputs.batches(source, told, shuffle=False, num_epochs=1, **options)
    assert sum("to the left" in name for name in batch.ids) == 2


@pytest.mark.parametrize(
    "name, words",
    [
        ("odd", "data.mixtures.odd: no data set 'nothing'; there are train, test"),
        ("bad", "mixture 'bad': set 'mine' has the weight 0"),
        ("none", "there are train, test, held_out, clips, mine, theirs, bad, most"),
    ],
)
def test_mixtures_that_cannot_be(tmp_path, mixed, name, words):
    with pytest.raises(ValueError, match=words):
        ConfiguredInputs(mixed, tmp_path / "run").open(name)
