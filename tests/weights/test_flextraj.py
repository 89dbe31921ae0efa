"""FlexTraj's files: into the models of the goldens and out again, and all that can be wrong."""

import dataclasses
import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tavid_jax import weights
from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.models.layers.ports import Ports
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.models.wan.transformer import Wan
from tavid_jax.weights import PRESETS, WeightsError, load_flextraj, save_flextraj
from tavid_jax.weights.cli import main
from tavid_jax.weights.table import walk

TOLERANCE = 1e-5
COGVIDEOX = CogVideoXConfig(
    num_heads=3, head_dim=16, num_layers=4, in_channels=8, out_channels=4, time_embed_dim=6,
    text_dim=10, text_length=5, sample_hw=(4, 10), sample_frames=13, learned_positions=True,
)  # fmt: skip
WAN = WanConfig(
    num_heads=4, head_dim=14, ffn_dim=72, num_layers=2, in_channels=5, out_channels=5,
    freq_dim=24, text_dim=18,
)  # fmt: skip
KINDS = ("cogvideox", "wan")
AXIS = {"cogvideox": 2, "wan": 1}  # of the channels in the goldens
LAST = {"cogvideox": "transformer.transformer_blocks.3.attn1.to_q", "wan": "blocks.1.self_attn.q"}
FUSE = {"cogvideox": "transformer.fuse_linear", "wan": "fuse_linear"}
IDLE = "blocks.0.cross_attn.k.lora_B.weight"


class Case(NamedTuple):
    """A released file, written as its trainer would, and the model that it is for."""

    kind: str
    config: Any
    golden: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]
    file: Any

    def load(self, **options):
        return load_flextraj(self.file, self.kind, self.config, **options)

    def rewrite(self, changes=(), without=()):
        """Another file in its place, which is loaded."""
        kept = {k: v for k, v in self.tensors.items() if k not in without}
        save_file(kept | dict(changes), self.file)
        return self.load()


@pytest.fixture
def case(request, goldens, tmp_path):
    kind = request.param
    golden = goldens(f"flextraj_{kind}_tiny")
    tensors = {k.removeprefix("sd_lora/"): v for k, v in golden.items() if k.startswith("sd_lora/")}
    tensors = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(tensors, tmp_path / "flextraj.safetensors")
    config = {"cogvideox": COGVIDEOX, "wan": WAN}[kind]
    return Case(kind, config, golden, tensors, tmp_path / "flextraj.safetensors")


both = pytest.mark.parametrize("case", KINDS, indirect=True)
cogvideox = pytest.mark.parametrize("case", ["cogvideox"], indirect=True)
wan = pytest.mark.parametrize("case", ["wan"], indirect=True)


def raises(*patterns):
    return pytest.raises(WeightsError, match="(?s)" + ".*".join(patterns))


def assert_same(first, second):
    one, other = dict(walk(first)), dict(walk(second))
    assert one.keys() == other.keys()
    for path, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[path], err_msg=path)


# --- what the models compute


@functools.partial(jax.jit, static_argnums=(0, 1))
def predict(model, write, params, latents, timestep, text, videos, caches):
    """(prediction, cache of the condition)."""
    bound = model.bind({"params": params})
    condition = None if videos is None else bound.embed_condition(videos)
    ports = Ports(kv_in=caches, kv_out=("condition",) if write else ())
    out = bound.predict(latents, timestep, text, condition=condition, ports=ports)
    return out.sample, out.caches


def last(case, name):
    return jnp.moveaxis(jnp.asarray(case.golden[f"in/{name}"]), AXIS[case.kind], -1)


def given(case, when):
    """(latents, timestep, text) of a step."""
    time = jnp.asarray(case.golden[f"in/timestep_t{when}"])
    if case.kind == "cogvideox":
        text = case.golden["in/encoder_hidden_states"]
        return last(case, f"hidden_states_t{when}"), time, jnp.asarray(text)
    latents = last(case, f"latents_t{when}")
    times = jnp.tile(time[:, None], (1, latents.shape[1])).at[:, 0].set(0)  # of the clean frame
    return latents, times, jnp.asarray(case.golden["in/context"])


