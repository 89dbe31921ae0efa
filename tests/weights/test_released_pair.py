"""TAViD's two released files: adapters and a patch projection, between diffusers and here."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tavid_jax import weights
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.lora import LoraRule
from tavid_jax.weights.patch_embed import COGVIDEOX_FILE

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytest.importorskip("diffusers")

from diffusers import CogVideoXImageToVideoPipeline as Pipeline  # noqa: E402

from tests.models import random_weights  # noqa: E402
from tests.models.cogvideox import tiny  # noqa: E402
from tests.models.cogvideox.test_parity import torch_rotary  # noqa: E402
from tests.weights.adapters import FILE, assert_same, drawn, noisy  # noqa: E402

# Image to video: 4 noisy channels, 4 of the image, and 1 of the mask.
CONFIG, SIZE = tiny.config_of(in_channels=8, learned_positions=True), (3, 4, 6)
EXTENDED = dataclasses.replace(CONFIG, extra_channels=1)
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
RANK, ALPHA = 4, 2
TOLERANCE = 1e-5


def stock(seed=0):
    """The base model of diffusers, random."""
    return tiny.torch_model(CONFIG, seed)


def extended(model, seed=1):
    """With a random convolution of 9 channels in the place of its own."""
    conv = torch.nn.Conv2d(CONFIG.in_channels + 1, CONFIG.dim, 2, 2)
    model.patch_embed.proj = random_weights.randomise(conv, seed)
    return model


def inputs(seed=3):
    """(latents, mask, text)."""
    latents, text, _ = tiny.inputs(CONFIG, SIZE, seed)
    mask = np.random.default_rng(seed).random((2, *SIZE, 1)).astype(np.float32)
    return latents, mask, text


TIME = np.array([999, 37])


def their_output(model, seed=3):
    latents, mask, text = inputs(seed)
    if model.patch_embed.proj.weight.shape[1] > CONFIG.in_channels:
        latents = np.concatenate([latents, mask], -1)
    with torch.no_grad():
        out = model(
            torch.tensor(np.moveaxis(latents, -1, 2)),
            torch.tensor(text),
            torch.tensor(TIME),
            image_rotary_emb=torch_rotary(CONFIG, SIZE),
            return_dict=False,
        )[0]
    return np.moveaxis(out.numpy(), 2, -1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(config, rules, params, latents, text, extra):
    model = CogVideoX(config, lora=rules)
    return model.apply({"params": params}, latents, jnp.asarray(TIME), text, extra=extra)


def our_output(params, rules=(), config=EXTENDED, seed=3, mask=None):
    latents, drawn_mask, text = inputs(seed)
    extra = (drawn_mask if mask is None else mask) if config.extra_channels else None
    return _apply(config, tuple(rules), params, latents, text, extra)


def our_base(seed=0):
    return weights.port("cogvideox", random_weights.state_arrays(stock(seed)), CONFIG)


def release(folder, stated=False):
    """Trains nothing, but saves as the training script does; without alpha, if not `stated`."""
    model = extended(stock())
    settings = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS)
    model.add_adapter(settings)
    noisy(model)
    Pipeline.save_lora_weights(
        folder,
        transformer_lora_layers=peft.get_peft_model_state_dict(model),
        transformer_lora_adapter_metadata=settings.to_dict() if stated else None,
    )
    torch.save(model.patch_embed.proj.state_dict(), folder / COGVIDEOX_FILE)
    return model


def reloaded(folder, weight=1.0, conv=None):
    """A fresh base with both files, as the released inference puts them together."""
    model = extended(stock(), seed=7)
    state = torch.load(conv or folder / COGVIDEOX_FILE, weights_only=True)
    model.patch_embed.proj.load_state_dict(state, strict=True)
    state, metadata = Pipeline.lora_state_dict(folder, weight_name=FILE, return_lora_metadata=True)
    Pipeline.load_lora_into_transformer(
        state, model, adapter_name="spatial_lora", metadata=metadata
    )
    model.set_adapters(["spatial_lora"], weights=[weight])
    return model


def ours(folder, **options):
    """(params, rules) of both files upon the base."""
    adapters, rules = weights.load_lora(folder, "cogvideox", CONFIG, **options)
    return our_base() | weights.load_patch_embed(folder, EXTENDED) | {"lora": adapters}, rules


def error(got, want):
    return random_weights.relative_error(got, want)


# --- theirs, here


@pytest.mark.parity
def test_a_release_that_states_no_alpha_has_scale_one(tmp_path):
    """Although it was trained at a half: so the published results were made."""
    trained = their_output(release(tmp_path))
    keys = load_file(tmp_path / FILE)
    assert "transformer.transformer_blocks.0.attn1.to_out.0.lora_B.weight" in keys
    assert len(keys) == 2 * 4 * CONFIG.num_layers
    params, (rule,) = ours(tmp_path)
    assert (rule.path, rule.rank, rule.scale) == ("blocks/attn/(k|o|q|v)", RANK, 1.0)
    got = our_output(params, [rule])
    assert error(got, their_output(reloaded(tmp_path))) < TOLERANCE
    assert error(got, trained) > 0.01
    params, (rule,) = ours(tmp_path, scale=0.5)
    assert rule.scale == 0.5
    got = our_output(params, [rule])
    assert error(got, trained) < TOLERANCE
    assert error(got, their_output(reloaded(tmp_path, weight=0.5))) < TOLERANCE


@pytest.mark.parity
def test_a_stated_alpha_is_honoured_by_auto_and_overruled_by_a_number(tmp_path):
    trained = their_output(release(tmp_path, stated=True))
    params, (rule,) = ours(tmp_path)
    assert rule.scale == ALPHA / RANK == 0.5
    assert error(our_output(params, [rule]), trained) < TOLERANCE
    assert error(their_output(reloaded(tmp_path)), trained) < TOLERANCE
    params, (rule,) = ours(tmp_path, scale=1.0)
    assert rule.scale == 1.0
    assert error(our_output(params, [rule]), their_output(reloaded(tmp_path, 2.0))) < TOLERANCE


def test_an_alpha_beside_the_factors_counts(tmp_path):
    release(tmp_path)
    tensors = load_file(tmp_path / FILE)
    at = [key.removesuffix(".lora_A.weight") for key in tensors if "lora_A" in key]
    beside = {f"{module}.alpha": np.array(1.0, np.float32) for module in at}
    save_file(tensors | beside, tmp_path / FILE)
    assert ours(tmp_path)[1][0].scale == 1 / RANK
    assert ours(tmp_path, scale=1)[1][0].scale == 1


def test_what_a_release_must_not_hold(tmp_path):
    release(tmp_path)
    tensors = load_file(tmp_path / FILE)
    at = "transformer.transformer_blocks"
    for key, value, words in (
        ("transformer.patch_embed.proj.weight", np.zeros(2), "no LoRA's .*patch_embed.proj.weight"),
        (f"{at}.0.attn1.to_x.lora_A.weight", np.zeros((RANK, 48)), "does not have .*attn1.to_x"),
        (f"{at}.9.attn1.to_q.lora_A.weight", np.zeros((RANK, 48)), "do not exist .*9.attn1.to_q"),
    ):
        save_file(tensors | {key: value.astype(np.float32)}, tmp_path / FILE)
        with pytest.raises(weights.WeightsError, match=f"(?s){words}"):
            ours(tmp_path)


@pytest.mark.parity
def test_further_targets_are_taken_from_the_file(tmp_path):
    """Whatever linear layers were adapted, at whatever rank."""
    model = extended(stock())
    more = [*TARGETS, "ff.net.0.proj", "ff.net.2", "norm1.linear", "proj_out", "text_proj"]
    model.add_adapter(peft.LoraConfig(r=3, lora_alpha=3, target_modules=more))
    noisy(model)
    Pipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=peft.get_peft_model_state_dict(model)
    )
    torch.save(model.patch_embed.proj.state_dict(), tmp_path / COGVIDEOX_FILE)
    params, rules = ours(tmp_path)
    assert rules[0].rank == 3 and len(params["lora"]["default"]["blocks"]) == 3
    assert error(our_output(params, rules), their_output(model)) < TOLERANCE


# --- ours, there


@pytest.mark.parity
@pytest.mark.parametrize("bake", [True, False])
def test_our_files_compute_the_same_in_diffusers(tmp_path, bake):
    rules = (LoraRule("blocks/attn/(q|k|v|o)", rank=RANK, alpha=ALPHA),)
    params = our_base() | {"lora": drawn(CONFIG, rules)}
    rng = np.random.default_rng(5)
    kernel = rng.normal(size=(4, CONFIG.dim)).astype(np.float32)
    params["patch_embed_extra"] = {"kernel": jnp.asarray(kernel)}
    weights.save_lora(params["lora"], rules, tmp_path, "cogvideox", EXTENDED, bake_scale=bake)
    conv = weights.save_patch_embed(params, tmp_path, EXTENDED)
    assert {file.name for file in tmp_path.iterdir()} == {FILE, COGVIDEOX_FILE}
    if bake:  # a reader of no metadata, as diffusers 0.32 is
        path = tmp_path / "old" / FILE
        path.parent.mkdir()
        save_file(load_file(tmp_path / FILE), path)
        assert error(our_output(params, rules), their_output(reloaded(path.parent, 1, conv))) < (
            TOLERANCE
        )
    assert error(our_output(params, rules), their_output(reloaded(tmp_path))) < TOLERANCE
    again, loaded = ours(tmp_path)
    assert loaded == rules
    assert_same(params["lora"], again["lora"])
    for name in ("patch_embed", "patch_embed_extra"):
        assert_same(params[name], again[name])


# --- at the start of training


@pytest.mark.parity
def test_untrained_additions_change_nothing(tmp_path):
    """Zero mask channel, zero lora_B: the image-to-video model, whatever the mask."""
    rules = (LoraRule("blocks/attn/(q|k|v|o)", rank=RANK, alpha=ALPHA),)
    adapters = drawn(CONFIG, rules)
    untrained = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 0 * leaf if path[-1].key == "b" else leaf, adapters
    )
    base = our_base()
    zero = {"kernel": jnp.zeros((4, CONFIG.dim))}
    params = base | {"patch_embed_extra": zero, "lora": untrained}
    plain = our_output(base, config=CONFIG)
    mask = inputs()[1]
    for given in (mask, 0 * mask, 100 * mask):
        assert error(our_output(params, rules, mask=given), plain) < 1e-6
    assert error(plain, their_output(stock())) < TOLERANCE
    kernel = np.random.default_rng(6).normal(size=(4, CONFIG.dim)).astype(np.float32)
    trained = params | {"patch_embed_extra": {"kernel": jnp.asarray(kernel)}}
    assert error(our_output(trained, rules), plain) > 0.1
    # As files, too: diffusers' extended model is then its stock one.
    weights.save_lora(untrained, rules, tmp_path, "cogvideox", EXTENDED)
    weights.save_patch_embed(params, tmp_path, EXTENDED)
    assert error(their_output(reloaded(tmp_path)), their_output(stock())) < TOLERANCE
