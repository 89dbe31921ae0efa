"""Models that read condition videos: what was trained is what is opened, from either place."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.layers.lora import LoraRule, init_lora
from tavid_jax.pipelines import Adapters, Control, open_pipeline
from tavid_jax.pipelines.additions import steer
from tavid_jax.pipelines.card import CARD, STEERING
from tavid_jax.pipelines.part import Part
from tavid_jax.weights import WeightsError
from tavid_jax.weights.table import walk
from tests.pipelines import trained

FAMILIES = ("wan", "cogvideox")
STEER = (LoraRule("blocks/attn/(q|k|v|o)", rank=2, stream="condition"),)
EVERYONE = (LoraRule("blocks/attn/q", rank=3),)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    for family in FAMILIES:
        trained.save(family, root / family)
    return {family: root / family for family in FAMILIES}


def adapters_of(family, rules, seed=5):
    base = trained.parts_of(family)["transformer"].params
    shapes = jax.eval_shape(lambda: init_lora(jax.random.key(0), base, rules))
    return trained.random_params(shapes, seed)


def control_of(family, videos=2):
    config = dataclasses.replace(trained.CONFIGS[family], condition_videos=videos)
    rng = np.random.default_rng(3)
    shapes = {"kernel": (config.dim, config.dim), "bias": (config.dim,)}
    fuse = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    params = {"lora": adapters_of(family, STEER)} | ({"fuse": fuse} if videos == 2 else {})
    return Control(config, params, STEER)


def saved(family, base, folder, **additions):
    card = dataclasses.replace(trained.CARDS[family], checkpoint=str(base))
    trained.save(family, folder, card=card, parts={}, tokenizer=None, **additions)
    return folder


def transformer(*where, **options) -> Part:
    return open_pipeline(*where, **options).parts["transformer"]


def assert_holds(part, family, *trees):
    """The base, and what is plugged into it."""
    want = dict(walk(trained.parts_of(family)["transformer"].params))
    for tree in trees:
        want |= dict(walk(tree))
    with part.hold() as params:
        have = dict(walk(params))
    assert have.keys() == want.keys()
    for path, leaf in want.items():
        np.testing.assert_allclose(have[path], leaf, rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_model_and_its_file_upon_the_base(folders, tmp_path, family):
    control, name = control_of(family), f"smallest-{family}"
    folder = saved(family, folders[family], tmp_path / "model", control=control)
    assert {p.name for p in folder.iterdir()} == {CARD, STEERING}
    upon = transformer(name, folders[family], control=folder / STEERING)
    for part in (transformer(folder), upon):
        assert part.config == control.config and part.module.lora == STEER
        assert_holds(part, family, control.params)
        assert part.marks == upon.marks and part.marks.keys() == {"control"}
    with part.hold() as params:
        videos = jnp.ones((1, 2, 3, 8, 8, part.config.in_channels))
        tokens = part.module.apply({"params": params}, videos, method="embed_condition")
    assert tokens.shape == (1, 48, part.config.dim)
    with pytest.raises(ValueError, match="control x: .* has its own, .*control.safetensors"):
        open_pipeline(folder, control="x")
    with pytest.raises(WeightsError, match="steers by condition videos: give it as control"):
        open_pipeline(name, folders[family], lora=folder / STEERING)


def test_beside_other_adapters(folders, tmp_path):
    """Whose rule has the same name."""
    control, config = control_of("wan"), trained.CONFIGS["wan"]
    adapters = Adapters(config, adapters_of("wan", EVERYONE, seed=8), EVERYONE)
    both = saved("wan", folders["wan"], tmp_path / "m", control=control, adapters=adapters)
    part = transformer(both)
    names = [(rule.name, rule.stream) for rule in part.module.lora]
    assert names == [("default", "all"), ("control_default", "condition")]
    lora = adapters.params | {"control_default": control.params["lora"]["default"]}
    assert_holds(part, "wan", {"lora": lora, "fuse": control.params["fuse"]})
    assert part.marks.keys() == {"lora", "control"}


@pytest.mark.parametrize("videos", [1, 2])
def test_of_a_transformer_that_was_trained_itself(tmp_path, videos):
    """One condition video has no fusion, and here there are no adapters either."""
    control = control_of("wan", videos)
    params = {name: node for name, node in control.params.items() if name == "fuse"}
    trained.save("wan", tmp_path / "model", control=control._replace(params=params, rules=()))
    part = transformer(tmp_path / "model")
    assert part.config.condition_videos == videos and part.module.lora == ()
    assert_holds(part, "wan", params)


def test_what_is_refused(folders, tmp_path):
    part = transformer(folders["wan"])
    part.opened = dataclasses.replace(part.opened, name="wan_experts_diffusers")
    with pytest.raises(WeightsError, match="two experts read no condition videos"):
        steer(part, "x")
    control = control_of("wan")
    control.params["fuse"]["bias"][0] = np.nan
    with pytest.raises(WeightsError, match="control: fuse/bias holds values that are not finite"):
        saved("wan", folders["wan"], tmp_path / "model", control=control)
    assert not (tmp_path / "model").exists()
    with pytest.raises(WeightsError, match="of another model than"):
        trained_file = saved("cogvideox", folders["cogvideox"], tmp_path / "c",
                             control=control_of("cogvideox")) / STEERING  # fmt: skip
        open_pipeline("smallest-wan", folders["wan"], control=trained_file)
