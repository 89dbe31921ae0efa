"""Files of adapters: names of every tool, layouts, all that can be wrong, the commands."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tavid_jax import weights
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.weights import PRESETS
from tavid_jax.weights.cli import main
from tavid_jax.weights.peft_keys import all_namings, known_projections

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("diffusers")

from tests.weights.adapters import (  # noqa: E402
    ATTENTION,
    FILE,
    adapted,
    assert_same,
    drawn,
    kind_of,
)

# --- other namings


def renamed(tensors, config, **change):
    """Tensors of modules in diffusers' names -> keys of another tool."""
    diffusers, original = (known_projections(n, config) for n in ("wan_diffusers", "wan"))
    names = {d: o for d, o in zip(diffusers, original, strict=True)}
    assert all(diffusers[d].path == original[o].path for d, o in names.items())
    flat = change.get("flat")
    out = {}
    for key, value in tensors.items():
        module, part, _ = key.removeprefix("transformer.").rsplit(".", 2)
        module = names[module] if change.get("original", True) else module
        module = module.replace(".", "_") if flat else module
        out[change["pattern"].format(module, change.get(part, part))] = value
    return out


NAMINGS = {
    "original": {"pattern": "{}.{}.weight"},
    "an adapter's name": {"pattern": "{}.{}.default.weight"},
    "repackaged": {"pattern": "diffusion_model.{}.{}.weight"},
    "while training": {"pattern": "pipe.dit.{}.{}.default.weight"},
    "musubi": {
        "pattern": "lora_unet_{}.{}.weight",
        "flat": True,
        "lora_A": "lora_down",
        "lora_B": "lora_up",
    },
    "peft": {"pattern": "base_model.model.{}.{}.weight", "original": False},
    "no prefix": {"pattern": "{}.{}.weight", "original": False},
    "wrapped": {"pattern": "module.base_model.model.transformer.{}.{}.weight", "original": False},
}


@pytest.fixture
def wan_file(config_of, tmp_path):
    """(config, adapters, path) of a file in diffusers' naming without any settings."""
    config = config_of("flf2v")
    rules = (LoraRule(".*", rank=2),)
    adapters = drawn(config, rules)
    (path,) = weights.save_lora(adapters, rules, tmp_path / "a.safetensors", "wan", config)
    tensors = load_file(path)
    save_file(tensors, path)
    return config, adapters, tensors, path


def test_namings(wan_file):
    """Whichever of the two namings is asked for."""
    config, adapters, tensors, path = wan_file
    for number, naming in enumerate(NAMINGS.values()):
        save_file(renamed(tensors, config, **naming), path)
        name = "wan" if number % 2 else "wan_diffusers"
        loaded, rules = weights.load_lora(path, name, config)
        assert_same(adapters, loaded)
        assert len(rules) == 1


def test_alpha_beside_each_adapter(wan_file):
    config, _, tensors, path = wan_file
    other = {k: v for k, v in renamed(tensors, config, **NAMINGS["musubi"]).items() if "attn" in k}
    for key in [k for k in other if "lora_down" in k]:
        alpha = 5.0 if "_1_self_attn_q." in key else 1.0
        other[key.replace("lora_down.weight", "alpha")] = np.array(alpha, np.float32)
    save_file(other, path)
    _, rules = weights.load_lora(path, "wan", config)
    scales = {(rule.path, rule.layers): rule.scale for rule in rules}
    assert scales.pop(("blocks/attn/q", (1,))) == 2.5
    assert set(scales.values()) == {0.5} and ("blocks/attn/q", (0,)) in scales


