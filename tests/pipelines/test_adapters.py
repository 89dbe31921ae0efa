"""Adapters of two experts: each has its own, and one without any computes as before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.pipelines import open_pipeline
from tavid_jax.pipelines.card import ADAPTERS
from tavid_jax.pipelines.part import Part
from tavid_jax.pipelines.saving import Adapters, Model, save_pipeline
from tavid_jax.pipelines.targets import Targets
from tavid_jax.weights import WeightsError, load, open_parameters, save_lora

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tests.pipelines import tiny, trained  # noqa: E402
from tests.weights.adapters import drawn, inputs  # noqa: E402

NAME = "wan2.2-t2v-a14b"
RULES = (LoraRule("blocks/attn/(q|v)", rank=2, alpha=3),)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    tiny.wan_folder(folder, experts=True)
    return folder


def adapters_of(pair: Path, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    config = open_parameters(pair).config
    return config, drawn(config, RULES, seed)


def transformer(pair: Path, lora: Path) -> Part:
    return open_pipeline(NAME, pair, lora=lora, strict=False).parts["transformer"]


def output(module: Any, params: dict[str, Any]) -> np.ndarray:
    latents, text = map(jnp.asarray, inputs(module.config))
    apply = jax.jit(lambda p: module.apply({"params": p}, latents, jnp.array([999, 40]), text))
    return np.asarray(apply(params))


def test_a_file_of_the_second_expert(pair: Path, tmp_path: Path):
    config, adapters = adapters_of(pair)
    card = dataclasses.replace(
        trained.CARDS["wan"], backbone=NAME, autoencoder="wan2.1-vae", checkpoint=str(pair)
    )
    mine = Adapters(config, adapters, RULES, "low_noise")
    save_pipeline(tmp_path / "run", card, {}, adapters=mine)
    file = tmp_path / "run" / ADAPTERS
    assert all(key.startswith("transformer_2.") for key in load_file(file))
    part, base = transformer(pair, file), load("wan_experts_diffusers", pair)
    wanted = {
        "high_noise": output(part.module.clone(lora=()), base["high_noise"]),
        "low_noise": output(part.module.clone(lora=RULES), base["low_noise"] | {"lora": adapters}),
    }
    for expert, values in wanted.items():
        with part.hold(only=expert) as params:
            found = output(part.module, params)
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-4, err_msg=expert)


def test_a_file_of_both_experts(pair: Path, tmp_path: Path):
    tensors = {}
    for seed, component in enumerate(("transformer", "transformer_2")):
        config, adapters = adapters_of(pair, seed)
        (file,) = save_lora(
            adapters, RULES, tmp_path / component, "wan", config, component=component
        )
        tensors |= load_file(file)
    save_file(tensors, tmp_path / "both.safetensors")
    added = transformer(pair, tmp_path / "both.safetensors").added
    for seed, expert in enumerate(("high_noise", "low_noise")):
        (found,) = added[expert]["lora"].values()
        wanted = adapters_of(pair, seed)[1]["default"]["blocks"]["attn"]["q"]
        np.testing.assert_array_equal(found["blocks"]["attn"]["q"]["a"], wanted["a"])
    second = [key for key in tensors if key.startswith("transformer_2.")]
    smaller = {k: v[:1] if "lora_A" in k else v[:, :1].copy() for k, v in tensors.items()}
    smaller = tensors | {key: smaller[key] for key in second}
    save_file(smaller, tmp_path / "uneven.safetensors")
    with pytest.raises(WeightsError, match="two experts differ in ranks, scales or layers"):
        transformer(pair, tmp_path / "uneven.safetensors")


def test_masks_of_one_expert(pair: Path, tmp_path: Path):
    """The other one keeps its projection, and its channels read nothing."""
    config, adapters = adapters_of(pair)
    card = dataclasses.replace(
        trained.CARDS["wan"], backbone=NAME, autoencoder="wan2.1-vae", checkpoint=str(pair),
        targets=dataclasses.asdict(Targets(sentence="")),
    )  # fmt: skip
    wide = dataclasses.replace(config, extra_channels=1)
    rng = np.random.default_rng(4)
    shapes = {"kernel": (config.patch_elements * config.in_channels, config.dim)}
    shapes |= {"bias": (config.dim,)}
    patch = {
        "patch_embed": {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()},
        "patch_embed_extra": {
            "kernel": rng.standard_normal((config.patch_elements, config.dim)).astype(np.float32)
        },
    }
    save_pipeline(
        tmp_path / "run", card, {}, adapters=Adapters(config, adapters, RULES, "low_noise"),
        patch=Model(wide, patch),
    )  # fmt: skip
    pipeline = open_pipeline(tmp_path / "run")
    part, base = pipeline.parts["transformer"], load("wan_experts_diffusers", pair)
    assert part.module.config.extra_channels == 1 and pipeline.targets.words == ("target",)
    with part.hold(only="low_noise") as params:
        for node, leaves in patch.items():
            for name, values in leaves.items():
                np.testing.assert_array_equal(params[node][name], values)
    with part.hold(only="high_noise") as params:
        own = base["high_noise"]["patch_embed"]["kernel"]
        np.testing.assert_array_equal(params["patch_embed"]["kernel"], own)
        assert not np.any(params["patch_embed_extra"]["kernel"])
    # Without adapters nothing tells whose it is: it is that of both.
    both = open_pipeline(NAME, pair, patch_embed=tmp_path / "run", strict=False)
    for expert in ("low_noise", "high_noise"):
        with both.parts["transformer"].hold(only=expert) as params:
            np.testing.assert_array_equal(
                params["patch_embed"]["kernel"], patch["patch_embed"]["kernel"]
            )
