"""Levers for memory: what they must not change, what they save, what they cost."""

import dataclasses
import gc

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from tavid_jax.models.layers.tiling import Tiles
from tavid_jax.pipelines import SMALLEST, Memory, open_pipeline
from tavid_jax.pipelines.part import Part
from tests.models.random_weights import relative_error
from tests.pipelines import tiny
from tests.pipelines.reference import NEGATIVE, PROMPT

OPTIONS = dict(size_hw=(32, 48), frames=5, steps=3, guidance=4.0, negative_prompt=NEGATIVE)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levers") / "model"
    return folder, tiny.wan_folder(folder, 110)


@pytest.fixture(scope="module")
def opened(written):
    """Memory -> a pipeline; one for each."""
    pipelines = {}

    def get(**levers):
        key = tuple(levers.items())
        if key not in pipelines:
            pipelines[key] = open_pipeline(
                "wan2.1-t2v-1.3b", written[0], memory=Memory(**levers), strict=False
            )
        return pipelines[key]

    return get


@pytest.fixture(scope="module")
def plain(opened):
    return opened().sample(PROMPT, seed=1, **OPTIONS)


@pytest.mark.parametrize("levers", [{"keep": "device"}, {"keep": "host"}, {"encoders_on": "cpu"}])
def test_where_weights_are_kept_changes_no_bit(opened, plain, levers):
    for _ in range(2):  # the second time from where they were kept
        video = opened(**levers).sample(PROMPT, seed=1, **OPTIONS)
        np.testing.assert_array_equal(video.frames, plain.frames)
        np.testing.assert_array_equal(video.latents, plain.latents)


