"""The patch projection in a file of its own: layouts, PyTorch's side, all that can be wrong."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tavid_jax import weights
from tavid_jax.models.cogvideox.config import PRESETS as COGVIDEOX
from tavid_jax.models.cogvideox.config import CogVideoXConfig
from tavid_jax.models.layers.patches import patchify
from tavid_jax.models.text.config import T5Config
from tavid_jax.models.wan.config import WanConfig
from tavid_jax.weights.cli import main
from tavid_jax.weights.patch_embed import COGVIDEOX_FILE, FILES, WAN_FILE
from tavid_jax.weights.patch_layout import described
from tavid_jax.weights.torch_zip import write_torch_zip
from tests.models.random_weights import relative_error

torch = pytest.importorskip("torch")

# No two sizes are equal: 12 or 18 wide, 8 of the model's channels or 6.
TWO_D = CogVideoXConfig(num_heads=1, head_dim=16, num_layers=1, in_channels=8, text_length=5)
LINEAR = dataclasses.replace(TWO_D, patch_size=(2, 2, 2))
THREE_D = WanConfig(num_heads=1, head_dim=18, num_layers=1, in_channels=6, patch_size=(1, 2, 2))
FAMILIES = {"cogvideox": TWO_D, "cogvideox 1.5": LINEAR, "wan": THREE_D}


def shape(config, channels):
    """Of the weight in PyTorch."""
    frames, *taps = config.patch_size
    if isinstance(config, WanConfig):
        return config.dim, channels, frames, *taps
    return (config.dim, channels, *taps) if frames == 1 else (config.dim, channels * 8)


def drawn(config, extra, seed=0):
    """A random state dict of a model with further channels."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=shape(config, config.in_channels + extra))
    return {
        "weight": weight.astype(np.float32),
        "bias": rng.normal(size=config.dim).astype(np.float32),
    }


def projected(params, config, latents):
    """What the model does with the model's channels and the further ones."""
    ours, added = np.split(latents, [config.in_channels], axis=-1)
    tokens = patchify(jnp.asarray(ours), config.patch_size) @ params["patch_embed"]["kernel"]
    tokens += params["patch_embed"]["bias"]
    if "patch_embed_extra" not in params:
        return tokens
    return (
        tokens
        + patchify(jnp.asarray(added), config.patch_size) @ (params["patch_embed_extra"]["kernel"])
    )


def theirs(config, state, latents):
    """The published module on the same latent (B, F, H, W, C)."""
    x = torch.tensor(latents)
    state = {key: torch.tensor(value) for key, value in state.items()}
    if isinstance(config, WanConfig):
        conv = torch.nn.Conv3d(x.shape[-1], config.dim, config.patch_size, config.patch_size)
        conv.load_state_dict(state, strict=True)
        return conv(x.movedim(-1, 1)).flatten(2).transpose(1, 2)
    from diffusers.models.embeddings import CogVideoXPatchEmbed

    frames = config.patch_size[0]
    module = CogVideoXPatchEmbed(
        patch_size=2,
        patch_size_t=None if frames == 1 else frames,
        in_channels=x.shape[-1],
        embed_dim=config.dim,
        text_embed_dim=4,
        use_positional_embeddings=False,
        use_learned_positional_embeddings=False,
    )
    module.proj.load_state_dict(state, strict=True)
    return module(torch.zeros(len(x), 1, 4), x.movedim(-1, 2))[:, 1:]


def raises(*lines):
    return pytest.raises(weights.WeightsError, match="(?s)" + ".*".join(lines))


# --- theirs here, ours there


