"""What can be plugged into CogVideoX, compared with one dense computation (dense.py)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tavid_jax.models.cogvideox.transformer import CogVideoX, initialisers
from tavid_jax.models.layers.lora import LoraRule, merge
from tavid_jax.models.layers.ports import AttentionBias, Ports, Probe, Residuals
from tavid_jax.parallel.sharding import paths
from tests.models import random_weights
from tests.models.cogvideox import tiny

torch = pytest.importorskip("torch")
dense = pytest.importorskip("tests.models.cogvideox.dense")

CONFIG = tiny.config_of(num_layers=3, in_channels=9, learned_positions=True)
SIZE = (3, 4, 6)
GRID, TOKENS, TEXT = (3, 2, 3), 18, CONFIG.text_length
VALUE, GRADIENT = 1e-5, 1e-4
RULES = (
    LoraRule("blocks/attn/(q|k|v|o)", 2, alpha=3, layers=(0, -1), stream="condition", name="steer"),
    LoraRule("blocks/(mod1|attn/q|mlp/fc1)", 3, layers=slice(1, None), name="everyone"),
    LoraRule("blocks/mlp/fc2", 2, alpha=1, stream="text", name="words"),
)
ROWS = (6, 13)
# Small: the dense model's sines of large angles are more exact than float32 can be.
T, T_CONDITION = jnp.array([38, 3]), jnp.array([0, 21])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


LATENTS, WORDS, TARGET = (jnp.array(x) for x in tiny.inputs(CONFIG, SIZE, seed=3))
CONDITION = jnp.array(normal(2, TOKENS, CONFIG.dim, seed=4))
COLUMNS = jnp.array(np.abs(normal(2, TEXT, seed=5)))


def double(x):
    return torch.tensor(np.asarray(x), dtype=torch.float64)


@functools.cache
def model_and_params(**options):
    model = CogVideoX(CONFIG, **options)
    return model, tiny.params_of(model, seed=6)


def by_dense(params, rules=(), **ports):
    """The dense model on `params` (float64 leaves), the rules' terms added to its kernels."""

    def delta(layer, path, stream):
        total = None
        for rule in rules:
            node = params["lora"][rule.name]
            for name in path.split("/"):
                node = node.get(name, {})
            chosen = rule.selected(CONFIG.num_layers)
            if "a" in node and layer in chosen and rule.stream in ("all", stream):
                index = chosen.index(layer)
                product = rule.scale * node["a"][index] @ node["b"][index]
                total = product if total is None else total + product
        return total

    return dense.Dense(CONFIG, params, delta=delta, **ports)


def same(got, want, tolerance=VALUE):
    want = want.detach().numpy() if torch.is_tensor(want) else want
    error = random_weights.relative_error(got, want)
    assert error <= tolerance, f"{error:.1e}"


def same_gradients(got, want):
    """`got`: a tree; `want`: leaves of the dense model."""
    flat = {path: np.asarray(leaf) for path, leaf in paths(got)}
    want = dense.gradients(want)
    errors = random_weights.gradient_errors(flat, want)
    assert flat.keys() == errors.keys()
    assert max(errors.values()) <= GRADIENT, random_weights.worst(errors)


def products(k):
    """Keys (..., S, d) by their products: the order of the channels in a head is ours to choose."""
    return k @ k.swapaxes(-1, -2)


def same_cache(got, keys, values, tolerance=VALUE):
    """A cache (L, B, S, K, d) against keys and values (L, B, K, S, d)."""
    same(products(got.k.swapaxes(2, 3)), products(keys), 2 * tolerance)
    same(got.v.swapaxes(2, 3), values, tolerance)


def text_map(rows, columns):
    """Probabilities of video rows towards text -> (B, R): heads' mean, weighted sum over text."""
    return torch.einsum("brl,bl->br", rows.mean(1)[:, slice(*ROWS)], columns)