@both
@pytest.mark.parity
def test_the_released_code_s_outputs_through_a_file(case):
    """Condition videos walked along; then their keys and values of that step, at another one."""
    params, rules = case.load()
    base = {k[3:]: v for k, v in case.golden.items() if k.startswith("sd/")}
    params = weights.port(case.kind, base, case.config) | params
    config = dataclasses.replace(case.config, condition_videos=2)
    model = (CogVideoX if case.kind == "cogvideox" else Wan)(config, lora=rules)
    first, later = {"cogvideox": (999, 318), "wan": (1000, 371)}[case.kind]

    def check(got, name):
        want = case.golden[f"out/{name}"]
        got = np.moveaxis(np.asarray(got), -1, AXIS[case.kind])
        error = np.abs(got - want).max() / np.sqrt(np.mean(want**2))
        assert error < TOLERANCE, f"{name}: {error:.1e}"

    videos = jnp.stack([last(case, name) for name in ("cond_id", "cond_color")], axis=1)
    sample, caches = predict(model, True, params, *given(case, first), videos, {})
    check(sample, f"v_uncached_t{first}")
    sample, _ = predict(model, False, params, *given(case, later), None, caches)
    check(sample, f"v_read_t{later}")
    check(sample, f"v_uncached_t{later}")


# --- what is read


@both
def test_rules_follow_from_the_file(case):
    params, (rule,) = case.load()
    attention = "blocks/attn/(k|o|q|v)"
    want = {"cogvideox": (attention, 3), "wan": (f"{attention}|blocks/cross/(o|q)", 4)}
    assert (rule.path, rule.rank) == want[case.kind]
    assert (rule.scale, rule.layers, rule.stream) == (1.0, None, "condition")
    node = params["lora"]["default"]["blocks"]["attn"]["q"]
    np.testing.assert_array_equal(node["a"][-1], case.tensors[f"{LAST[case.kind]}.lora_A.weight"].T)
    np.testing.assert_array_equal(node["b"][-1], case.tensors[f"{LAST[case.kind]}.lora_B.weight"].T)
    weight = case.tensors[f"{FUSE[case.kind]}.weight"]
    np.testing.assert_array_equal(params["fuse"]["kernel"], weight.T)
    np.testing.assert_array_equal(params["fuse"]["bias"], case.tensors[f"{FUSE[case.kind]}.bias"])


@both
@pytest.mark.parametrize(
    ("prefix", "adapter", "module"),
    [
        ("", "", ""),
        ("", "default.", ""),
        ("", "default.", "modules_to_save.default."),
        ("transformer.", "default.", ""),
        ("pipe.dit.", "", ""),
        ("module.base_model.model.", "own.", "modules_to_save.own."),
    ],
)
def test_spellings(case, prefix, adapter, module):
    """Of training states, without the prefix, and with those of tools."""
    params, rules = case.load()
    tensors = {}
    for key, value in case.tensors.items():
        key = re.sub(r"(lora_[AB])\.", rf"\1.{adapter}", key.removeprefix("transformer."))
        tensors[prefix + key.replace("fuse_linear.", f"fuse_linear.{module}")] = value
    save_file(tensors, case.file)
    again, found = case.load()
    assert found == rules
    assert_same(again, params)


@both
def test_any_rank_and_scale(case):
    narrow = {
        key: np.ascontiguousarray(value[:1] if "lora_A" in key else value[:, :1])
        for key, value in case.tensors.items()
        if "lora_" in key
    }
    params, (rule,) = case.rewrite(narrow)
    assert rule.rank == 1 and rule.scale == 1
    assert params["lora"]["default"]["blocks"]["attn"]["o"]["b"].shape[1:] == (1, case.config.dim)
    assert case.load(scale=0.5)[1][0].scale == 0.5
    mine = dataclasses.replace(rule, name="steer", path="blocks/attn/.*|blocks/cross/(q|o)")
    params, rules = case.load(rules=[mine])
    assert rules == (mine,) and params["lora"].keys() == {"steer"}
    with raises("ranks .*: 1 in the file, 2 in 'steer'"):
        case.load(rules=[dataclasses.replace(mine, rank=2)])
    with raises("scale 'half' is neither a number"):
        case.load(scale="half")