def test_two_experts_in_one_file(wan_file):
    config, adapters, tensors, path = wan_file
    low = {k.replace("transformer.", "transformer_2."): -v for k, v in tensors.items()}
    metadata = {"transformer.r": 2, "transformer.lora_alpha": 1}
    metadata |= {"transformer_2.r": 2, "transformer_2.lora_alpha": 6}
    text = {"lora_adapter_metadata": json.dumps(metadata)}
    save_file(tensors | low, path, metadata=text)
    high, (rule,) = weights.load_lora(path, "wan", config)
    assert_same(adapters, high)
    assert rule.scale == 0.5
    low, (rule,) = weights.load_lora(path, "wan", config, component="transformer_2")
    assert_same(jax.tree.map(jnp.negative, adapters), low)
    assert rule.scale == 3
    with pytest.raises(weights.WeightsError, match="one expert at a time, with name='wan'"):
        weights.load_lora(path, "wan_experts", config)
    with pytest.raises(weights.WeightsError, match="no component 'vae'"):
        weights.load_lora(path, "wan", config, component="vae")


# --- the map


def test_layouts_of_kernels_are_orders_of_inputs_and_outputs(config_of):
    """What `Projection` assumes of the operations in the tables."""
    for name in ("2b", "1.5", "t2v"):
        config = config_of(name)
        for p in all_namings(kind_of(config), config).values():
            size = int(np.prod(p.weight))
            weight = np.random.default_rng(0).normal(size=size).reshape(p.weight)
            flat = weight.reshape(len(weight), -1)
            left, values, right = np.linalg.svd(flat, full_matrices=False)
            rank = len(values)
            shapes = p.file_shapes(rank)
            a, b = p.from_file(
                (values[:, None] * right).reshape(shapes[0]), left.reshape(shapes[1])
            )
            np.testing.assert_allclose(a @ b, p.op.forward(weight), atol=1e-10)
            for back, shape in zip(p.to_file(a, b), shapes, strict=True):
                assert back.shape == shape


# --- bad input


@pytest.fixture
def good(config_of, tmp_path):
    """(config, tensors of an adapter, function that writes and loads others)."""
    config = config_of("2b")
    adapters = drawn(config, (ATTENTION,))
    (path,) = weights.save_lora(
        adapters, (ATTENTION,), tmp_path / "good.safetensors", "cogvideox", config
    )
    tensors = load_file(path)

    def load(tensors, metadata=None, **options):
        save_file(tensors, tmp_path / "bad.safetensors", metadata)
        return weights.load_lora(tmp_path / "bad.safetensors", "cogvideox", config, **options)

    return config, tensors, load


def raises(*lines):
    return pytest.raises(weights.WeightsError, match="(?s)" + ".*".join(lines))


AT = "transformer.transformer_blocks"


def test_everything_wrong_with_a_file_is_listed(good):
    _, tensors, load = good
    tensors[f"{AT}.0.attn1.to_x.lora_A.weight"] = np.zeros((3, 32), np.float32)
    tensors[f"{AT}.2.attn1.to_q.lora_A.weight"] = np.zeros((3, 32), np.float32)
    tensors["transformer.fuse_linear.weight"] = np.zeros(2)
    tensors[f"{AT}.0.attn1.to_q.lora_magnitude_vector"] = np.zeros(2)
    tensors[f"{AT}.0.attn1.norm_q.alpha"] = np.array(1, np.float32)
    tensors[f"{AT}.0.ff.net.2.alpha"] = np.array(1, np.float32)
    tensors[f"{AT}.0.attn1.to_v.alpha"] = np.array(np.nan, np.float32)
    del tensors[f"{AT}.0.attn1.to_k.lora_A.weight"]
    del tensors[f"{AT}.1.attn1.to_k.lora_B.weight"]
    tensors[f"{AT}.0.attn1.to_q.lora_A.weight"] = np.zeros((4, 32), np.float32)
    tensors[f"{AT}.1.attn1.to_v.lora_A.weight"] = np.zeros((3, 31), np.float32)
    tensors[f"{AT}.1.attn1.to_out.0.lora_B.weight"] = np.zeros(3, np.float32)
    with raises(
        "cannot read these adapters",
        r"keys that are no LoRA's \(2\):\n  transformer.fuse_linear.weight",
        r"lora_magnitude_vector",
        r"modules that the model does not have \(2\):",
        r"transformer_blocks.0.attn1.to_x \(nearest: transformer_blocks.*attn1.to_",
        r"layers that do not exist \(the config has 2\) \(1\):\n  transformer_blocks.2.attn1.to_q",
        r"lora_B without lora_A \(1\):\n  transformer_blocks.0.attn1.to_k\n",
        r"lora_A without lora_B \(1\):\n  transformer_blocks.1.attn1.to_k\n",
        r"alpha without adapter \(1\):\n  transformer_blocks.0.ff.net.2\n",
        r"wrong shape \(3\)",
        r"0.attn1.to_q: rank 4 of lora_A, rank 3 of lora_B",
        r"1.attn1.to_out.0: lora_A .3, 32., lora_B .3,. are no two factors",
        r"alpha that is no number \(1\):\n  transformer_blocks.0.attn1.to_v",
    ):
        load(tensors)