@pytest.mark.parametrize("scan", [True, False])
def test_everything_together(scan):
    """Streams with timesteps of their own, low-rank rules, probe, bias and residuals.

    The gradient of all of them under scan and remat; unrolled, the values.
    """
    model, params = model_and_params(lora=RULES, scan=scan, remat="full" if scan else "none")
    probe_layers, bias_layers = np.float32([0.5, 0, 2]), np.float32([1, 0.5, 0])
    inputs = {
        "params": params,
        "latents": LATENTS,
        "text": WORDS,
        "condition": CONDITION,
        "bias": normal(2, 1, 1, TEXT, seed=7),
        "residuals": normal(2, 2, TOKENS, CONFIG.dim, seed=8),
        "columns": COLUMNS,
    }

    def loss(x):
        def score(m):
            return {"power": jnp.sum(m**2), "map": m}

        ports = Ports(
            probe=Probe(jnp.array(probe_layers), x["columns"], score, ROWS),
            attention_bias=AttentionBias(x["bias"], jnp.array(bias_layers)),
            residuals=Residuals(x["residuals"], layers=(0, 2)),
        )
        out = model.apply(
            {"params": x["params"]},
            x["latents"],
            T,
            x["text"],
            condition=x["condition"],
            condition_timestep=T_CONDITION,
            ports=ports,
            method="predict",
        )
        return jnp.mean((out.sample - TARGET) ** 2) + out.probe["power"], out

    if scan:
        (_, out), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(inputs)
    else:
        _, out = jax.jit(loss)(inputs)
    x = dense.tensors(inputs)
    plain = by_dense(
        x["params"],
        RULES,
        bias=lambda layer: ("video", "text", float(bias_layers[layer]) * x["bias"]),
        residuals={0: x["residuals"][0], 2: x["residuals"][1]},
    )
    want, maps, _ = plain(x["latents"], T, x["text"], x["condition"], T_CONDITION)
    # The probe looks at the softmax without the bias.
    plainly = [unbiased(m, w, x["bias"]) for m, w in zip(maps, bias_layers, strict=True)]
    seen = [text_map(m, x["columns"]) for m in plainly]
    power = sum(float(w) * m.square().sum() for w, m in zip(probe_layers, seen, strict=True))
    same(out.sample, want)
    same(out.probe["map"], sum(float(w) * m for w, m in zip(probe_layers, seen, strict=True)))
    same(out.probe["power"], power)
    if scan:
        ((want - double(TARGET)).square().mean() + power).backward()
        same_gradients(gradient, x)


def unbiased(probabilities, weight, bias):
    """Rows of the video, of a softmax with a bias on their text columns, without that bias."""
    rows = probabilities[:, :, TEXT : TEXT + TOKENS]
    text = rows[..., :TEXT] * torch.exp(-float(weight) * bias)
    total = text.sum(-1, keepdim=True) + rows[..., TEXT:].sum(-1, keepdim=True)
    return text / total


def test_cache_equals_walking_together():
    """The condition of one clip walked alone, read by a batch of two: values and gradients."""
    model, params = model_and_params(lora=RULES)
    inputs = {"params": params, "latents": LATENTS, "text": WORDS, "condition": CONDITION[:1]}

    def walk(m, condition):
        times = {"condition": m.embed_time(jnp.zeros((1,)))}
        ports = Ports(kv_out=("condition",))
        return m.blocks({"condition": condition}, times, GRID, ports).caches

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def ours(x):
        variables = {"params": x["params"]}
        caches = model.apply(variables, x["condition"], method=walk)
        out = model.apply(
            variables, x["latents"], T, x["text"], ports=Ports(kv_in=caches),
            method="predict",
        )  # fmt: skip
        return jnp.mean((out.sample - TARGET) ** 2), (out, caches["condition"])

    (_, (out, cache)), gradient = ours(inputs)
    x = dense.tensors(inputs)
    both = x["condition"].repeat(2, 1, 1)
    want, _, caches = by_dense(x["params"], RULES)(x["latents"], T, x["text"], both)
    (want - double(TARGET)).square().mean().backward()
    same(out.sample, want)
    assert cache.k.shape == (3, 1, TOKENS, CONFIG.num_heads, CONFIG.head_dim)
    same_cache(cache, *(torch.stack([c["condition"][i][:1] for c in caches]) for i in (0, 1)))
    assert not out.caches
    same_gradients(gradient, x)