@both
def test_a_folder_of_the_released_name(case):
    released = case.file.with_name(f"flextraj_{case.kind}.safetensors")
    case.file.rename(released)
    save_file({"something": np.zeros(2)}, case.file)
    assert_same(
        load_flextraj(case.file.parent, case.kind, case.config)[0],
        case._replace(file=released).load()[0],
    )


def test_hub(monkeypatch, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **o: str(tmp_path))
    with raises("there is no flextraj_wan.safetensors in hf:owner/name"):
        load_flextraj("hf:owner/name", "wan", WAN)


# --- out and in again


@both
@pytest.mark.parametrize("style", ["released", "peft default"])
def test_round_trip(case, style, tmp_path):
    """Every tensor to the bit; of those that nothing applies the zeros, in Wan's lora_B."""
    params, rules = case.load()
    file = save_flextraj(
        tmp_path / "o" / "x.safetensors", params, case.kind, case.config, rules, style
    )
    written = load_file(file)
    names = {"released": lambda key: key, "peft default": lambda key: peft_default(case.kind, key)}
    want = {names[style](key): value for key, value in case.tensors.items()}
    assert written.keys() == want.keys()
    for key, value in want.items():
        idle = "cross_attn.k" in key or "cross_attn.v" in key
        np.testing.assert_array_equal(written[key], 0 * value if idle else value, err_msg=key)
        assert written[key].shape == value.shape and written[key].dtype == np.float32
    again, found = load_flextraj(file, case.kind, case.config)
    assert found == rules
    assert_same(again, params)
    assert [path.name for path in file.parent.iterdir()] == ["x.safetensors"]


def peft_default(kind, key):
    key = re.sub(r"(lora_[AB])\.", r"\1.default.", key.removeprefix("transformer."))
    inside = "fuse_linear.modules_to_save.default." if kind == "cogvideox" else "fuse_linear."
    return key.replace("fuse_linear.", inside)


@both
def test_bfloat16_comes_and_goes_unchanged(case, tmp_path):
    narrow = {key: value.astype(ml_dtypes.bfloat16) for key, value in case.tensors.items()}
    params, rules = case.rewrite(narrow)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    args = case.kind, case.config, rules
    written = load_file(save_flextraj(tmp_path / "x.safetensors", params, *args, dtype="bf16"))
    for key, value in narrow.items():
        assert written[key].dtype == value.dtype
        if not ("cross_attn.k" in key or "cross_attn.v" in key):
            np.testing.assert_array_equal(written[key], value, err_msg=key)


@both
def test_rules_of_our_own(case, tmp_path):
    """Some projections and layers, two ranks, a scale: all keys are there, and the rules told."""
    rules = (
        LoraRule("blocks/attn/(q|k)", 3, alpha=6, layers=(-1,), stream="condition", name="late"),
        LoraRule("blocks/attn/v", 2, stream="condition", name="values"),
    )
    params, _ = case.load()
    attn = params["lora"]["default"]["blocks"]["attn"]
    late = {n: {"a": attn[n]["a"][-1:, :, :3], "b": attn[n]["b"][-1:, :3]} for n in "qk"}
    values = {"a": attn["v"]["a"][:, :, :2], "b": attn["v"]["b"][:, :2]}
    nodes = {"late": {"attn": late}, "values": {"attn": {"v": values}}}
    lora = {name: {"blocks": node} for name, node in nodes.items()}
    mine = {"lora": lora, "fuse": params["fuse"], "patch_embed": None}
    file = save_flextraj(tmp_path / "own.safetensors", mine, case.kind, case.config, rules)
    written = load_file(file)
    assert written.keys() == case.tensors.keys()
    last = f"{LAST[case.kind]}.lora_B.weight"
    np.testing.assert_array_equal(written[last], 2 * case.tensors[last][:, :3])
    again, found = load_flextraj(file, case.kind, case.config)
    assert [(r.name, r.rank, r.scale) for r in found] == [("late", 3, 2.0), ("values", 2, 1.0)]
    assert again.pop("fuse").keys() == {"kernel", "bias"}
    assert_same(again["lora"], lora)