def test_shapes_of_another_model(good, config_of):
    config, tensors, load = good
    key = f"{AT}.1.attn1.to_v.lora_A.weight"
    with raises(r"1.attn1.to_v: lora_A \(3, 31\), expected \(3, 32\)"):
        load(tensors | {key: np.zeros((3, 31), np.float32)})


def test_adapters_of_another_model_are_one_sentence(config_of, tmp_path):
    for name, other in (("2b", "t2v"), ("t2v", "2b")):
        config, wrong = config_of(name), config_of(other)
        adapters = drawn(config, (ATTENTION,))
        path = tmp_path / f"{name}.safetensors"
        weights.save_lora(adapters, (ATTENTION,), path, kind_of(config), config)
        with raises(
            f"{name}.safetensors holds adapters of another model than this "
            rf"{type(wrong).__name__[:-6]}: theirs has a layer \S+ of \d+ inputs and \d+ outputs; "
            "open them with the model that they were made for$"
        ):
            weights.load_lora(path, kind_of(wrong), wrong)
    with raises("holds adapters of another model than wan2.1-t2v-14b: theirs has a layer"):
        weights.load_lora(path, "wan", PRESETS["wan2.1-t2v-14b"])


def test_the_published_model_of_adapters_is_named(tmp_path):
    """Two layers of the model with 14 billion parameters tell it from the small one."""
    path = tmp_path / "a.safetensors"
    tensors = {
        f"blocks.{layer}.self_attn.q.lora_{part}.weight": np.zeros(shape, np.float32)
        for layer in (0, 29)
        for part, shape in (("A", (2, 5120)), ("B", (5120, 2)))
    }
    save_file(tensors, path)
    message = "holds adapters of .*wan2.1-t2v-14b.*, not of wan2.1-t2v-1.3b: open them with the"
    with raises(message):
        weights.load_lora(path, "wan", PRESETS["wan2.1-t2v-1.3b"])


def test_other_keys_are_left_out_when_told(good):
    config, tensors, load = good
    tensors["transformer.fuse_linear.weight"] = np.zeros(2)
    _, rules = load(tensors, ignored=[r".*fuse_linear\.(weight|bias)"])
    assert rules[0].path == "blocks/attn/(k|o|q|v)"


@pytest.mark.parametrize(
    "rule, words",
    [
        (dataclasses.replace(ATTENTION, rank=4, alpha=8), "ranks .*q: 3 in the file, 4 in 'def"),
        (dataclasses.replace(ATTENTION, alpha=None), "scales .*: 2.0 in the file, 1.0 in 'def"),
        (dataclasses.replace(ATTENTION, layers=(1,)), "no rule .*blocks/attn/k of layer 0"),
        (LoraRule("blocks/.*", 3, 6), "not in the file .*blocks/mod1 of layer 0 .'default'"),
        (LoraRule("blocks/attn/x", 3, 6), "no projection matches 'blocks/attn/x'"),
        (dataclasses.replace(ATTENTION, layers=(5,)), "layer 5 of 2 does not exist"),
    ],
)
def test_rules_that_disagree_with_the_file(good, rule, words):
    _, tensors, load = good
    settings = json.dumps({"transformer.r": 3, "transformer.lora_alpha": 6})
    with raises("bad.safetensors: ", words):
        load(tensors, {"lora_adapter_metadata": settings}, rules=[rule])