def test_caches_of_walking_together():
    """kv_out beside the other streams gives what walking alone gives; text and video too."""
    model, params = model_and_params(lora=RULES)
    names = ("condition", "text", "video")

    @jax.jit
    def ours(params):
        return model.apply(
            {"params": params}, LATENTS, T, WORDS, condition=CONDITION,
            ports=Ports(kv_out=names), method="predict",
        )  # fmt: skip

    out = ours(params)
    x = dense.tensors({"params": params, "condition": CONDITION})
    want, _, caches = by_dense(x["params"], RULES)(
        double(LATENTS), T, double(WORDS), x["condition"]
    )
    same(out.sample, want)
    for name in names:
        same_cache(out.caches[name], *(torch.stack([c[name][i] for c in caches]) for i in (0, 1)))


def test_steps_make_up_a_call():
    model, params = model_and_params()

    def steps(m, latents, text):
        time = m.embed_time(T)
        tokens = {"text": m.embed_text(text, GRID), "video": m.embed_video(latents)}
        walked = m.blocks(tokens, {"text": time, "video": time}, GRID)
        return m.head(walked.streams["video"], time, GRID)

    @jax.jit
    def run(params):
        variables = {"params": params}
        return (
            model.apply(variables, LATENTS, WORDS, method=steps),
            model.apply(variables, LATENTS, T, WORDS),
        )

    apart, whole = run(params)
    np.testing.assert_array_equal(apart, whole)


@pytest.fixture(scope="module")
def dense_maps():
    """Probabilities (B, K, S, S) of every layer, condition tokens among the keys."""
    _, params = model_and_params()
    x = dense.tensors({"params": params, "condition": CONDITION})
    _, maps, _ = by_dense(x["params"])(double(LATENTS), T, double(WORDS), x["condition"])
    return [m.detach() for m in maps]


def probed(direction, score=lambda m: m):
    """Compiled: weights of layers -> accumulated score."""
    model, params = model_and_params()

    @jax.jit
    def run(layers):
        probe = Probe(layers, COLUMNS, score, ROWS, direction)
        return model.apply(
            {"params": params}, LATENTS, T, WORDS, condition=CONDITION,
            ports=Ports(probe=probe), method="predict",
        ).probe  # fmt: skip

    return run


def test_probe_of_video_rows(dense_maps):
    run = probed("video_to_text")
    columns = double(COLUMNS)
    maps = [text_map(m[:, :, TEXT : TEXT + TOKENS, :TEXT], columns) for m in dense_maps]
    for chosen in ([1, 0, 0], [0, 0, 3], [0.5, 2, -1]):
        want = sum(weight * m for weight, m in zip(chosen, maps, strict=True))
        same(run(jnp.array(chosen, jnp.float32)), want)
    assert run._cache_size() == 1, "other layers compiled another program"


def test_probe_of_text_rows(dense_maps):
    got = probed("text_to_video")(jnp.array([0.0, 1.0, 0.0]))
    start, stop = ROWS
    block = dense_maps[1].mean(1)[:, :TEXT, TEXT + start : TEXT + stop]
    same(got, torch.einsum("blr,bl->br", block, double(COLUMNS)))


def test_layers_of_weight_zero_are_not_looked_at():
    """A score that is not finite would show even at weight zero."""
    run = probed("video_to_text", score=lambda m: m / (0 * m))
    assert not np.any(run(jnp.zeros(3)))
    assert not np.any(np.isfinite(run(jnp.array([0.0, 1.0, 0.0]))))