@pytest.mark.parity
@pytest.mark.parametrize("extra", [0, 1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_projection_computes_what_the_published_module_does(tmp_path, family, extra):
    config, state = FAMILIES[family], drawn(FAMILIES[family], extra)
    torch.save({k: torch.tensor(v) for k, v in state.items()}, tmp_path / COGVIDEOX_FILE)
    params = weights.load_patch_embed(tmp_path / COGVIDEOX_FILE, config)
    assert ("patch_embed_extra" in params) is bool(extra)
    size = (2, 4, 4, 6, config.in_channels + extra)
    latents = np.random.default_rng(1).normal(size=size).astype(np.float32)
    want = theirs(config, state, latents).detach().numpy()
    assert relative_error(projected(params, config, latents), want) < 1e-5


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip(tmp_path, family, suffix):
    config, state = FAMILIES[family], drawn(FAMILIES[family], 2)
    write_torch_zip(tmp_path / "in.pth", state)
    params = weights.load_patch_embed(tmp_path / "in.pth", config)
    file = weights.save_patch_embed(params, tmp_path / f"out{suffix}", config)
    assert file == tmp_path / f"out{suffix}"
    back = load_file(file) if suffix == ".safetensors" else torch.load(file, weights_only=True)
    assert back.keys() == state.keys()
    for key, want in state.items():
        np.testing.assert_array_equal(np.asarray(back[key]), want)
    again = weights.load_patch_embed(file, dataclasses.replace(config, extra_channels=2))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    assert jax.tree.structure(params) == jax.tree.structure(again)


def test_what_pytorch_loads_strictly(tmp_path):
    state = drawn(TWO_D, 1)
    write_torch_zip(tmp_path / "in.pth", state)
    params = weights.load_patch_embed(tmp_path / "in.pth", TWO_D)
    file = weights.save_patch_embed(params | {"blocks": {"x": jnp.zeros(2)}}, tmp_path / "f", TWO_D)
    assert file == tmp_path / "f" / COGVIDEOX_FILE
    conv = torch.nn.Conv2d(9, TWO_D.dim, 2, 2)
    conv.load_state_dict(torch.load(file, weights_only=True), strict=True)
    np.testing.assert_array_equal(conv.weight.detach().numpy(), state["weight"])
    assert conv.weight.dtype == torch.float32


def test_a_new_channel_of_zeros_is_a_whole_convolution(tmp_path):
    """What training starts from, saved before any step."""
    config = dataclasses.replace(TWO_D, extra_channels=1)
    write_torch_zip(tmp_path / "in.pth", drawn(TWO_D, 0))
    params = weights.load_patch_embed(tmp_path / "in.pth", TWO_D)
    params["patch_embed_extra"] = {"kernel": jnp.zeros((4, TWO_D.dim))}
    file = weights.save_patch_embed(params, tmp_path, config)
    weight = torch.load(file, weights_only=True)["weight"].numpy()
    np.testing.assert_array_equal(weight[:, :8], drawn(TWO_D, 0)["weight"])
    assert weight.shape == (16, 9, 2, 2) and not weight[:, 8].any()


def test_dtypes(tmp_path):
    """Half precision is widened exactly; what is written has one dtype."""
    state = {key: value.astype(ml_dtypes.bfloat16) for key, value in drawn(TWO_D, 1).items()}
    write_torch_zip(tmp_path / "in.pth", state)
    params = weights.load_patch_embed(tmp_path / "in.pth", TWO_D)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    half = params | {"patch_embed": jax.tree.map(jnp.bfloat16, params["patch_embed"])}
    for name, given, dtype, want in (
        ("a", params, "keep", torch.float32),
        ("b", half, "keep", torch.float32),
        ("c", jax.tree.map(jnp.bfloat16, params), "keep", torch.bfloat16),
        ("d", params, "bf16", torch.bfloat16),
    ):
        file = weights.save_patch_embed(given, tmp_path / name, TWO_D, dtype=dtype)
        back = torch.load(file, weights_only=True)
        assert {tensor.dtype for tensor in back.values()} == {want}
        for key, value in state.items():
            np.testing.assert_array_equal(back[key].float().numpy(), value.astype(np.float32))


# --- where it lies


@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_holds_more(tmp_path, name):
    state = drawn(TWO_D, 1)
    save_file({"a": np.zeros(2)}, tmp_path / "pytorch_lora_weights.safetensors")
    write = save_file if name.endswith(".safetensors") else lambda s, p: write_torch_zip(p, s)
    write(state, tmp_path / name)
    params = weights.load_patch_embed(tmp_path, TWO_D)
    np.testing.assert_array_equal(params["patch_embed"]["bias"], state["bias"])


def test_usual_names(tmp_path):
    for config, name in ((TWO_D, COGVIDEOX_FILE), (THREE_D, WAN_FILE)):
        write_torch_zip(tmp_path / "in.pth", drawn(config, 1))
        params = weights.load_patch_embed(tmp_path / "in.pth", config)
        assert weights.save_patch_embed(params, tmp_path / "out", config).name == name


def test_hub(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot(repo, **options):
        asked.append((repo, options["revision"], options["allow_patterns"]))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with raises("no patch projection in hf:owner/name@v1: expected patch_embed_conv2d.pth or "):
        weights.load_patch_embed("hf:owner/name@v1", TWO_D)
    write_torch_zip(tmp_path / COGVIDEOX_FILE, drawn(TWO_D, 1))
    assert weights.load_patch_embed("hf:owner/name@v1", TWO_D).keys() >= {"patch_embed_extra"}
    assert asked == 2 * [("owner/name", "v1", list(FILES))]


# --- bad input


def saved(tmp_path, state, name="bad.pth"):
    write_torch_zip(tmp_path / name, state)
    return tmp_path / name


def test_files_that_are_no_projection(tmp_path):
    good = drawn(TWO_D, 1)
    renamed = {"proj.weight": good["weight"], "bias": good["bias"]}
    with raises(
        "bad.pth is no patch projection; that has the keys weight and bias alone",
        r"missing \(1\):\n  weight",
        r"not expected \(1\):\n  proj.weight",
    ):
        weights.load_patch_embed(saved(tmp_path, renamed), TWO_D)
    counts = {key: value.astype(np.int32) for key, value in good.items()}
    with raises("bad.pth: weight has dtype int32, expected floats"):
        weights.load_patch_embed(saved(tmp_path, counts), TWO_D)
    with raises(r"bad.pth: weight \(16, 9, 2, 2\) and bias \(15,\) are of no patch projection"):
        weights.load_patch_embed(saved(tmp_path, good | {"bias": np.zeros(15, "f")}), TWO_D)
    whole = saved(tmp_path, good).read_bytes()
    (tmp_path / "bad.pth").write_bytes(whole[: len(whole) // 2])
    with raises(r"bad.pth: damaged, no whole .pth file"):
        weights.load_patch_embed(tmp_path / "bad.pth", TWO_D)
    with raises("no checkpoint at .*gone.pth"):
        weights.load_patch_embed(tmp_path / "gone.pth", TWO_D)


def test_projections_of_other_models(tmp_path):
    with raises(
        r"bad.pth is the patch projection of another model than this CogVideoX: its weight is "
        r"\(18, 7, 1, 2, 2\), expected \(16, 8, 2, 2\) or more input channels; it fits none of"
    ):
        weights.load_patch_embed(saved(tmp_path, drawn(THREE_D, 1)), TWO_D)
    with raises(r"weight is \(16, 7, 2, 2\), expected \(16, 8, 2, 2\) or more"):
        weights.load_patch_embed(saved(tmp_path, drawn(TWO_D, -1)), TWO_D)
    with raises(r"weight is \(16, 9, 2, 2\), expected \(16, 64\) or more"):
        weights.load_patch_embed(saved(tmp_path, drawn(TWO_D, 1)), LINEAR)
    released = {"weight": np.zeros((3072, 33, 2, 2), "f"), "bias": np.zeros(3072, "f")}
    with raises(
        r"than cogvideox-2b: its weight is \(3072, 33, 2, 2\), expected \(1920, 16, 2, 2\) or more "
        "input channels; it fits cogvideox-5b-i2v with 1 further channel$"
    ):
        weights.load_patch_embed(saved(tmp_path, released), COGVIDEOX["cogvideox-2b"])
    params = weights.load_patch_embed(tmp_path / "bad.pth", COGVIDEOX["cogvideox-5b-i2v"])
    assert params["patch_embed_extra"]["kernel"].shape == (4, 3072)
    with raises("only transformers .* not a model of a T5Config"):
        weights.load_patch_embed(tmp_path / "bad.pth", T5Config())
    with raises("only transformers .* not a model of a T5Config"):
        weights.save_patch_embed(params, tmp_path / "x.pth", T5Config())


def test_another_number_of_channels_than_the_config_s(tmp_path):
    config = dataclasses.replace(TWO_D, extra_channels=2)
    with raises("has 1 channels beyond the model's 8, and config.extra_channels is 2"):
        weights.load_patch_embed(saved(tmp_path, drawn(TWO_D, 1)), config)


def test_what_cannot_be_saved(tmp_path):
    params = weights.load_patch_embed(saved(tmp_path, drawn(TWO_D, 1)), TWO_D)
    with raises("bad.pth exists already; remove it"):
        weights.save_patch_embed(params, tmp_path / "bad.pth", TWO_D)
    with raises("cannot write .*x.pth", r"missing \(1\):\n  patch_embed/bias"):
        broken = params | {"patch_embed": {"kernel": params["patch_embed"]["kernel"]}}
        weights.save_patch_embed(broken, tmp_path / "x.pth", TWO_D)
    with raises(r"patch_embed_extra/kernel: \(4, 16\), expected \(8, 16\)"):
        config = dataclasses.replace(TWO_D, extra_channels=2)
        weights.save_patch_embed(params, tmp_path / "x.pth", config)
    with raises(r"patch_embed/kernel: \(32, 16\), expected \(24, 18\)"):
        weights.save_patch_embed(params, tmp_path / "x.pth", THREE_D)
    with raises("cannot be written"):
        weights.save_patch_embed(params, tmp_path / "bad.pth" / "x.pth", TWO_D)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pth"]


# --- the command line


def test_what_a_weight_fits():
    cases = {
        (3072, 33, 2, 2): "cogvideox-5b-i2v with 1 further channel",
        (3072, 17, 2, 2): "cogvideox-5b with 1 further channel",
        (1920, 18, 2, 2): "cogvideox-2b with 2 further channels",
        (3072, 264): "cogvideox1.5-5b-i2v with 1 further channel",
        (1536, 17, 1, 2, 2): "wan2.1-t2v-1.3b with 1 further channel",
        (5120, 37, 1, 2, 2): "wan2.1-i2v-14b, wan2.1-flf2v-14b, wan2.2-i2v-a14b with 1 further "
        "channel",
        (3072, 33, 2, 3): "none of the published",
        (3072, 265): "none of the published",
        (7, 5): "none of the published",
    }
    assert {weight: described(weight) for weight in cases} == cases


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command that knows a tiny model as "tiny"; returns its exit code and output."""
    monkeypatch.setitem(weights.PRESETS, "tiny", TWO_D)

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, "".join(capsys.readouterr())

    return run


def test_inspect(tmp_path, command):
    file = saved(tmp_path, drawn(TWO_D, 1), COGVIDEOX_FILE)
    for place in (file, tmp_path):
        code, out = command("inspect", place)
        assert code == 0
        assert f"checkpoint  {file}\nkind        patch projection of a transformer\n" in out
        assert "fits        tiny with 1 further channel\n" in out
        assert re.search(r"\nweight +16x9x2x2 +float32 +2.30 kB\n", out)
        assert "2 arrays, 592 parameters, 2.37 kB" in out
    assert "fits        tiny with 1 further" in command("inspect", file, "--preset", "tiny")[1]
    code, out = command("inspect", file, "--preset", "cogvideox-2b")
    assert code == 1 and "of another model than cogvideox-2b" in out
    assert command("inspect", file, "--preset", "nothing") == (
        1,
        f"error: no preset 'nothing'; known: {', '.join(weights.PRESETS)}\n",
    )
    code, out = command("import", file, tmp_path / "out")
    assert code == 1 and "tavid_jax.weights.load_patch_embed reads it" in out


def test_inspect_shows_both_files_of_a_release(tmp_path, command):
    saved(tmp_path, drawn(TWO_D, 1), COGVIDEOX_FILE)
    at = "transformer.transformer_blocks.0.attn1.to_q"
    lora = {f"{at}.lora_A.weight": np.ones((2, 16), "f"), f"{at}.lora_B.weight": np.ones((16, 2))}
    save_file(lora, tmp_path / "pytorch_lora_weights.safetensors")
    code, out = command("inspect", tmp_path)
    assert code == 0
    adapters, projection = out.split(f"\n\ncheckpoint  {tmp_path / COGVIDEOX_FILE}\n")
    assert "kind        LoRA of a transformer\n" in adapters and "fits        tiny\n" in adapters
    assert "fits        tiny with 1 further channel" in projection


def test_a_model_beside_a_projection_is_shown_as_before(tmp_path, tiny_model, command):
    tiny_model("5b").save_pretrained(tmp_path)
    saved(tmp_path, drawn(TWO_D, 1), COGVIDEOX_FILE)
    code, out = command("inspect", tmp_path)
    assert code == 0 and "kind        cogvideox\n" in out
