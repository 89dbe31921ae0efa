"""Adapters of diffusers and PEFT run here, ours there, and equal ones come back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tavid_jax import weights
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.weights.peft_keys import known_projections
from tavid_jax.weights.safetensors import read_metadata
from tavid_jax.weights.table import walk

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("diffusers")

from tests.models import random_weights  # noqa: E402
from tests.weights.adapters import (  # noqa: E402
    ATTENTION,
    FILE,
    MIXED,
    adapted,
    assert_fused,
    assert_same,
    base_arrays,
    drawn,
    kind_of,
    merged,
    noisy,
    our_output,
    our_params,
    their_output,
)

# A projection of every kind: in blocks and outside, convolutions, reordered outputs.
COGVIDEOX_TARGETS = [
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "norm1.linear"),
    *("norm2.linear", "norm_out.linear", "proj_out", "text_proj", "patch_embed.proj"),
    *("time_embedding.linear_1", "time_embedding.linear_2"),
]
WAN_TARGETS = [
    *("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2", "proj_out", "time_proj"),
    *("patch_embedding", "text_embedder.linear_1", "time_embedder.linear_2"),
]


# --- theirs, here


@pytest.mark.parity
@pytest.mark.parametrize("name, targets", [("2b", COGVIDEOX_TARGETS), ("t2v", WAN_TARGETS)])
def test_an_adapter_of_diffusers_computes_the_same_here(base, config_of, tmp_path, name, targets):
    config, model = config_of(name), adapted(base(name), targets)
    model.save_lora_adapter(tmp_path)
    adapters, rules = weights.load_lora(tmp_path, kind_of(config), config)
    (rule,) = rules
    assert (rule.rank, rule.alpha, rule.layers, rule.stream) == (3, 6, None, "all")
    want, got = their_output(model, config), our_output(model, config, adapters, rules)
    assert random_weights.relative_error(got, want) < 1e-5
    model.disable_adapters()
    assert random_weights.relative_error(their_output(model, config), want) > 0.1


@pytest.mark.parity
@pytest.mark.parametrize("name", ["1.5-i2v", "5b-i2v", "flf2v"])
def test_every_linear_layer_of_the_table_can_be_adapted(base, config_of, tmp_path, name):
    """Layouts too: what is merged here is what diffusers fuses."""
    config = config_of(name)
    known = known_projections(kind_of(config), config)
    model = adapted(base(name), known)
    model.save_lora_adapter(tmp_path)
    adapters, rules = weights.load_lora(tmp_path, kind_of(config), config)
    assert assert_fused(model, config, adapters, rules) == set(known)


@pytest.mark.parity
def test_ranks_alphas_and_layers_become_rules(base, config_of, tmp_path):
    config = dataclasses.replace(config_of("t2v"), num_layers=2)
    model = adapted(
        base("t2v"),
        ["blocks.1.attn1.to_q", "attn2.to_k", "attn2.to_v", "text_embedder.linear_1"],
        rank_pattern={"attn2.to_v": 2, "text_embedder.linear_1": 2},
        alpha_pattern={"attn2.to_k": 1.5, "^blocks.0.attn2.to_v": 5},
    )
    model.save_lora_adapter(tmp_path)
    adapters, rules = weights.load_lora(tmp_path, "wan", config)
    found = {(r.path, r.rank, r.scale, r.layers) for r in rules}
    assert found == {
        ("blocks/attn/q", 3, 2.0, (1,)),
        ("blocks/cross/k", 3, 0.5, None),
        ("blocks/cross/v", 2, 2.5, (0,)),
        ("blocks/cross/v", 2, 3.0, (1,)),
        ("text_embed/fc1", 2, 3.0, None),
    }
    assert [r.name for r in rules] == ["default", *(f"default_{i}" for i in range(1, 5))]
    assert_fused(model, config, adapters, rules)


def test_a_folder_of_peft(base, config_of, tmp_path):
    config = config_of("2b")
    settings = peft.LoraConfig(r=4, lora_alpha=3, target_modules=["to_q"], use_rslora=True)
    model = peft.get_peft_model(base("2b"), settings)
    noisy(model).save_pretrained(tmp_path)
    (tmp_path / "training_state.pt").touch()
    adapters, rules = weights.load_lora(tmp_path, "cogvideox", config)
    assert rules[0].scale == 3 / 2  # over the root of the rank
    want = model.base_model.model.transformer_blocks[1].attn1.to_q.get_delta_weight("default")
    term = adapters["default"]["blocks"]["attn"]["q"]
    got = (1.5 * term["a"][1] @ term["b"][1]).T
    assert random_weights.relative_error(got, want.detach().numpy()) < 1e-5


def test_a_file_without_settings_has_scale_one(base, config_of, tmp_path):
    """As diffusers loads it, whatever it was trained with."""
    config = config_of("2b")
    adapted(base("2b"), ["to_q", "to_v"]).save_lora_adapter(tmp_path)
    bare = {f"transformer.{k}": v for k, v in load_file(tmp_path / FILE).items()}
    save_file(bare, tmp_path / "bare.safetensors")
    adapters, (rule,) = weights.load_lora(tmp_path / "bare.safetensors", "cogvideox", config)
    assert (rule.path, rule.alpha, rule.scale) == ("blocks/attn/(q|v)", None, 1.0)
    model = base("2b")
    model.load_lora_adapter(str(tmp_path / "bare.safetensors"), prefix="transformer")
    assert_fused(model, config, adapters, (rule,))


@pytest.mark.parametrize("said", ["metadata", "nothing"])
def test_an_explicit_scale_counts(base, config_of, tmp_path, said):
    adapted(base("2b"), ["to_q"]).save_lora_adapter(tmp_path)
    path = tmp_path / FILE
    if said == "nothing":
        save_file(load_file(path), path)
    config = config_of("2b")
    adapters, (rule,) = weights.load_lora(path, "cogvideox", config, scale=0.5)
    assert rule.scale == 0.5
    assert_same(adapters, weights.load_lora(path, "cogvideox", config)[0])


# --- ours, there


@pytest.mark.parity
@pytest.mark.parametrize("bake", [True, False])
@pytest.mark.parametrize("name", ["2b", "t2v"])
def test_an_adapter_of_ours_computes_the_same_in_diffusers(base, config_of, tmp_path, name, bake):
    config, model = config_of(name), base(name)
    rules = (LoraRule(".*", rank=3, alpha=6),)
    adapters = drawn(config, rules)
    weights.save_lora(adapters, rules, tmp_path, kind_of(config), config, bake_scale=bake)
    model.load_lora_adapter(str(tmp_path), weight_name=FILE, prefix="transformer")
    if bake:  # what is the same for all models is compiled once
        want, got = their_output(model, config), our_output(model, config, adapters, rules)
        assert random_weights.relative_error(got, want) < 1e-5
    assert_fused(model, config, adapters, rules)
    layer = model.proj_out
    assert layer.scaling == ({"default_0": 1.0} if bake else {"default_0": 2.0})


@pytest.mark.parity
@pytest.mark.parametrize(
    "name, format, bake",
    [
        ("1.5", "diffusers", True),
        ("t2v", "diffusers", False),
        ("1.5", "peft", False),
        ("t2v", "peft", True),
    ],
)
def test_mixed_rules_in_other_tools(base, config_of, tmp_path, name, format, bake):
    """Ranks, alphas and layers differ from rule to rule."""
    config, model = config_of(name), base(name)
    adapters = drawn(config, MIXED)
    ours = merged(our_params(model, config), config, adapters, MIXED)
    kind = kind_of(config)
    files = weights.save_lora(adapters, MIXED, tmp_path, kind, config, format, bake_scale=bake)
    if format == "diffusers":
        model.load_lora_adapter(str(tmp_path), weight_name=files[0].name, prefix="transformer")
        model.fuse_lora()
    else:
        loaded = peft.PeftModel.from_pretrained(model, tmp_path)
        loaded.merge_adapter()
        model = loaded.base_model.model
    for key, value in base_arrays(model).items():
        assert random_weights.relative_error(ours[key], value) < 1e-5, key


@pytest.mark.parity
def test_a_baked_file_is_right_where_no_alpha_is_read(base, config_of, tmp_path):
    """Without the metadata, as older versions of diffusers see it."""
    config, model = config_of("2b"), base("2b")
    adapters = drawn(config, (ATTENTION,))
    weights.save_lora(adapters, (ATTENTION,), tmp_path, "cogvideox", config)
    save_file(load_file(tmp_path / FILE), tmp_path / FILE)
    model.load_lora_adapter(str(tmp_path), weight_name=FILE, prefix="transformer")
    assert_fused(model, config, adapters, (ATTENTION,))


@pytest.mark.parity
@pytest.mark.parametrize("bake", [True, False])
def test_original_names_are_converted_by_diffusers(base, config_of, tmp_path, bake):
    """Its pipeline renames keys as other tools write them; alpha is a key there."""
    from diffusers import WanPipeline

    config, model = config_of("t2v"), base("t2v")
    rules = (LoraRule("blocks/(attn|cross)/.|blocks/mlp/fc1", rank=3, alpha=6),)
    adapters = drawn(config, rules)
    (path,) = weights.save_lora(
        adapters, rules, tmp_path, "wan_diffusers", config, "original", bake_scale=bake
    )
    assert ("diffusion_model.blocks.1.ffn.0.alpha" in load_file(path)) is not bake
    state = WanPipeline.lora_state_dict(tmp_path, weight_name=FILE)
    WanPipeline.load_lora_into_transformer(state, model)
    assert_fused(model, config, adapters, rules)


@pytest.mark.parametrize(
    "name, format, bake",
    [
        ("2b", "diffusers", True),
        ("2b", "diffusers", False),
        ("1.5", "peft", False),
        ("t2v", "diffusers", False),
        ("t2v", "peft", True),
        ("t2v", "original", True),
        ("t2v", "original", False),
    ],
)
def test_round_trip(config_of, tmp_path, name, format, bake):
    """Rules come back as they were; adapters too, exactly where no rounding is in between."""
    config = config_of(name)
    adapters = drawn(config, MIXED)
    kind = "wan" if name == "t2v" else "cogvideox"
    weights.save_lora(adapters, MIXED, tmp_path, kind, config, format, bake_scale=bake)
    again, rules = weights.load_lora(tmp_path, kind, config)
    assert_same(adapters, again, tolerance=2e-7 if bake else 0)
    early = dataclasses.replace(MIXED[1], layers=(0,))
    assert rules == (dataclasses.replace(MIXED[0], layers=(1,)), early, MIXED[2])
    assert weights.load_lora(tmp_path, kind, config, rules=MIXED)[1] == MIXED


def test_a_power_of_two_is_baked_exactly(config_of, tmp_path):
    config, rules = config_of("2b"), (LoraRule("blocks/.*", rank=8, alpha=4),)
    adapters = drawn(config, rules)
    weights.save_lora(adapters, rules, tmp_path, "cogvideox", config)
    again, loaded = weights.load_lora(tmp_path, "cogvideox", config)
    assert_same(adapters, again)
    assert loaded == rules
    # Taken as they are in the file, the factors have a scale of one.
    baked, (rule,) = weights.load_lora(tmp_path, "cogvideox", config, scale=1)
    assert rule.scale == 1
    for path, leaf in walk(baked):
        factor = 0.5 if path.endswith("/b") else 1
        np.testing.assert_array_equal(leaf, factor * dict(walk(adapters))[path])


def test_dtype(config_of, tmp_path):
    config = config_of("2b")
    adapters = drawn(config, (ATTENTION,))
    weights.save_lora(adapters, (ATTENTION,), tmp_path, "cogvideox", config, dtype="bf16")
    again, _ = weights.load_lora(tmp_path, "cogvideox", config)
    assert {leaf.dtype for leaf in jax.tree.leaves(again)} == {jnp.dtype("float32")}
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), adapters)
    assert_same(rounded, again)


def test_a_stream_is_named_and_warned_about(config_of, tmp_path, caplog):
    config, rules = config_of("2b"), (dataclasses.replace(ATTENTION, stream="condition"),)
    adapters = drawn(config, rules)
    (path,) = weights.save_lora(adapters, rules, tmp_path, "cogvideox", config)
    assert "acts on the stream 'condition' alone" in caplog.text
    assert '"stream": "condition"' in read_metadata(path)["tavid_jax"]
    again, loaded = weights.load_lora(path, "cogvideox", config)
    assert loaded == rules
    assert_same(adapters, again)
    with pytest.raises(weights.WeightsError, match="blocks/attn/q: condition in the file, all in"):
        weights.load_lora(path, "cogvideox", config, rules=[ATTENTION])


def test_files_of_others_take_the_stream_that_is_given(base, config_of, tmp_path):
    adapted(base("2b"), ["to_q"]).save_lora_adapter(tmp_path)
    _, (rule,) = weights.load_lora(tmp_path, "cogvideox", config_of("2b"), stream="condition")
    assert rule.stream == "condition"


def test_adapters_of_a_model_with_further_channels(config_of, tmp_path):
    config = dataclasses.replace(config_of("2b"), extra_channels=2)
    adapters = drawn(config, (ATTENTION,))
    weights.save_lora(adapters, (ATTENTION,), tmp_path, "cogvideox", config)
    assert_same(adapters, weights.load_lora(tmp_path, "cogvideox", config)[0])