def test_bias_of_text_rows_on_video_columns():
    """The other direction, one value for each head, query and key."""
    model, params = model_and_params()
    bias = normal(2, CONFIG.num_heads, TEXT, TOKENS, seed=9)
    port = AttentionBias(jnp.array(bias), jnp.array([0.0, 1.0, 2.0]), query="text", key="video")
    run = jax.jit(functools.partial(model.apply, method="predict"))
    got = run({"params": params}, LATENTS, T, WORDS, ports=Ports(attention_bias=port))
    plain = by_dense(
        dense.tensors(params), bias=lambda layer: ("text", "video", layer * torch.tensor(bias))
    )
    want, _, _ = plain(double(LATENTS), T, double(WORDS))
    same(got.sample, want)


def test_extra_channels():
    """Zero at first: the published model. Trained: a wider patch projection, [latents, extra]."""
    config = tiny.config_of(in_channels=4, num_layers=1, extra_channels=3)
    wide = tiny.config_of(in_channels=7, num_layers=1)
    latents, text, _ = (jnp.array(x) for x in tiny.inputs(config, SIZE, seed=1))
    extra = jnp.array(normal(*latents.shape[:-1], 3, seed=2))
    with_extra, plain = CogVideoX(config), CogVideoX(tiny.config_of(num_layers=1))
    params = tiny.params_of(with_extra)
    zeros = jnp.zeros_like(params["patch_embed_extra"]["kernel"])
    initial = jax.eval_shape(with_extra.init, jax.random.key(0), latents, T, text,
                             extra=extra)["params"]  # fmt: skip
    assert initial["patch_embed_extra"]["kernel"].shape == (4 * 3, CONFIG.dim)
    run = jax.jit(lambda p, extra: with_extra.apply({"params": p}, latents, T, text, extra=extra))
    published = {k: v for k, v in params.items() if k != "patch_embed_extra"}
    run_plain = jax.jit(lambda p: plain.apply({"params": p}, latents, T, text))
    off = run({**params, "patch_embed_extra": {"kernel": zeros}}, extra)
    np.testing.assert_array_equal(off, run_plain(published))

    def rows(p, channels):
        return p["kernel"].reshape(4, channels, -1)

    kernel = np.concatenate([rows(params["patch_embed"], 4), rows(params["patch_embed_extra"], 3)],
                            axis=1)  # fmt: skip
    joined = {"kernel": kernel.reshape(28, -1), "bias": params["patch_embed"]["bias"]}
    both = jnp.concatenate([latents, extra], axis=-1)
    run_wide = jax.jit(lambda p: CogVideoX(wide).apply({"params": p}, both, T, text))
    same(run(params, extra), run_wide({**published, "patch_embed": joined}))
    rules = (LoraRule("patch_embed(_extra)?", 2),)
    adapted = CogVideoX(config, lora=rules)
    params = tiny.params_of(adapted)
    run_adapted = jax.jit(lambda p: adapted.apply({"params": p}, latents, T, text, extra=extra))
    same(run_adapted(params), run(merge(params, rules), extra))


def test_extra_channels_start_at_zero():
    config = tiny.config_of(num_layers=1, extra_channels=2)
    assert not np.any(initialisers(config)["patch_embed_extra"](jax.random.key(0))["kernel"])


def test_merged_rules_give_the_same():
    rules = (
        LoraRule("blocks/(attn/.|mlp/fc1)|patch_embed|time_embed/fc2", 3, alpha=5, name="a"),
        LoraRule("blocks/attn/q|out_proj|text_embed", 2, layers=(1,), name="b"),
    )
    model, params = model_and_params(lora=rules)
    plain, _ = model_and_params()
    run = jax.jit(lambda p: model.apply({"params": p}, LATENTS, T, WORDS))
    run_plain = jax.jit(lambda p: plain.apply({"params": p}, LATENTS, T, WORDS))
    merged = run_plain(merge(params, rules))
    same(merged, run(params))
    base = {name: node for name, node in params.items() if name != "lora"}
    assert random_weights.relative_error(run_plain(base), merged) > 1e-2