@wan
def test_one_condition_video_has_no_fusion(case, tmp_path):
    params, rules = case.load()
    one, two = (dataclasses.replace(WAN, condition_videos=n) for n in (1, 2))
    with raises(r"not expected .*fuse/kernel"):
        save_flextraj(tmp_path / "x.safetensors", params, "wan", one, rules)
    lora = {"lora": params["lora"]}
    file = save_flextraj(tmp_path / "x.safetensors", lora, "wan", one, rules)
    for config in (WAN, one):
        assert_same(load_flextraj(file, "wan", config)[0], lora)
    with raises("it is for 1 condition video, and config.condition_videos is 2"):
        load_flextraj(file, "wan", two)
    with raises("it is for 2 condition videos, and config.condition_videos is 1"):
        load_flextraj(case.file, "wan", one)


# --- what is refused


@both
def test_missing_keys(case):
    fuse, last = FUSE[case.kind], LAST[case.kind].removeprefix("transformer.")
    with raises("flextraj.safetensors: .*missing .*fuse_linear.weight.*fuse_linear.bias"):
        case.rewrite(without=[f"{fuse}.weight", f"{fuse}.bias"])
    with raises(r"missing \(1\):\n  fuse_linear.bias"):
        case.rewrite(without=[f"{fuse}.bias"])
    at = LAST[case.kind]
    with raises(rf"flextraj.safetensors: .*missing \(1\):\n  {last}.lora_A.weight"):
        case.rewrite(without=[f"{at}.lora_A.weight", f"{at}.lora_B.weight"])
    with raises(f"lora_A without lora_B .*{last}"):
        case.rewrite(without=[f"{at}.lora_B.weight"])


@both
def test_unknown_keys_and_wrong_shapes_are_listed(case):
    at, fuse, d = LAST[case.kind], FUSE[case.kind], case.config.dim
    more = {"proj.weight": np.zeros(2), at.replace("q", "x") + ".lora_A.weight": np.zeros((3, d))}
    with raises("keys that are no LoRA's .*proj.weight", "does not have .*x"):
        case.rewrite(more)
    wrong = np.zeros((d, d + 1), np.float32)
    with raises(rf"fuse_linear.weight: \({d}, {d + 1}\), expected \({d}, {d}\)"):
        case.rewrite({f"{fuse}.weight": wrong})
    with raises(f"wrong shape .*lora_B .*expected .*{d}"):
        case.rewrite({f"{at}.lora_B.weight": case.tensors[f"{at}.lora_B.weight"][:-1]})
    with raises("spelled twice .*fuse_linear.modules_to_save.default.weight.*fuse_linear.weight"):
        twice = {"fuse_linear.modules_to_save.default.weight": np.zeros((d, d), np.float32)}
        case.rewrite(twice)


@wan
def test_trained_adapters_of_the_text_are_refused(case):
    """No token of the condition passes them, so that whoever trained them did otherwise."""
    trained = {IDLE: case.tensors[IDLE] + 1}
    with raises(f"no condition token passes, whose lora_B is not zero .*{IDLE}"):
        case.rewrite(trained)
    case.rewrite({IDLE.replace("lora_B", "lora_A"): case.tensors[IDLE.replace("lora_B", "lora_A")]})


@both
def test_another_backbone(case):
    other = {"cogvideox": ("wan", WAN), "wan": ("cogvideox", COGVIDEOX)}[case.kind]
    with raises("flextraj.safetensors holds adapters of another model than this"):
        load_flextraj(case.file, *other)
    with raises("adapters of .* need a .*Config, not a"):
        load_flextraj(case.file, case.kind, other[1])
    deeper = dataclasses.replace(case.config, num_layers=case.config.num_layers + 1)
    with raises("missing .*lora_A"):
        load_flextraj(case.file, case.kind, deeper)
    flatter = dataclasses.replace(case.config, num_layers=1)
    with raises("layers that do not exist"):
        load_flextraj(case.file, case.kind, flatter)
    with raises("FlexTraj has no 'latte'; its backbones are cogvideox, wan"):
        load_flextraj(case.file, "latte", case.config)


