"""The models that come with the package: whole, small, and trained by the command they name."""

import numpy as np
import pytest

from tavid_jax.pipelines.bases import BASES, FOLDER
from tavid_jax.pipelines.card import CARD, has_card, read_card, told_steps
from tavid_jax.pipelines.opening import open_pipeline
from tavid_jax.reproduce import config_of, first_losses

# Bytes of all three of them.
LIMIT = 11_000_000
PACKAGED = [name for name in BASES if has_card(FOLDER / BASES[name])]
ORIGIN = ("config", "seed", "command", "steps", "seconds", "devices", "version", "weights/finetune")


def card_of(name):
    return read_card(FOLDER / BASES[name])


def test_they_are_small():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LIMIT


def test_nothing_else_lies_beside_them():
    folders = {path.name for path in FOLDER.iterdir()} if FOLDER.is_dir() else set()
    # Beside the models, the statistics of TrajLoom's latents.
    assert folders == {"trajloom", *(BASES[name] for name in PACKAGED)}


@pytest.mark.parametrize("name", PACKAGED)
def test_the_files_are_those_of_the_card(name):
    folder = FOLDER / BASES[name]
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(card_of(name).files) == found - {CARD}


@pytest.mark.parametrize("name", PACKAGED)
def test_the_card_says_everything(name):
    card = card_of(name)
    assert card.name == name and card.checkpoint == ""
    assert set(ORIGIN) <= set(card.trained)
    assert card.quality["test"]["scenes"] >= 200
    assert all(goal["reached"] for goal in card.quality["goals"])
    steps = [step for step, _ in card.loss_curve]
    assert steps == list(range(1, told_steps(card.trained["steps"]) + 1))
    assert all(np.isfinite(loss) for _, loss in card.loss_curve)


@pytest.mark.parametrize("name", PACKAGED)
def test_videos_come_out(name):
    pipeline = open_pipeline(name)
    size = pipeline.published.sampling.size_hw
    image = np.full((*size, 3), 128, np.uint8) if pipeline.published.needs_image else None
    video = pipeline.sample("a red disc moves left", image=image, steps=2)
    assert video.frames.shape == (9, *size, 3) and video.provenance["model"] == name


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGED)
def test_the_command_begins_as_the_card_says(name, tmp_path):
    """The same data, initialisation and steps; other processors round differently."""
    card = card_of(name)
    config = config_of(card.trained["command"])
    assert config.seed == card.trained["seed"]
    config.data_dir = str(tmp_path / "data")
    found = first_losses(config, len(card.loss_curve), tmp_path / "run")
    losses, told = (np.array([loss for _, loss in one]) for one in (found, card.loss_curve))
    np.testing.assert_allclose(losses[:5], told[:5], rtol=1e-3)
    np.testing.assert_allclose(losses, told, rtol=0.05)
    if not any(name.startswith("pretrained/") for name in card.trained):
        assert told[-1] < 0.7 * told[0]