def test_two_rules_on_one_adapter(good):
    _, tensors, load = good
    twice = [LoraRule("blocks/attn/.", 3, name=name) for name in ("x", "y")]
    with raises("selected by two rules", "blocks/attn/q of layer 0 .'x', 'y'"):
        load(tensors, rules=twice)
    halves = [LoraRule("blocks/attn/.", 3, layers=(i,)) for i in (0, 1)]
    with raises("names of their own"):
        load(tensors, rules=halves)


@pytest.mark.parametrize(
    "metadata, words",
    [
        ({"lora_adapter_metadata": "{"}, "damaged metadata 'lora_adapter_metadata'"),
        ({"lora_adapter_metadata": "[]"}, "not a table"),
        ({"lora_adapter_metadata": '{"r": 4, "lora_alpha": 4}'}, "rank 3, 4 in metadata of bad"),
        ({"lora_adapter_metadata": '{"r": 3, "lora_alpha": "x"}'}, "damaged settings"),
        ({"lora_adapter_metadata": '{"alpha_pattern": {"(": 1}}'}, "damaged settings"),
        ({"lora_adapter_metadata": '{"use_dora": true}'}, "DoRA"),
        ({"lora_adapter_metadata": '{"peft_type": "LOHA"}'}, "LOHA is no LoRA"),
        ({"tavid_jax": '{"rules": [{}]}'}, "damaged metadata 'tavid_jax'"),
    ],
)
def test_damaged_settings(good, metadata, words):
    _, tensors, load = good
    with raises(words):
        load(tensors, metadata)


def test_files_that_are_no_adapters(good, tmp_path, base):
    config, tensors, load = good
    with raises("no LoRA of 'transformer' in it; its first keys are x"):
        load({"x": np.zeros(2)})
    with raises("no checkpoint at .*gone"):
        weights.load_lora(tmp_path / "gone", "cogvideox", config)
    with raises("several adapters .*to_q"):
        two = {k.replace(".weight", ".other.weight"): v for k, v in tensors.items()}
        load(tensors | two)
    with raises("no adapters for 'trajloom_vae'; known: cogvideox, wan, wan_diffusers"):
        weights.load_lora(tmp_path / "good.safetensors", "trajloom_vae", config)
    with raises("adapters of wan need a WanConfig, not a CogVideoXConfig"):
        weights.load_lora(tmp_path / "good.safetensors", "wan", config)
    with raises("scale 'half' is neither"):
        load(tensors, scale="half")


def test_one_layer_under_two_names(wan_file):
    config, _, tensors, path = wan_file
    both = tensors | renamed(tensors, config, **NAMINGS["original"])
    save_file(both, path)
    with raises("are the same layer|several adapters"):
        weights.load_lora(path, "wan", config)


