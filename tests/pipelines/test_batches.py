"""Many videos: seeds, batches, orders, options of their own; and nothing compiled twice."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tavid_jax.diffusion.guidance import cfg
from tavid_jax.diffusion.schedulers.registry import make_sampler
from tavid_jax.pipelines import Job, open_pipeline
from tests.models.random_weights import relative_error
from tests.pipelines import tiny
from tests.pipelines.reference import NEGATIVE, PROMPT, features, noise_of

OPTIONS = dict(size_hw=(32, 48), frames=9, steps=3, guidance=4.0, sampler="dpm")
PROMPTS = (PROMPT, "two green squares", "")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A pipeline whose sampler draws noise in every step, and the torch models."""
    folder = tmp_path_factory.mktemp("batches") / "model"
    models = tiny.cogvideox_folder(folder, 140)
    return open_pipeline("cogvideox-5b", folder, strict=False, negative_prompt=NEGATIVE), models


@pytest.fixture(scope="module")
def pipeline(opened):
    return opened[0]


def job(number: int, **fields) -> Job:
    return Job(PROMPTS[number], seed=number, name=f"j{number}", options=OPTIONS, **fields)


@pytest.fixture(scope="module")
def alone(pipeline):
    return [next(pipeline.run([job(number)])) for number in range(3)]


@pytest.fixture
def lowered():
    """What is noted whenever a program is made, whether or not it is found on disk then."""
    names = []

    def note(event: str, _: float, **__) -> None:
        if event.endswith("jaxpr_to_mlir_module_duration"):
            names.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield names
    jax.monitoring.unregister_event_duration_listener(note)


def test_equal_seeds_give_equal_bits_and_nothing_is_compiled_again(pipeline, alone, lowered):
    again = next(pipeline.run([job(0)]))
    np.testing.assert_array_equal(again.frames, alone[0].frames)
    np.testing.assert_array_equal(again.latents, alone[0].latents)
    options = OPTIONS | {"fps": 5}
    other = pipeline.sample("another prompt", seed=9, negative_prompt="x", **options)
    assert not lowered
    assert relative_error(other.latents, alone[0].latents) > 0.1
    pipeline.sample(PROMPT, **OPTIONS | {"steps": 2})
    assert lowered  # so that this test can fail


def test_seeds_differ(pipeline, alone):
    other = pipeline.sample(PROMPT, seed=5, **OPTIONS)
    assert relative_error(other.latents, alone[0].latents) > 0.1
    assert other.provenance["seed"] == 5
    assert other.provenance["config"] == alone[0].provenance["config"]


def test_a_video_is_the_same_alone_and_in_a_batch_of_any_order(pipeline, alone):
    for order in ((0, 1, 2), (2, 0, 1)):
        videos = list(pipeline.run([job(number) for number in order], batch_size=3))
        assert [video.name for video in videos] == [f"j{number}" for number in order]
        for video, number in zip(videos, order, strict=True):
            assert relative_error(video.latents, alone[number].latents) < 1e-5
            assert np.abs(video.frames.astype(int) - alone[number].frames).max() <= 1


def test_jobs_of_different_options_keep_their_order(pipeline, alone):
    """One batch cannot hold both kinds; what comes out is in the order of the jobs."""
    wide = OPTIONS | {"size_hw": (32, 64), "steps": 1, "guidance": 1.0, "fps": 24}
    jobs = [job(0), Job(PROMPT, seed=3, options=wide), job(1)]
    first, second, third = pipeline.run(jobs)
    assert second.frames.shape == (9, 32, 64, 3) and (second.fps, second.name) == (24, "0001")
    np.testing.assert_array_equal(first.latents, alone[0].latents)
    np.testing.assert_array_equal(third.latents, alone[1].latents)
    assert first.fps == 8


def test_an_own_negative_prompt_counts_and_an_empty_one_is_empty(pipeline, alone):
    own, empty = (
        next(pipeline.run([job(0, negative_prompt=text)])) for text in ("two green squares", "")
    )
    named = next(pipeline.run([job(0, negative_prompt=NEGATIVE)]))
    np.testing.assert_array_equal(named.latents, alone[0].latents)
    assert relative_error(own.latents, alone[0].latents) > 1e-3
    assert relative_error(empty.latents, alone[0].latents) > 1e-3
    assert (empty.provenance["negative_prompt"], alone[0].provenance["negative_prompt"]) == (
        "",
        NEGATIVE,
    )


def test_what_is_cut_off_a_long_prompt_is_told(pipeline, alone, caplog):
    long = "a red ball rolls to the left " * 3 + "and then it stops"
    with caplog.at_level(logging.WARNING, logger="absl"):
        video = pipeline.sample(long, seed=0, **OPTIONS)
    assert "the model reads 12; this was cut off:" in caplog.text
    assert caplog.text.rstrip().endswith("and then it stops")
    assert video.provenance["prompt"] == long


def test_guidance_in_an_interval_of_noise_levels_is_that_of_a_loop_by_hand(opened):
    pipeline, models = opened
    options = OPTIONS | dict(steps=5, guided=(0.3, 0.9), sampler="ddim")
    noise = noise_of((3, 4, 6, 4), 4)
    got = pipeline.sample(PROMPT, noise=noise, **options)
    text, negative = (
        jnp.asarray(features(pipeline, models, prompt)) for prompt in (PROMPT, NEGATIVE)
    )
    part, sampler = pipeline.parts["transformer"], make_sampler("ddim", 5, family="cogvideox")
    state, guided = sampler.init(jnp.asarray(noise[None])), []
    with part.hold() as params:
        for index, timestep in enumerate(sampler.timesteps):
            t = jnp.full(1, timestep, jnp.float32)
            out = part.apply(params, state.x, t, text)
            guided.append(0.3 <= timestep / 1000 <= 0.9)
            if guided[-1]:
                out = cfg(part.apply(params, state.x, t, negative), out, OPTIONS["guidance"])
            state = sampler.step(state, sampler.row(index), out)
    assert guided == [False, True, True, True, False]
    assert relative_error(got.latents, state.x[0]) < 1e-4
