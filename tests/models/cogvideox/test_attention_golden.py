"""Attention maps, the loss on them and its gradients against diffusers and a dense softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax import weights
from tavid_jax.models.cogvideox.block import BlockContext, block
from tavid_jax.models.cogvideox.transformer import CogVideoX
from tavid_jax.models.layers.lora import LoraRule, attach
from tavid_jax.models.layers.ports import Ports, Probe
from tavid_jax.models.layers.probe import observe
from tavid_jax.models.layers.rotary import Rotary
from tavid_jax.models.layers.walk import Plugs
from tests.models.cogvideox import tiny
from tests.models.random_weights import relative_error

pytestmark = pytest.mark.parity
VALUE, GRADIENT = 1e-5, 1e-4
NAMES = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}


@pytest.fixture(scope="module")
def golden(goldens):
    return goldens("tavid_attention_tiny")


def part(golden, prefix):
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def probe(golden, scope, word, tokens, layers, direction="video_to_text"):
    """Looks from the first frame at one word; scores the distance from the mask."""
    text = {"block": 6, "model": 7}[scope]
    mask = jnp.asarray(golden[f"in/{scope}/mask"])
    columns = jnp.zeros((mask.shape[0], text)).at[:, word].set(1.0)

    def score(a):
        return {"loss": jnp.mean((a - mask) ** 2), "map": a}

    return Probe(layers=layers, columns=columns, score=score, rows=(0, tokens), direction=direction)


# --- one block


def block_params(state):
    """One block's parameters from their names in diffusers."""

    def linear(name):
        return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}

    def norm(name):
        return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}

    return {
        "mod1": linear("norm1.linear"),
        "norm1": norm("norm1.norm"),
        "attn": {
            **{ours: linear(f"attn1.{theirs}") for ours, theirs in NAMES.items()},
            "q_norm": norm("attn1.norm_q"),
            "k_norm": norm("attn1.norm_k"),
        },
        "mod2": linear("norm2.linear"),
        "norm2": norm("norm2.norm"),
        "mlp": {"fc1": linear("ff.net.0.proj"), "fc2": linear("ff.net.2")},
    }


def test_one_block(golden):
    params = block_params(jax.tree.map(jnp.asarray, part(golden, "sd/block/")))
    lora = part(golden, "sd_lora/block/attn1.")
    rules = (LoraRule("attn/(q|k)", rank=5, alpha=2),)
    adapters = {
        n: {"a": lora[f"to_{n}.lora_A.weight"].T, "b": lora[f"to_{n}.lora_B.weight"].T}
        for n in "qk"
    }
    given = {k: jnp.asarray(v) for k, v in part(golden, "in/block/").items()}
    tokens = {"text": given["encoder_hidden_states"], "video": given["hidden_states"]}
    context = BlockContext(
        times={"text": given["temb"], "video": given["temb"]},
        # Stored for both numbers of a pair.
        rotary={"video": Rotary(given["rope_cos"][:, ::2], given["rope_sin"][:, ::2])},
        lengths={name: x.shape[1] for name, x in tokens.items()},
        heads=4,
        dtype=jnp.float32,
        implementation="xla",
    )

    @jax.jit
    def run(adapters):
        adapted = attach(params, {"default": {"attn": adapters}}, rules)

        def both(seen):
            ways = ("video_to_text", "text_to_video")
            probes = [probe(golden, "block", 3, 12, jnp.ones(1), way) for way in ways]
            # Words 1, 3 and 5 at once, in both directions; and among the text's keys alone.
            words = jnp.tile(jnp.eye(6)[jnp.array([1, 3, 5])], (2, 1, 1))
            whole = dict(columns=words, score=lambda a: {"map": a, "loss": 0.0})
            probes += [probes[0].replace(direction="both", **whole)]
            probes += [probes[0].replace(among="own", **whole)]
            return seen, [observe(one, seen) for one in probes]

        plugs = Plugs(parts={}, bias=None, probe=both, cross=None)
        out, _, seen = block(adapted, tokens, plugs, context=context)
        return seen[0]["loss"], ([one["map"] for one in seen], out)

    (loss, ((asked, answered, words, own), out)), grads = jax.value_and_grad(run, has_aux=True)(
        adapters
    )
    want = part(golden, "out/block/")
    assert relative_error(asked, want["A"]) < VALUE
    assert relative_error(answered, want["A_t2v"]) < VALUE
    assert words.shape == (2, 6, 12)
    assert relative_error(words[:, 1], want["A"]) < VALUE
    assert relative_error(words[:, 4], want["A_t2v"]) < VALUE
    assert relative_error(own[:, 1], want["A_text_normalised_per_head"]) < VALUE
    assert relative_error(own[:, 1], want["A"]) > 0.1
    assert relative_error(loss, want["loss"]) < VALUE
    assert relative_error(out["video"], want["hidden_out"]) < VALUE
    assert relative_error(out["text"], want["encoder_out"]) < VALUE
    for n in "qk":
        for which in "ab":
            stored = want[f"grad/attn1.to_{n}.lora_{which.upper()}.weight"].T
            assert relative_error(grads[n][which], stored) < GRADIENT


# --- the whole transformer