def test_unused_ports_leave_the_program_unchanged():
    model, params = model_and_params()

    def program(**options):
        def run(params, latents, text):
            return model.apply({"params": params}, latents, T, text, **options)

        return jax.jit(run).lower(params, LATENTS, WORDS).as_text()

    assert program() == program(ports=Ports())
    assert program() != program(ports=Ports(residuals=Residuals(jnp.ones((3, 2, 18, 48)))))


FLEXTRAJ = LoraRule("blocks/attn/(q|k|v|o)", 3, stream="condition", name="steer")


@pytest.mark.parity
def test_condition_stream_of_flextraj(goldens):
    """Condition stream, its adapters and its cache give the numbers of the original code."""
    from tavid_jax import weights

    golden = goldens("flextraj_cogvideox_tiny")
    config = tiny.config_of(
        num_layers=4, in_channels=8, time_embed_dim=6, text_dim=10, sample_hw=(4, 10),
        sample_frames=13, learned_positions=True,
    )  # fmt: skip
    base = {k[3:]: v for k, v in golden.items() if k.startswith("sd/")}
    params = weights.port("cogvideox", base, config)
    lora = {k[len("sd_lora/transformer.") :]: v for k, v in golden.items() if "sd_lora/" in k}
    names = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}

    def stacked(name, which):
        key = f"transformer_blocks.{{}}.attn1.{names[name]}.lora_{which}.weight"
        return np.stack([lora[key.format(i)].T for i in range(config.num_layers)])

    adapters = {n: {"a": stacked(n, "A"), "b": stacked(n, "B")} for n in names}
    params["lora"] = {"steer": {"blocks": {"attn": adapters}}}
    model = CogVideoX(config, lora=(FLEXTRAJ,))

    def given(name):
        return jnp.array(np.moveaxis(golden[f"in/{name}"], 2, -1))

    text = jnp.array(golden["in/encoder_hidden_states"])
    fuse, offset = lora["fuse_linear.weight"].T, lora["fuse_linear.bias"]

    @jax.jit
    def run(params, noisy, t, ports, condition):
        return model.apply(
            {"params": params}, noisy, t, text,
            condition=condition, ports=ports, method="predict",
        )  # fmt: skip

    @jax.jit
    def embed(params):
        def tokens(m):
            return m.embed_video(given("cond_id")) + m.embed_video(given("cond_color")) @ fuse

        return model.apply({"params": params}, method=tokens) + offset

    condition = embed(params)
    noisy = {
        t: (given(f"hidden_states_t{t}"), jnp.array(golden[f"in/timestep_t{t}"]))
        for t in (999, 318)
    }
    both = jnp.repeat(condition, 2, axis=0)
    write = run(params, *noisy[999], Ports(kv_out=("condition",)), both)
    cache = write.caches["condition"]

    def check(name, got, tolerance=2e-5):
        same(got, np.moveaxis(golden[f"out/{name}"], 2, -1), tolerance)

    check("v_uncached_t999", write.sample)
    check("v_write_t999", write.sample)
    check("v_uncached_t318", run(params, *noisy[318], Ports(), both).sample)
    once = cache.replace(k=cache.k[:, :1], v=cache.v[:, :1])
    same_cache(once, golden["out/cache_k"][:, None], golden["out/cache_v"][:, None], 2e-5)
    check("v_read_t318", run(params, *noisy[318], Ports(kv_in={"condition": once}), None).sample)
    check("v_no_condition_t318", run(params, *noisy[318], Ports(), None).sample)