@pytest.fixture(autouse=True)
def _no_garbage():
    """Memory must come back without a search for cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live_bytes() -> int:
    return sum(array.nbytes for array in jax.live_arrays())


@pytest.fixture
def read(monkeypatch):
    """Paths of the parameters that are read from files."""
    paths, former = [], Part._read

    def noted(self, path, *rest):
        paths.append(path)
        return former(self, path, *rest)

    monkeypatch.setattr(Part, "_read", noted)
    return paths


@pytest.mark.parametrize(("keep", "times"), [("none", 2), ("host", 1), ("device", 1)])
def test_weights_are_read_again_only_where_they_were_dropped(opened, read, keep, times):
    """A part alone: nothing is compiled. The device here is the host, so what it keeps counts."""
    part = dataclasses.replace(opened().parts["transformer"], keep=keep)
    before, held = live_bytes(), []
    for _ in range(2):
        with part.hold() as params:
            held.append(jax.tree.map(np.array, params))
        del params
    assert len(read) == times * len(part.opened.leaves)
    jax.tree.map(np.testing.assert_array_equal, *held)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(held[0]))
    assert live_bytes() - before == (0 if keep == "none" else size)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair") / "model"
    models = tiny.wan_folder(folder, 120, experts=True)
    pipeline = open_pipeline("wan2.2-t2v-a14b", folder, strict=False)
    return pipeline.parts["transformer"], models, pipeline


@pytest.mark.parametrize(("keep", "times"), [("none", 2), ("host", 1), ("device", 2)])
def test_one_of_two_experts_is_on_the_device_at_a_time(pair, read, keep, times):
    part, models = dataclasses.replace(pair[0], keep=keep), pair[1]
    before, theirs = live_bytes(), ("transformer", "transformer_2")
    for expert, name in zip(("high_noise", "low_noise") * 2, theirs * 2, strict=True):
        with part.hold(None, expert) as params:
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
            assert keep == "host" or live_bytes() - before <= size
            bias = models[name].patch_embedding.bias.detach().numpy()
            np.testing.assert_array_equal(params["patch_embed"]["bias"], bias)
        del params
    assert len(read) == times * len(part.opened.leaves)


def test_a_pair_samples_with_one_expert_in_memory_at_a_time(pair, monkeypatch):
    """What is alive when weights are about to be read: conditions and noise, no other weights."""
    alive, former = [], Part._load

    def noted(self, *args):
        alive.append((self.name, live_bytes()))
        return former(self, *args)

    monkeypatch.setattr(Part, "_load", noted)
    pair[2].sample(PROMPT, **OPTIONS | {"guidance": 1.0, "steps": 2, "shift": 1.0})
    names, found = zip(*alive, strict=True)
    assert names == ("text_encoder", "transformer", "transformer", "vae")
    expert = sum(leaf.nbytes for leaf in pair[0].opened.leaves.values()) / 2
    assert max(found[2:]) - found[1] < expert / 4


def test_branches_of_guidance_one_after_the_other_give_the_same(opened, plain):
    video = opened(sequential_guidance=True).sample(PROMPT, seed=1, **OPTIONS)
    assert relative_error(video.latents, plain.latents) < 1e-5


def test_eight_bits_cost_little_and_save_memory(opened, plain):
    """Measured on these random weights: the latents move by 0.5% of their size."""
    pytest.importorskip("qwix")
    pipeline = opened(int8=("transformer", "text_encoder"))
    for name in ("transformer", "text_encoder"):
        with opened().parts[name].hold() as wide, pipeline.parts[name].hold() as narrow:
            blocks = [sum(x.nbytes for x in jax.tree.leaves(p["blocks"])) for p in (wide, narrow)]
        assert blocks[1] < 0.5 * blocks[0]  # biases, norms and scales weigh here
    video = pipeline.sample(PROMPT, seed=1, **OPTIONS)
    difference = np.linalg.norm(video.latents - plain.latents) / np.linalg.norm(plain.latents)
    assert 1e-4 < difference < 0.01
    assert video.provenance["int8"] == ["transformer", "text_encoder"]
    assert video.provenance["config"] != plain.provenance["config"]


@pytest.mark.parity
def test_tiles_are_those_of_diffusers_for_wan(opened, written):
    latents = np.random.default_rng(2).standard_normal((1, 3, 7, 4)).astype(np.float32)
    got = opened(tiles=Tiles((32, 32), (24, 24))).decode(latents)
    vae = written[1]["vae"]
    config = vae.config
    mean, std = (torch.tensor(config[f"latents_{name}"]) for name in ("mean", "std"))
    x = (torch.from_numpy(latents) * std + mean).permute(3, 0, 1, 2)[None].contiguous()
    vae.enable_tiling(32, 32, 24, 24)
    try:
        with torch.no_grad():
            want = vae.decode(x).sample[0].permute(1, 2, 3, 0).numpy()
    finally:
        vae.disable_tiling()
    assert relative_error(got, want) < 1e-4
    assert relative_error(got, opened().decode(latents)) > 1e-3


@pytest.mark.parity
def test_tiles_are_those_of_diffusers_for_cogvideox(tmp_path):
    models = tiny.cogvideox_folder(tmp_path / "model", 130)
    pipeline = open_pipeline(
        "cogvideox-5b", tmp_path / "model", memory=Memory(tiles=True), strict=False
    )
    latents = np.random.default_rng(3).standard_normal((1, 5, 7, 4)).astype(np.float32)
    got = pipeline.decode(latents)
    vae = models["vae"]
    vae.enable_tiling()
    x = torch.from_numpy(latents).permute(3, 0, 1, 2)[None].contiguous()
    with torch.no_grad():
        want = vae.decode(x / vae.config.scaling_factor).sample[0].permute(1, 2, 3, 0).numpy()
    assert relative_error(got, want) < 1e-4


@pytest.mark.parametrize(
    ("levers", "message"),
    [
        ({"keep": "disk"}, r"memory\.keep 'disk': there are device, host, none"),
        ({"encoders_on": "tpu"}, r"memory\.encoders_on 'tpu': there are device, cpu"),
        ({"int8": ("vae",)}, r"memory\.int8 \['vae'\]: there are transformer, text_encoder"),
    ],
)
def test_unknown_levers_are_named(levers, message):
    with pytest.raises(ValueError, match=message):
        Memory(**levers)


def test_the_smallest_pulls_every_lever():
    assert SMALLEST.keep == "none" and SMALLEST.encoders_on == "cpu" and SMALLEST.tiles
    assert SMALLEST.sequential_guidance and set(SMALLEST.int8) == {"transformer", "text_encoder"}