def test_what_cannot_be_saved(good, tmp_path):
    config, _, _ = good
    adapters = drawn(config, (ATTENTION,))

    def save(adapters, rules, **options):
        weights.save_lora(adapters, rules, tmp_path / "out", "cogvideox", config, **options)

    with raises("missing adapters .*default/blocks/attn/o/a", "of no rule .*old/"):
        save({"old": adapters["default"]}, [ATTENTION])
    with raises(r"wrong shape .*q/a: \(2, 32, 3\), expected \(2, 32, 4\)"):
        save(adapters, [dataclasses.replace(ATTENTION, rank=4)])
    rules = [ATTENTION, LoraRule("blocks/attn/q", 1, layers=(1,), name="more")]
    with raises("two rules on one projection .*blocks/attn/q of layer 1 .'default', 'more'"):
        save(drawn(config, rules), rules)
    with raises("names of rules"):
        save({}, [])
    with raises("no format 'gguf'"):
        save(adapters, [ATTENTION], format="gguf")
    with raises("no original naming"):
        save(adapters, [ATTENTION], format="original")
    assert not (tmp_path / "out").exists()
    save(adapters, [ATTENTION])
    with raises("exists already"):
        save(adapters, [ATTENTION])
    (tmp_path / "file").touch()
    with raises("cannot be written"):
        weights.save_lora(adapters, [ATTENTION], tmp_path / "file" / "x", "cogvideox", config)


# --- the command line


@pytest.fixture
def command(monkeypatch, config_of, capsys):
    """Runs a command that knows a tiny model as "tiny"; returns its exit code and output."""
    for preset in list(weights.PRESETS):  # the others' tables take time
        if preset != "cogvideox-2b":
            monkeypatch.delitem(weights.PRESETS, preset)
    monkeypatch.setitem(weights.PRESETS, "tiny", config_of("t2v"))

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, "".join(capsys.readouterr())

    return run


def test_inspect_shows_adapters(base, tmp_path, command):
    adapted(base("t2v"), ["to_q", "proj_out"], rank_pattern={"proj_out": 2}).save_lora_adapter(
        tmp_path
    )
    code, out = command("inspect", tmp_path)
    assert code == 0 and "fits        tiny\n" in out
    assert f"settings    metadata of {FILE}" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["blocks.{0-1}.attn1.to_q", "3", "6", "2", "float32", "1.54", "kB"] in lines
    assert ["proj_out", "2", "6", "3", "float32", "0.35", "kB"] in lines
    assert "5 adapters, 856 parameters" in out
    assert "lora_A" in command("inspect", tmp_path, "--keys")[1]
    code, out = command("inspect", tmp_path, "--preset", "cogvideox-2b")
    assert code == 1 and out.startswith("error: cannot read these adapters")
    assert command("inspect", tmp_path, "--preset", "nothing")[0] == 1


def test_inspect_shows_rules_of_ours_and_every_component(config_of, tmp_path, command):
    config, rule = config_of("t2v"), LoraRule("blocks/attn/q", 3, 6, name="mine")
    (path,) = weights.save_lora(drawn(config, [rule]), [rule], tmp_path, "wan", config)
    code, out = command("inspect", path)
    assert code == 0 and "name='mine'" in out and "multiplied into lora_B" in out
    low = {k.replace("transformer.", "transformer_2."): v for k, v in load_file(path).items()}
    save_file(low | load_file(path), path)
    out = command("inspect", path)[1]
    assert "LoRA of a transformer\n" in out and "LoRA of a transformer_2\n" in out


def test_export_changes_names_and_dtypes(base, config_of, tmp_path, command):
    adapted(base("t2v"), ["to_q"], alpha=12).save_lora_adapter(tmp_path)
    code, out = command("export", tmp_path, tmp_path / "out", "--naming", "original")
    assert code == 0 and f"out/{FILE}  " in out
    tensors = load_file(tmp_path / "out" / FILE)
    assert "diffusion_model.blocks.0.self_attn.q.lora_A.weight" in tensors
    config = config_of("t2v")
    assert_same(*(weights.load_lora(p, "wan", config)[0] for p in (tmp_path, tmp_path / "out")))
    code, out = command(
        "export", tmp_path, tmp_path / "small", "--dtype", "bf16", "--naming", "peft"
    )
    assert code == 0 and "adapter_config.json" in out
    code, out = command("import", tmp_path, tmp_path / "orbax")
    assert code == 1 and "load_lora reads them" in out
    assert command("export", tmp_path, tmp_path / "x", "--preset", "cogvideox-2b")[0] == 1