@wan
def test_damaged_files(case):
    whole = case.file.read_bytes()
    case.file.write_bytes(whole[: len(whole) // 2])
    with raises("flextraj.safetensors is cut off"):
        case.load()
    case.file.unlink()
    with raises("no checkpoint at .*flextraj.safetensors"):
        case.load()
    save_file({"fuse_linear.bias": np.zeros(2)}, case.file)
    with raises("flextraj.safetensors: no LoRA of"):
        case.load()


@wan
def test_what_cannot_be_saved(case, tmp_path):
    params, rules = case.load()
    save = functools.partial(save_flextraj, kind="wan", config=WAN)
    with raises("flextraj.safetensors exists already; remove it"):
        save(case.file, params, rules=rules)
    new = tmp_path / "new" / "x.safetensors"
    with raises("no style 'diffusers'; known: 'released', 'peft default'"):
        save(new, params, rules=rules, style="diffusers")
    with raises("rules of other streams .*'default': all"):
        save(new, params, rules=[dataclasses.replace(rules[0], stream="all")])
    with raises("missing .*fuse/bias"):
        save(new, params | {"fuse": {"kernel": params["fuse"]["kernel"]}}, rules=rules)
    with raises("missing adapters"):
        save(new, {"fuse": params["fuse"]}, rules=rules)
    with raises("cannot be written"):
        save(case.file / "x.safetensors", params, rules=rules)
    assert not new.parent.exists()


# --- the command line


@both
def test_commands(case, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "tiny", case.config)

    def command(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, "".join(capsys.readouterr())

    code, out = command("inspect", case.file)
    assert code == 0, out
    rank = {"cogvideox": 3, "wan": 4}[case.kind]
    d = case.config.dim
    assert "kind        FlexTraj: LoRA of the condition stream, and a fusion projection\n" in out
    assert f"fits        tiny\nrank        {rank}\n" in out
    assert f"fuse        weight {d}x{d} float32, bias {d} float32\n" in out
    layers = f"{{0-{case.config.num_layers - 1}}}"
    name = {"cogvideox": "transformer_blocks.{}.attn1.to_q", "wan": "blocks.{}.self_attn.q"}
    assert re.search(re.escape(name[case.kind].format(layers)) + f" +{rank} +{rank} +1", out)
    code, out = command("inspect", case.file, "--preset", "cogvideox-2b")
    assert code == 1
    code, out = command("import", case.file, tmp_path / "orbax")
    assert code == 1 and "tavid_jax.weights.load_flextraj reads them" in out
    code, out = command("export", case.file, tmp_path / "out", "--naming", "peft")
    written = load_file(tmp_path / "out" / f"flextraj_{case.kind}.safetensors")
    assert code == 0 and written.keys() == {peft_default(case.kind, k) for k in case.tensors}
    code, out = command("export", case.file, tmp_path / "out2", "--naming", "original")
    assert code == 1 and "as released (the default), or peft, not original" in out
    code, out = command("export", case.file, tmp_path / "out3", "--dtype", "bf16")
    (written,) = (tmp_path / "out3").iterdir()
    assert {value.dtype for value in load_file(written).values()} == {np.dtype(ml_dtypes.bfloat16)}


def test_the_full_files_fit_the_models_they_were_released_for(tmp_path, capsys):
    """Names and shapes of all 338 and 482 tensors, at rank one and without their bytes."""
    from tavid_jax.weights.flextraj_cli import describe

    d = 3072
    blocks = {
        "cogvideox": [f"transformer.transformer_blocks.{i}.attn1." + name
                      for i in range(42) for name in ("to_q", "to_k", "to_v", "to_out.0")],
        "wan": [f"blocks.{i}.{part}.{name}"
                for i in range(30) for part in ("self_attn", "cross_attn") for name in "qkvo"],
    }  # fmt: skip
    fits = {"cogvideox": "cogvideox-5b-i2v", "wan": "wan2.2-ti2v-5b"}
    for kind, modules in blocks.items():
        shapes = {f"{m}.lora_A.weight": (1, d) for m in modules}
        shapes |= {f"{m}.lora_B.weight": (d, 1) for m in modules}
        shapes |= {f"{FUSE[kind]}.weight": (d, d), f"{FUSE[kind]}.bias": (d,)}
        assert len(shapes) == {"cogvideox": 338, "wan": 482}[kind]
        file = tmp_path / f"{kind}.safetensors"
        save_file(
            {key: np.zeros(shape, ml_dtypes.float8_e4m3fn) for key, shape in shapes.items()}, file
        )
        assert f"fits        {fits[kind]}" in list(describe(str(file)))