CONFIG = tiny.config_of(
    num_heads=2, num_layers=4, in_channels=7, out_channels=3, time_embed_dim=8, text_dim=12,
    text_length=7, sample_hw=(10, 6), sample_frames=9, learned_positions=True,
)  # fmt: skip
MODEL = CogVideoX(CONFIG, lora=(LoraRule("blocks/attn/.", rank=2, alpha=3),), remat="full")


def adapters_of(tensors):
    """{projection: {a, b}} stacked over depth, from the names in diffusers; zero if not stored."""

    def one(name, which, layer):
        key = f"transformer_blocks.{{}}.attn1.{NAMES[name]}.lora_{which}.weight"
        return tensors.get(key.format(layer), np.zeros_like(tensors[key.format(0)])).T

    def stacked(name, which):
        return np.stack([one(name, which, layer) for layer in range(CONFIG.num_layers)])

    return {n: {"a": stacked(n, "A"), "b": stacked(n, "B")} for n in NAMES}


@pytest.fixture(scope="module")
def run(golden):
    """(weights of the two losses, of the layers) -> ((loss, results), gradients)."""
    params = weights.port("cogvideox", part(golden, "sd/model/"), CONFIG)
    given = part(golden, "in/model/")
    latents, target = (
        jnp.asarray(np.moveaxis(given[n], 2, -1)) for n in ("hidden_states", "v_target")
    )
    text, t = jnp.asarray(given["encoder_hidden_states"]), jnp.asarray(given["timestep"], "int32")
    trained = {
        "lora": {"default": {"blocks": {"attn": adapters_of(part(golden, "sd_lora/model/"))}}},
        "patch_embed": params["patch_embed"],
    }

    @jax.jit
    def loss_and_gradient(share, of_attention, layers):
        def loss(trained):
            ports = Ports(probe=probe(golden, "model", 2, 15, layers))
            found = MODEL.apply(
                {"params": {**params, **trained}}, latents, t, text, ports=ports, method="predict"
            )
            plain = jnp.mean((found.sample - target) ** 2)
            return share * plain + of_attention * found.probe["loss"], (found, plain)

        return jax.value_and_grad(loss, has_aux=True)(trained)

    return loss_and_gradient


LAYERS = jnp.array([0.0, 0.5, 0.5, 0.0])


def same_gradients(got, want):
    adapters = got["lora"]["default"]["blocks"]["attn"]
    stored = adapters_of(want)
    for name in NAMES:
        for which in "ab":
            for ours, theirs in zip(adapters[name][which], stored[name][which], strict=True):
                if np.all(theirs == 0):
                    np.testing.assert_array_equal(ours, 0.0)
                else:
                    assert relative_error(ours, theirs) < GRADIENT, name
    # (D, C, rows, columns) -> rows of our kernel: (rows, columns, C).
    kernel = want["patch_embed.proj.weight"].transpose(2, 3, 1, 0).reshape(-1, CONFIG.dim)
    assert relative_error(got["patch_embed"]["kernel"], kernel) < GRADIENT
    assert relative_error(got["patch_embed"]["bias"], want["patch_embed.proj.bias"]) < GRADIENT


def test_maps_of_blocks(golden, run):
    for layer in (1, 2):
        (_, (found, _)), _ = run(1.0, 0.1, jnp.eye(CONFIG.num_layers)[layer])
        assert relative_error(found.probe["map"], golden[f"out/model/A_block{layer}"]) < VALUE


def test_maps_of_all_blocks_at_once(golden):
    """Every block's map by itself, of several words, without adapters' gradients."""
    params = weights.port("cogvideox", part(golden, "sd/model/"), CONFIG)
    given = part(golden, "in/model/")
    adapters = {"default": {"blocks": {"attn": adapters_of(part(golden, "sd_lora/model/"))}}}
    words = jnp.tile(jnp.eye(7)[jnp.array([0, 2, 4, 2])], (2, 1, 1))
    one = probe(golden, "model", 2, 15, jnp.ones(CONFIG.num_layers)).replace(
        columns=words, score=lambda a: a, each=True
    )
    maps = MODEL.apply(
        {"params": {**params, "lora": adapters}},
        jnp.asarray(np.moveaxis(given["hidden_states"], 2, -1)),
        jnp.asarray(given["timestep"], "int32"),
        jnp.asarray(given["encoder_hidden_states"]),
        ports=Ports(probe=one),
        method="predict",
    ).probe
    assert maps.shape == (CONFIG.num_layers, 2, 4, 15)
    np.testing.assert_array_equal(maps[:, :, 1], maps[:, :, 3])
    for layer in (1, 2):
        assert relative_error(maps[layer, :, 1], golden[f"out/model/A_block{layer}"]) < VALUE


def test_total_loss(golden, run):
    (total, (found, plain)), grads = run(1.0, 0.1, LAYERS)
    want = part(golden, "out/model/")
    assert relative_error(found.sample, np.moveaxis(want["v"], 2, -1)) < VALUE
    assert relative_error(plain, want["loss_rec"]) < VALUE
    assert relative_error(found.probe["loss"], want["loss_attn"]) < VALUE
    assert relative_error(total, want["loss_total"]) < VALUE
    same_gradients(grads, part(golden, "out/model/grad_total/"))


def test_loss_on_the_map_alone(golden, run):
    _, grads = run(0.0, 1.0, LAYERS)
    same_gradients(grads, part(golden, "out/model/grad_attn/"))
